"""Tokens as text that can be drawn, and written into HTML, SVG and names of summaries."""

import unicodedata
from typing import Any

_VISIBLE = {" ": "\u2423", "\n": "\u21b5", "\t": "\u21e5", "": "\u2205"}


def label(token: Any) -> str:
    """A token as a label: white space and "" as visible symbols, the rest as `printable`.

    >>> label(b"ab"), label(" "), label(3)
    ('ab', '\u2423', '3')
    """
    text = token.decode("utf-8", "replace") if isinstance(token, bytes) else str(token)
    return _VISIBLE.get(text, printable(text))


def printable(text: str) -> str:
    """Escape control characters, lone surrogates and noncharacters, which XML does not allow.

    >>> printable("a\\x07b")
    'a\\\\x07b'
    """
    return "".join(
        character.encode("unicode_escape").decode() if _is_unprintable(character) else character
        for character in text
    )


def _is_unprintable(character):
    """Cc are control characters, Cs surrogates; the last two code points of a plane are invalid."""
    if character in "\n\t":
        return False
    return unicodedata.category(character) in ("Cc", "Cs") or ord(character) & 0xFFFE == 0xFFFE
