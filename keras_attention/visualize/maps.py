"""Heat maps of attention: target tokens are rows, source tokens are columns."""

import html
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_attention.visualize.fonts import font_families, import_matplotlib
from keras_attention.visualize.text import label, printable

_LARGEST = 40.0  # inches: the longest side of a picture


def heat_map(
    weights: Any,
    source: Sequence | None = None,
    target: Sequence | None = None,
    title: str = "",
    axes: Any = None,
) -> Any:
    """Draw the weights of T targets over S sources.  [T, S] -> a matplotlib figure.

    Args:
        weights: any array or tensor [T, S].
        source: S tokens, strings or objects that convert to a string; default: their indices.
        target: T tokens.
        title: above the map.
        axes: matplotlib axes to draw in, instead of a new figure.

    The colours range from 0 (or the lowest weight, if negative) to the largest weight. Weights that
    are not finite, such as masked scores of -inf, are left blank, and do not affect the scale.
    Characters that the default font lacks are drawn with another installed one; if there is none, a
    warning says what to install. Control characters are written as escapes. A picture is at most
    40 inches wide and high; if tokens do not fit, every n-th is labelled. The figure opens no
    window: save it with `save`, or show it in a notebook.

    Raises ValueError for weights that are not [T, S], and tokens that are not S and T.

    >>> figure = heat_map([[0.9, 0.1], [0.2, 0.8]], ["I", "am"], ["je", "suis"])
    >>> figure.axes[0].images[0].get_array().data.tolist()
    [[0.9, 0.1], [0.2, 0.8]]
    """
    weights, source, target = _checked(weights, source, target)
    import_matplotlib()
    from matplotlib.figure import Figure

    figure = axes.figure if axes is not None else Figure(_inches(source, target), layout="tight")
    axes = figure.add_subplot() if axes is None else axes
    title = printable(title)
    _draw(axes, weights, source, target, title, font_families([*source, *target, title]))
    return figure


