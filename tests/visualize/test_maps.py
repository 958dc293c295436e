"""The pictures show the values: what is behind a map, what its pixels are, what its page says."""

import re
import warnings
import xml.dom.minidom

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.visualize import head_maps, heat_map, heat_map_html, heat_map_table, save

pytest.importorskip("matplotlib", reason="pictures need the extra [visualize]")
COUPLET = list("春风得意马蹄疾"), list("秋水多情雁字长")


def _values(axes):
    return axes.images[0].get_array().data


def _labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def _pixels(path):
    return tf.io.decode_png(path.read_bytes(), channels=3).numpy() / 255


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_behind_a_map_are_the_weights_with_their_tokens(dtype):
    weights = tf.cast(np.random.dirichlet(np.ones(3), 2), dtype)
    figure = heat_map(weights, ["a", "b", "c"], [b"d", "\u6625"[:0]], "title")
    axes = figure.axes[0]
    np.testing.assert_array_equal(_values(axes), tf.cast(weights, tf.float64))
    assert _labels(axes.xaxis) == ["a", "b", "c"] and _labels(axes.yaxis) == ["d", "\u2205"]
    assert axes.get_title() == "title"


def test_without_tokens_there_are_their_numbers():
    axes = heat_map(np.eye(2, 3)).axes[0]
    assert _labels(axes.xaxis) == ["0", "1", "2"] and _labels(axes.yaxis) == ["0", "1"]


def test_the_png_shows_a_light_diagonal_on_dark_ground(tmp_path):
    figure = heat_map(np.eye(4), "abcd", "abcd")
    save(figure, tmp_path / "map.png")
    picture = _pixels(tmp_path / "map.png")
    place = figure.axes[0].transData
    for t, s in np.ndindex(4, 4):
        x, y = place.transform((s, t))
        color = picture[int(picture.shape[0] - y), int(x)]
        expected = figure.axes[0].images[0].cmap(1.0 if t == s else 0.0)[:3]
        np.testing.assert_allclose(color, expected, atol=0.01)


def test_a_couplet_is_drawn_without_a_missing_glyph(tmp_path, chinese_font):
    weights = np.random.dirichlet(np.ones(7), 7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(heat_map(weights, *COUPLET, title="对联"), tmp_path / "map.png")
        save(head_maps([weights, weights], *COUPLET), tmp_path / "heads.png")
    figure = heat_map(weights, *COUPLET)
    assert [_labels(axis) for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis)] == [*COUPLET]
    # Other characters, another picture: boxes would all look the same.
    save(heat_map(weights, COUPLET[1], COUPLET[1], "对联"), tmp_path / "other.png")
    one, other = _pixels(tmp_path / "map.png"), _pixels(tmp_path / "other.png")
    assert one.shape == other.shape and (one != other).any()


def test_a_dollar_is_a_token_and_no_formula(tmp_path):
    figure = heat_map([[1.0, 0.0]], ["$x^2$", "\\frac"], ["$"], "$\\undefined$")
    save(figure, tmp_path / "map.png")
    assert _pixels(tmp_path / "map.png").ndim == 3


def test_each_head_has_a_map_of_its_own():
    weights = np.random.random((5, 2, 3))
    maps = [axes for axes in head_maps(weights, "abc", "de", columns=2).axes if axes.images]
    assert [axes.get_title() for axes in maps] == [f"head {h}" for h in range(5)]
    for head, axes in zip(weights, maps):
        np.testing.assert_array_equal(_values(axes), head)
        assert _labels(axes.xaxis) == ["a", "b", "c"]
    assert len({axes.get_position().y0.round(3) for axes in maps}) == 3  # rows of two


def test_the_page_of_a_map_has_every_weight_and_escapes_every_token(tmp_path):
    weights = np.random.dirichlet(np.ones(3), 2)
    page = heat_map_html(weights, ["<script>", "&", '"'], ["春", "b"], "<i>")
    told = re.findall(r'title="([^"]*)"', page)
    np.testing.assert_allclose(np.array(told, float), weights.ravel(), rtol=1e-3)
    assert "<script>" not in page and "&lt;script&gt;" in page and "<i>" not in page
    save(page, tmp_path / "map.html")
    assert (tmp_path / "map.html").read_text("utf-8") == page and "春" in page


