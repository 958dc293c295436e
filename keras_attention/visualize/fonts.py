"""Find fonts for all characters of the tokens, also Chinese, Japanese and Korean ones."""

import functools
import unicodedata
import warnings
from collections.abc import Iterable


def import_matplotlib():
    """The module `matplotlib`; ImportError with the command that installs it."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            "Pictures are drawn with matplotlib, which is not installed: "
            "pip install 'keras-attention-seq2seq[visualize]'"
        ) from error
    return matplotlib


def font_families(texts: Iterable[str]) -> list[str]:
    """Names of installed font families, the configured first, with the characters of `texts`.

    Warns, with the packages to install, about characters that no installed font has.

    >>> font_families(["plain"])
    ['sans-serif']
    """
    matplotlib = import_matplotlib()
    from matplotlib.font_manager import FontProperties, findfont

    families = list(matplotlib.rcParams["font.family"])
    missing = {character for text in texts for character in text if _is_drawn(character)}
    for family in families:
        missing -= _glyphs(str(findfont(FontProperties(family=[family]))))
    if missing:
        _add_new_fonts()
    while missing:
        font = _best_font(missing)
        if font is None:
            _warn(missing)
            break
        families.append(font.name)
        missing -= _glyphs(str(font.fname))
    return families


def _is_drawn(character):
    """Spaces, control and format characters need no glyph."""
    steers = unicodedata.category(character) in ("Cc", "Cf", "Zs", "Zl", "Zp")
    return not steers and not "\ufe00" <= character <= "\ufe0f"


@functools.cache
def _glyphs(path):
    """The characters of a font; none if matplotlib cannot draw it (colour bitmaps)."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
    except (RuntimeError, OSError, ValueError):
        return frozenset()


def _add_new_fonts():
    """Matplotlib caches the fonts of its first run; add those that were installed since."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {str(font.fname) for font in fontManager.ttflist}
    for path in findSystemFonts():
        if path not in known:
            try:
                fontManager.addfont(path)
            except (RuntimeError, OSError, ValueError):
                continue  # a damaged file


def _best_font(missing):
    """The upright font with most of the missing characters, regular if possible; or None."""
    from matplotlib.font_manager import fontManager

    def rank(font):
        weight = font.weight if isinstance(font.weight, int) else 400
        covered = len(missing & _glyphs(str(font.fname)))
        return covered, "sans" in font.name.lower(), -abs(weight - 400)

    # Matplotlib's "last resort" font has every character, as a box with a sample inside.
    upright = (
        font
        for font in fontManager.ttflist
        if font.style == "normal"
        and not font.name.lower().replace(" ", "").startswith("lastresort")
    )
    best = max(upright, key=rank, default=None)
    return best if best is not None and rank(best)[0] else None


def _warn(missing):
    shown = "".join(sorted(missing)[:10])
    warnings.warn(
        f"No installed font has glyphs for {shown!r}{' and others' if len(missing) > 10 else ''}, "
        "which are drawn as boxes. On Debian and Ubuntu: apt-get install fonts-noto-cjk (Chinese, "
        "Japanese, Korean), fonts-noto-core (other scripts), fonts-symbola (symbols and emoji). "
        "With pip, for Chinese, Japanese and Korean: pip install mplfonts && mplfonts init",
        stacklevel=4,
    )
