"""The contents of the page: replies, conversation, heat maps and errors."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_attention.export import Settings
from keras_attention.export.server import Servable, Signature
from keras_attention.export.server.predict_json import decode
from keras_attention.visualize import heat_map_table

SIGNATURE = "generate_with_settings"


def question(
    servable: Servable, turns: Sequence[str], settings: Settings
) -> tuple[Signature, dict[str, np.ndarray]]:
    """The request for replies to the last turn: a signature, and its inputs.

    Raises ValueError, with a message for the user, for a blank line, an invalid setting, and an
    export without settings.
    """
    if not turns[-1].strip():
        raise ValueError("Expected a line. Received: a blank one.")
    if SIGNATURE not in servable.signatures:
        raise ValueError(
            f"Expected an export with the signature {SIGNATURE!r}. Received: one with "
            f"{sorted(servable.signatures)}. Export the model again."
        )
    for name, value in settings._asdict().items():
        if value is None:
            raise ValueError(f"Expected a number as {name}. Received: nothing.")
    signature = servable.signatures[SIGNATURE]
    asked = {"text": ["\t".join(turns)], **settings._asdict()}
    return signature, decode({"inputs": asked}, signature.inputs)[0]


def n_best(outputs: Mapping[str, np.ndarray], line: str, couplet: bool = False) -> dict[str, Any]:
    """The answer to a question about `line`, as JSON.

    -> `source`, its S tokens, and for each of `replies` `reply`, `score`, its T `tokens`, and
    `looked` [T, S], which is None for a model without attention. The best reply is first; samples
    are in the order drawn.

    Raises ValueError, with a message for the user, for a line without an answer.
    """
    answer = {name: value[0] for name, value in outputs.items()}
    replies = [_reply(answer, place, n) for place, n in enumerate(answer["lengths"]) if n]
    if not replies:
        or_long = ", or it has more characters than this model's couplets" if couplet else ""
        raise ValueError(f"No reply to {line!r}: no token of it is known to the model{or_long}.")
    return {"source": _texts(answer["source_tokens"]), "replies": replies}


def _reply(answer, place, length) -> dict[str, Any]:
    looked = answer.get("alignments")
    return {
        "reply": answer["replies"][place].decode("utf-8", "replace"),
        "score": float(answer["scores"][place]),
        "tokens": _texts(answer["tokens"][place, :length]),
        "looked": None if looked is None else looked[place, :length].round(4).tolist(),
    }


def _texts(tokens) -> list[str]:
    return [token.decode("utf-8", "replace") for token in tokens]


def choices(answer: dict[str, Any]) -> list[tuple[str, int]]:
    """Each reply with its score, and its place.

    >>> choices({"replies": [{"reply": "Hi!", "score": -0.5}, {"reply": "", "score": -1.25}]})
    [('Hi!  (-0.500)', 0), ('∅  (-1.250)', 1)]
    """
    return [
        (f"{encodable(reply['reply']) or '∅'}  ({reply['score']:.3f})", place)
        for place, reply in enumerate(answer["replies"])
    ]


def looked_at(answer: dict[str, Any], place: int) -> str:
    """The attention of each token of a reply (row) to those of the line (column), as HTML."""
    reply = answer["replies"][place]
    if reply["looked"] is None:
        return "<p>This model has no attention.</p>"
    table = heat_map_table(reply["looked"], answer["source"], reply["tokens"])
    return f'<div class="map">{table}</div>'


def encodable(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot encode, by U+FFFD.

    >>> encodable("a\\ud800b"), encodable("\\ud83d\\ude00")
    ('a\ufffdb', '\U0001f600')
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def escaped(text: str) -> str:
    """As HTML."""
    return html.escape(encodable(text))


def conversation(turns: Sequence[str]) -> str:
    """The conversation, lines and replies in turn, as HTML.

    >>> conversation(["春风", "<秋>"])
    '<p class="line">春风</p><p class="reply">&lt;秋&gt;</p>'
    """
    return "".join(
        f'<p class="{"reply" if place % 2 else "line"}">{escaped(text)}</p>'
        for place, text in enumerate(turns)
    )


def problem(error: Exception) -> str:
    """An error as HTML.

    >>> problem(ValueError("Expected k < 3. Received: 5"))
    '<p role="alert">Expected k &lt; 3. Received: 5</p>'
    """
    return f'<p role="alert">{escaped(str(error))}</p>'