def head_maps(
    weights: Any,
    source: Sequence | None = None,
    target: Sequence | None = None,
    titles: Sequence[str] | None = None,
    columns: int = 4,
) -> Any:
    """One heat map for each head, side by side.  [H, T, S] -> a matplotlib figure.

    Args like those of `heat_map`; `titles` of the H heads, default their indices.

    Raises ValueError for weights that are not [H, T, S], and as `heat_map`.

    >>> len([axes for axes in head_maps(np.ones([3, 2, 2]) / 2).axes if axes.images])
    3
    """
    weights = _array(weights)
    titles = [f"head {h}" for h in range(len(weights))] if titles is None else list(titles)
    titles = [printable(title) for title in titles]
    if weights.ndim != 3 or not len(weights) or len(titles) != len(weights) or columns < 1:
        raise ValueError(
            "head_maps needs weights [H, T, S] of at least one head, H titles, and columns of at "
            f"least 1. Received: shape {weights.shape}, {len(titles)} titles, columns={columns}"
        )
    _, source, target = _checked(weights[0], source, target)
    import_matplotlib()
    from matplotlib.figure import Figure

    columns = min(columns, len(weights))
    rows = -(-len(weights) // columns)
    width, height = _inches(source, target)
    size = min(width * columns, _LARGEST), min(height * rows, _LARGEST)
    figure = Figure(size, layout="constrained")
    families = font_families([*source, *target, *titles])
    for place, (head, title) in enumerate(zip(weights, titles), 1):
        axes = figure.add_subplot(rows, columns, place)
        _draw(axes, head, source, target, title, families)
    return figure


def heat_map_html(
    weights: Any, source: Sequence | None = None, target: Sequence | None = None, title: str = ""
) -> str:
    """The same as an HTML table, drawn with the fonts of the browser.  [T, S] -> str.

    A cell shows its weight as a tooltip. Raises ValueError as `heat_map`.

    >>> "&lt;s&gt;" in heat_map_html([[1.0]], ["<s>"], ["a"])
    True
    """
    return page(heat_map_table(weights, source, target), title)


def heat_map_table(weights: Any, source: Any = None, target: Any = None) -> str:
    """The table of `heat_map_html`, to include in another page.  [T, S] -> str."""
    weights, source, target = _checked(weights, source, target)
    lowest, largest = scale(weights)
    strengths = (weights - lowest) / (largest - lowest)
    head = "".join(f"<th>{html.escape(token)}</th>" for token in source)
    rows = "".join(
        f"<tr><th>{html.escape(token)}</th>"
        + "".join(f'<td title="{w:.4g}"{background(BLUE, s)}>&nbsp;</td>' for w, s in zip(*row))
        + "</tr>"
        for token, row in zip(target, zip(weights, strengths))
    )
    return f"<table><tr><th></th>{head}</tr>{rows}</table>"


BLUE, RED = (0, 0, 255), (255, 0, 0)


def background(color: tuple, strength: float) -> str:
    """The HTML attribute of a background colour, or "" if `strength` is not finite.

    >>> background(BLUE, 0.5), background(BLUE, float("nan"))
    (' style="background: rgba(0, 0, 255, 0.500)"', '')
    """
    if not np.isfinite(strength):
        return ""
    return f' style="background: rgba({", ".join(map(str, color))}, {strength:.3f})"'


def scale(weights: np.ndarray) -> tuple[float, float]:
    """The weights without colour and with full colour: at most 0, and the largest finite weight.

    They always differ, also if no weight is finite, or all are 0.

    >>> scale(np.array([0.5, np.nan, np.inf]))
    (0.0, 0.5)
    """
    finite = weights[np.isfinite(weights)]
    lowest = min(0.0, *finite) if finite.size else 0.0
    largest = max(finite) if finite.size else 0.0
    return float(lowest), float(largest if largest > lowest else lowest + 1)


def page(body: str, title: str = "") -> str:
    """A complete HTML document around `body`, which is HTML; `title` is text.

    >>> page("<p>", "a & b").count("a &amp; b")
    2
    """
    title = html.escape(printable(title))
    heading = f"<h1>{title}</h1>" if title else ""
    return (
        f'<!DOCTYPE html>\n<html><head><meta charset="utf-8"><title>{title}</title></head>'
        f'<body style="font-family: sans-serif">{heading}{body}</body></html>\n'
    )


def save(picture: Any, path: str | os.PathLike) -> None:
    """Write a figure, as PNG or in the format of the suffix, or an HTML page to `path`.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "map.png"
    ...     save(heat_map([[1.0, 0.0]]), path)
    ...     path.read_bytes()[1:4]
    b'PNG'
    """
    if isinstance(picture, str):
        with open(path, "w", encoding="utf-8") as file:
            file.write(picture)
    else:
        picture.savefig(path)


def _draw(axes, weights, source, target, title, families):
    lowest, largest = scale(weights)
    weights = np.ma.masked_invalid(weights)  # left blank
    image = axes.imshow(weights, cmap="viridis", vmin=lowest, vmax=largest, aspect="auto")
    sides = axes.get_position().size * axes.figure.get_size_inches()
    for axis, tokens, inches in ((axes.xaxis, source, sides[0]), (axes.yaxis, target, sides[1])):
        every = math.ceil(0.18 * len(tokens) / inches)  # a line of text is 0.18 inches high
        places = range(0, len(tokens), every)
        labels = axis.set_ticks(places, tokens[::every], fontfamily=families)
        for tick in labels:
            tick.label1.set_parse_math(False)  # a dollar sign is a token, not a formula
            tick.label2.set_parse_math(False)
    axes.xaxis.tick_top()
    if max(map(len, source)) > 2:
        axes.tick_params("x", rotation=90)
    if title:
        axes.set_title(title, fontfamily=families, parse_math=False)
    axes.figure.colorbar(image, ax=axes)


def _array(weights):
    return np.asarray(weights).astype(np.float64)  # also for bfloat16


def _checked(weights, source, target) -> tuple[np.ndarray, list[str], list[str]]:
    """Weights [T, S] as an array, and S and T tokens as strings with visible spaces."""
    weights = _array(weights)
    if weights.ndim != 2 or not weights.size:
        raise ValueError(
            "A heat map needs weights [T, S] with T and S at least 1. Received: shape "
            f"{weights.shape}"
        )
    named: list[list[str]] = []
    for axis, length, tokens in (("S", weights.shape[1], source), ("T", weights.shape[0], target)):
        tokens = range(length) if tokens is None else list(tokens)
        if len(tokens) != length:
            raise ValueError(
                f"There must be one token for each of the weights along {axis}; remove the "
                f"weights of the padding. Received: {len(tokens)} tokens, {axis}={length}"
            )
        named.append([label(token) for token in tokens])
    source, target = named
    return weights, source, target


def _inches(source, target):
    """A size with space for every token."""
    width = 1.5 + 0.12 * max(map(len, target)) + 0.32 * len(source)
    height = 0.6 + 0.12 * max(map(len, source)) + 0.32 * len(target)
    return min(max(width, 2.5), _LARGEST), min(max(height, 1.5), _LARGEST)
