import sys

import pytest

from keras_attention.visualize import AttentionMaps, document_figure, fonts, head_maps, heat_map

pytest.importorskip("matplotlib", reason="fonts are those of the extra [visualize]")
NOBODY_HAS = "\U0010fffd"  # for private use


def test_what_the_usual_font_has_needs_no_other():
    assert fonts.font_families(["plain", "Grüße", "\u2423", "a\u200bb\n"]) == ["sans-serif"]


def test_a_glyph_that_no_font_has_is_warned_of_with_what_to_install():
    with pytest.warns(UserWarning, match="(?s)U0010fffd.*apt-get install fonts-noto-cjk.*mplfonts"):
        assert fonts.font_families(["a", NOBODY_HAS]) == ["sans-serif"]


def test_the_font_of_last_resort_is_no_font():
    """It has a box for every character, and would hide that nothing can be read."""
    from matplotlib.font_manager import fontManager

    resorts = [font for font in fontManager.ttflist if "last resort" in font.name.lower()]
    best = fonts._best_font({NOBODY_HAS})
    assert best is None or best not in resorts


def test_a_chinese_token_gets_a_font_that_has_it(chinese_font):
    from matplotlib.font_manager import FontProperties, findfont

    assert "春" in fonts._glyphs(str(findfont(FontProperties(family=[chinese_font]))))


def test_a_font_installed_after_matplotlib_looked_is_found(monkeypatch, chinese_font):
    from matplotlib.font_manager import fontManager

    without = [font for font in fontManager.ttflist if "春" not in fonts._glyphs(str(font.fname))]
    monkeypatch.setattr(fontManager, "ttflist", without)
    assert fonts.font_families(["春"])[1:]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: heat_map([[1.0]]),
        lambda: head_maps([[[1.0]]]),
        lambda: document_figure([["a"]], [[1.0]], [1.0]),
        lambda: AttentionMaps("nowhere", lambda model: {}),
    ],
)
def test_without_matplotlib_it_is_reported_how_to_get_it(monkeypatch, draw):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'keras-attention-seq2seq\[visualize\]'"):
        draw()
