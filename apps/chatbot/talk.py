"""What the page must know of a model, and its export does not say."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from apps.chatbot import infer, search, store
from apps.chatbot import settings as stored
from apps.chatbot.responder import Responder
from keras_attention.export import Settings


class Talk(NamedTuple):
    """How a model is talked to."""

    couplet: bool
    context_turns: int  # read before a line
    settings: Settings  # what the processors begin with
    draft: Callable[[Sequence[str]], Iterator[str]] | None = None  # turns -> a reply in pieces


def talk_of(model_dir: str | None, of_flags: dict, explicit_flags: dict) -> Talk:
    """As the settings of a model directory say; without one, as the flags do.

    A chat's model directory drafts the replies, the likeliest token at a time, before the search of
    the export is asked; not if it is told to draw, for the draws would not be those of the export.

    Raises ValueError and OSError for a directory that cannot be read, or whose settings are others
    than those `said` on the command line, and ValueError for a search that the export settled.
    """
    settled = [
        f"--{name}={explicit_flags[name]}"
        for name in explicit_flags
        if name in stored.SEARCH and name not in search.VARIED
    ]
    if settled:
        raise ValueError(
            "A page searches as its export does, but for the settings that it shows. Received: "
            f"{', '.join(settled)}. Leave it out, or give it to --mode=export."
        )
    settings = stored.load(model_dir, explicit_flags) if model_dir else of_flags
    varied = {name: settings[name] for name in search.VARIED}
    return Talk(
        settings["task"] == "couplet",
        settings["context_turns"],
        Settings(**varied, max_length=settings["max_length"] + 1),  # the end token counts
        _draft(model_dir, settings) if model_dir else None,
    )


def _draft(model_dir, settings) -> Callable | None:
    if settings["sampling"] != "off" or settings["task"] == "couplet":
        return None
    settings = {**settings, "beam_width": 1, "n_best": None}
    responder = Responder(*store.load_model(model_dir, settings), settings)

    def draft(turns):
        *before, line = turns
        source, _ = infer.read(responder, settings, line.encode(), before)
        if source:
            yield from responder.stream(source)

    return draft
