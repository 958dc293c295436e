"""Facts about a model that its page needs and its export does not contain."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from apps.chatbot import infer, search, store
from apps.chatbot import settings as stored
from apps.chatbot.responder import Responder
from keras_attention.export import Settings


class Talk(NamedTuple):
    """How to chat with a model."""

    couplet: bool
    context_turns: int  # read before a line
    settings: Settings  # initial values
    draft: Callable[[Sequence[str]], Iterator[str]] | None = None  # turns -> a reply in pieces


def talk_of(model_dir: str | None, of_flags: dict, explicit_flags: dict) -> Talk:
    """The facts from the settings of a model directory; without one, from the flags.

    With a chat's model directory, a greedy draft is shown before the replies of the export; not if
    it draws samples, because they would differ from those of the export.

    Raises ValueError and OSError for a directory that cannot be read, or whose settings differ
    from the `explicit_flags`, and ValueError for search options that are fixed in the export.
    """
    settled = [
        f"--{name}={explicit_flags[name]}"
        for name in explicit_flags
        if name in stored.SEARCH and name not in search.VARIED
    ]
    if settled:
        raise ValueError(
            "Search options of the page are those of its export, except the settings it shows. "
            f"Received: {', '.join(settled)}. Leave it out, or pass it to --mode=export."
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
