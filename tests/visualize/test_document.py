"""A document's colours are the weights: red for sentences, blue for sqrt(p_s) p_w."""

import html
import re
import warnings

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.visualize import document_figure, document_html, save

pytest.importorskip("matplotlib", reason="pictures need the extra [visualize]")
SENTENCES = [["good", "<b>bread</b>", "&"], ["no"]]
WORDS = [[0.5, 0.4, 0.1, 0.0], [1.0, 0.0, 0.0, 0.0]]  # padded, [L, T]
SENTENCE = [0.64, 0.36]


def _strengths(page, color):
    found = re.findall(rf"rgba\({color}, ([0-9.]+)\)", page)
    return np.array(found, float)


def test_a_word_is_as_blue_as_the_root_of_its_sentence_times_its_weight():
    page = document_html(SENTENCES, WORDS, SENTENCE)
    blue = np.array([0.8 * 0.5, 0.8 * 0.4, 0.8 * 0.1, 0.6])
    np.testing.assert_allclose(_strengths(page, "0, 0, 255"), blue / blue.max(), atol=1e-3)
    np.testing.assert_allclose(_strengths(page, "255, 0, 0"), [1, 0.36 / 0.64], atol=1e-3)


def test_every_text_is_escaped_and_nothing_is_lost():
    page = document_html(SENTENCES, WORDS, SENTENCE, title='<img src=x onerror="alert(1)">')
    assert "<b>" not in page and "<img" not in page
    shown = html.unescape(re.sub("<[^>]*>", "", page.split("</h1>")[1]))
    assert shown.split() == ["good", "<b>bread</b>", "&", "no"]


def test_the_separator_is_between_words():
    page = document_html([list("春风")], [[0.5, 0.5]], [1.0], separator="")
    assert re.sub("<[^>]*>", "", page).strip().endswith("春风")


def test_tensors_are_weights_too_and_zeros_are_no_colour():
    page = document_html(SENTENCES, tf.zeros([2, 4], tf.bfloat16), tf.zeros([2], tf.float16))
    assert not _strengths(page, "0, 0, 255").any() and not _strengths(page, "255, 0, 0").any()


def test_the_figure_has_every_word_in_its_colour_and_inside_of_its_edges(tmp_path):
    sentences = [[f"word{i}" for i in range(40)], ["$", "end"]]
    words = [np.full(40, 1 / 40), [0.25, 0.75]]
    figure = document_figure(sentences, words, SENTENCE, title="a title")
    save(figure, tmp_path / "document.png")
    shown = [text for text in figure.texts if text.get_text().strip() and text.get_bbox_patch()]
    assert [text.get_text() for text in shown] == [*sentences[0], *sentences[1]]
    blue = np.concatenate([np.full(40, 0.8 / 40), [0.6 * 0.25, 0.6 * 0.75]])
    alphas = [text.get_bbox_patch().get_facecolor()[3] for text in shown]
    np.testing.assert_allclose(alphas, 0.7 * blue / blue.max())
    boxes = [text.get_window_extent() for text in shown]
    assert max(box.x1 for box in boxes) <= figure.bbox.x1
    assert min(box.y0 for box in boxes) >= 0 and max(box.y1 for box in boxes) <= figure.bbox.y1
    assert all(a.x1 <= b.x0 or a.y0 > b.y1 for a, b in zip(boxes, boxes[1:]))  # none overlap


def test_a_chinese_document_is_drawn_without_a_missing_glyph(tmp_path, chinese_font):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = document_figure([list("春风得意")], [np.full(4, 0.25)], [1.0], "对联", "")
        save(figure, tmp_path / "document.png")
    assert (tmp_path / "document.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize("draw", [document_html, document_figure])
def test_weights_that_do_not_fit_are_refused(draw):
    with pytest.raises(ValueError, match=r"3 words, weights of shape \(2,\) in sentence 0"):
        draw(SENTENCES, [[0.5, 0.5], [1.0]], SENTENCE)
    with pytest.raises(ValueError, match=r"2 sentences, sentence_weights of shape \(1,\)"):
        draw(SENTENCES, WORDS, [1.0])
    with pytest.raises(ValueError, match="at least one sentence"):
        draw([], [], [])


def test_weights_that_are_not_finite_have_no_colour_and_no_part_in_the_scale(tmp_path):
    words, sentence = [[0.5, np.nan, 0.25], [-np.inf]], [0.25, 1.0]
    page = document_html(SENTENCES, words, sentence)
    np.testing.assert_allclose(_strengths(page, "0, 0, 255"), [1.0, 0.5])
    page = document_html(SENTENCES, [[0.5, 0.1, 0.25], [1.0]], [0.8, np.nan])
    np.testing.assert_allclose(_strengths(page, "255, 0, 0"), [1.0])
    np.testing.assert_allclose(_strengths(page, "0, 0, 255"), [1.0, 0.2, 0.5])
    figure = document_figure(SENTENCES, words, [np.nan, np.nan], title="\x07")
    save(figure, tmp_path / "document.svg")
    assert all(
        text.get_bbox_patch().get_facecolor()[3] == 0
        for text in figure.texts
        if text.get_bbox_patch()
    )
