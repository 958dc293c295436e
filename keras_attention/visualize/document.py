"""A document coloured by hierarchical attention (Yang et al., 2016, figure 5)."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_attention.visualize.fonts import font_families, import_matplotlib
from keras_attention.visualize.maps import BLUE, RED, _array, background, page, scale
from keras_attention.visualize.text import label, printable


def document_html(
    sentences: Sequence[Sequence[str]],
    word_weights: Any,
    sentence_weights: Any,
    title: str = "",
    separator: str = " ",
) -> str:
    """The document as an HTML page: sentences marked red by p_s, words blue by sqrt(p_s) p_w.

    (Yang et al., 2016, section 3.3: the root keeps important words of unimportant sentences
    visible.) The strongest colour is that of the largest value; tooltips show the weights.

    Args:
        sentences: L lists of words.
        word_weights: for each sentence the weights p_w of its words; weights after the last word,
            as in a padded array [L, T], are ignored.
        sentence_weights: p_s, [L], or longer.
        title: above the document.
        separator: between words; "" for Chinese.

    Every text is escaped. Weights that are not finite have no colour, and do not affect the scale.
    Raises ValueError if there are fewer weights than words.

    >>> "&lt;b&gt;" in document_html([["<b>", "good"]], [[0.2, 0.8]], [1.0])
    True
    """
    sentences, words, of_sentences, of_words = _checked(sentences, word_weights, sentence_weights)
    lines = []
    for tokens, weights, p_s, red, blues in zip(
        sentences, words, sentence_weights, of_sentences, of_words
    ):
        marked = html.escape(separator).join(
            f'<span title="{weight:.4g}"{background(BLUE, blue)}>{html.escape(token)}</span>'
            for token, weight, blue in zip(tokens, weights, blues)
        )
        mark = f'<span title="{p_s:.4g}"{background(RED, red)}>'
        lines.append(f'<p dir="auto">{mark}&emsp;</span> {marked}</p>')
    return page("\n".join(lines), title)


def document_figure(
    sentences: Sequence[Sequence[str]],
    word_weights: Any,
    sentence_weights: Any,
    title: str = "",
    separator: str = " ",
    width: float = 8.0,
) -> Any:
    """The same as a matplotlib figure, `width` inches wide; long sentences are wrapped.

    Args, colours and errors are those of `document_html`.

    >>> figure = document_figure([["very", "good"]], [[0.2, 0.8]], [1.0])
    >>> [text.get_text() for text in figure.texts]
    ['   ', 'very', 'good']
    """
    sentences, _, of_sentences, of_words = _checked(sentences, word_weights, sentence_weights)
    import_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    title = printable(title)
    families = font_families([word for words in sentences for word in words] + [title])
    figure = Figure((width, 1.0))
    renderer = FigureCanvasAgg(figure).get_renderer()
    line, margin, right = 0.32, 0.15, width - 0.15  # inches
    placed, x, y = [], margin, margin + (line if title else 0.0)

    def put(text, color, strength, gap):
        """Draw a text after the last one, or on a new line if it does not fit."""
        nonlocal x, y
        strength = strength if np.isfinite(strength) else 0.0
        box = {"facecolor": (*color, strength), "edgecolor": "none", "pad": 1.5}
        shown = figure.text(
            0, 0, text, fontfamily=families, va="baseline", parse_math=False, bbox=box
        )
        inches = shown.get_window_extent(renderer).width / figure.dpi
        if x > margin and x + inches > right:
            x, y = margin + 0.35, y + line
        placed.append((shown, x, y))
        x += inches + gap

    space = 0.08 if separator else 0.03
    for words, red, blues in zip(sentences, of_sentences, of_words):
        put("   ", (1, 0, 0), red, 0.1)
        for word, blue in zip(words, blues):
            put(word, (0, 0, 1), blue * 0.7, space)  # black letters stay readable
        x, y = margin, y + line
    height = y + margin
    figure.set_size_inches(width, height)
    for shown, left, top in placed:
        shown.set_position((left / width, 1 - (top + 0.7 * line) / height))
    if title:
        figure.suptitle(title, fontfamily=families, parse_math=False)
    return figure


def _checked(sentences, word_weights, sentence_weights):
    """Words as strings, their weights, and the strengths of the sentences' and words' colours."""
    sentences = [[label(word) for word in words] for words in sentences]
    p_s = _array(sentence_weights)
    if not sentences or p_s.ndim != 1 or min(len(p_s), len(word_weights)) < len(sentences):
        raise ValueError(
            "There must be at least one sentence, sentence_weights [L] and word_weights for each. "
            f"Received: {len(sentences)} sentences, sentence_weights of shape {p_s.shape}, "
            f"word_weights for {len(word_weights)}"
        )
    p_w = [_array(weights) for weights in word_weights][: len(sentences)]
    for number, (words, weights) in enumerate(zip(sentences, p_w)):
        if weights.ndim != 1 or len(weights) < len(words):
            raise ValueError(
                "Each word of a sentence needs a weight. Received: "
                f"{len(words)} words, weights of shape {weights.shape} in sentence {number}"
            )
    p_s = p_s[: len(sentences)]
    p_w = [weights[: len(words)] for words, weights in zip(sentences, p_w)]
    p_s_drawn, p_w_drawn = _absent(p_s), [_absent(weights) for weights in p_w]
    of_words = [np.sqrt(p) * weights for p, weights in zip(p_s_drawn, p_w_drawn)]
    _, largest = scale(np.concatenate(of_words))
    reds = p_s_drawn / scale(p_s_drawn)[1]
    return sentences, p_w, reds, [part / largest for part in of_words]


def _absent(weights):
    """Weights below 0 as 0, and those that are not finite as NaN, which is not drawn."""
    return np.where(np.isfinite(weights), np.maximum(weights, 0), np.nan)