def test_colours_tell_a_negative_weight_from_zero():
    image = heat_map([[-1.0, 0.0, 1.0]]).axes[0].images[0]
    assert (image.norm.vmin, image.norm.vmax) == (-1, 1)
    assert heat_map([[0.2, 0.3]]).axes[0].images[0].norm.vmin == 0


def test_the_table_alone_is_the_one_on_the_page():
    given = [[0.9, 0.1]], ["<b>", "春"], ["a"]
    table = heat_map_table(*given)
    assert table.startswith("<table>") and table.endswith("</table>")
    assert table in heat_map_html(*given)


@pytest.mark.parametrize("draw", [heat_map, heat_map_html])
def test_weights_and_tokens_that_do_not_fit_are_refused(draw):
    with pytest.raises(ValueError, match="along S.*Received: 2 tokens, S=3"):
        draw(np.ones((2, 3)), "ab")
    with pytest.raises(ValueError, match="along T.*Received: 3 tokens, T=2"):
        draw(np.ones((2, 3)), None, "abc")
    for shape in ((3,), (1, 2, 3), (0, 3), (3, 0)):
        with pytest.raises(
            ValueError, match=re.escape(f"[T, S] with T and S at least 1. Received: shape {shape}")
        ):
            draw(np.ones(shape))


def test_heads_and_titles_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\[H, T, S\].*shape \(2, 3\)"):
        head_maps(np.ones((2, 3)))
    with pytest.raises(ValueError, match="1 titles"):
        head_maps(np.ones((2, 2, 3)), titles=["one"])


@pytest.mark.parametrize("absent", [np.nan, -np.inf, np.inf])
def test_weights_that_are_not_finite_are_blank_and_no_part_of_the_scale(absent, tmp_path):
    weights = np.array([[0.5, absent], [0.25, 0.0]])
    image = heat_map(weights).axes[0].images[0]
    assert image.get_array().mask.tolist() == [[False, True], [False, False]]
    assert image.get_clim() == (0.0, 0.5)
    alphas = re.findall(r"rgba\(0, 0, 255, ([0-9.]+)\)", heat_map_table(weights))
    assert alphas == ["1.000", "0.500", "0.000"]
    save(head_maps([weights, np.full([2, 2], absent)]), tmp_path / "heads.png")


def test_a_negative_weight_and_zero_differ_in_html():
    alphas = re.findall(r"rgba\(0, 0, 255, ([0-9.]+)\)", heat_map_table([[-1.0, 0.0, 1.0]]))
    assert alphas == ["0.000", "0.500", "1.000"]


def test_a_picture_of_many_large_heads_has_a_limit_and_names_that_do_not_overlap():
    figure = head_maps(np.ones([8, 64, 64]), titles=["a\x07"] * 8)
    assert max(figure.get_size_inches()) <= 40
    axes = figure.axes[0]
    inches = axes.get_position().size * figure.get_size_inches()
    for axis, side in ((axes.xaxis, inches[0]), (axes.yaxis, inches[1])):
        assert 2 <= len(axis.get_ticklabels()) <= side / 0.15


def test_control_characters_and_surrogates_are_escapes_in_every_format(tmp_path):
    tokens = ["\x07", "\ud800", "\uffff", "\x85"]
    written = [r"\x07", r"\ud800", r"\uffff", r"\x85"]
    assert _labels(heat_map(np.eye(4), tokens).axes[0].xaxis) == written
    save(heat_map(np.eye(4), tokens, tokens, title="\x1b[31m"), tmp_path / "map.svg")
    xml.dom.minidom.parse(str(tmp_path / "map.svg"))
    save(heat_map_html(np.eye(4), tokens, tokens, title="\udcff"), tmp_path / "map.html")
    assert r"\ud800" in (tmp_path / "map.html").read_text(encoding="utf-8")
