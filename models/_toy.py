"""The toy tasks of the models that read and write strings: copies and reversals."""

from typing import Any

import numpy as np

from keras_attention.visualize import heat_map, save

SYMBOLS = 14  # ids 4 to 13, after padding, start, end and unknown


def strings(count: int, lengths: tuple[int, int] = (4, 12), seed: int = 0) -> list[np.ndarray]:
    """Random strings of ten symbols, of the shortest to the longest length.

    >>> [len(string) for string in strings(3, (4, 4))]
    [4, 4, 4]
    """
    random = np.random.default_rng(seed)
    shortest, longest = lengths
    return [
        random.integers(4, SYMBOLS, random.integers(shortest, longest + 1)) for _ in range(count)
    ]


def reversals(count: int, lengths: tuple[int, int] = (4, 12), seed: int = 0) -> tuple[list, list]:
    """Strings, and the same strings backwards."""
    sources = strings(count, lengths, seed)
    return sources, [source[::-1] for source in sources]


def answers(model: Any, sources: list, beam_width: int = 1, **settings) -> list:
    """The answer of a model to each source, without the end token, and its alignments [T, S].

    Sources of one length are answered together. Alignments are None if not requested.
    """
    found: list = [None] * len(sources)
    for length in sorted({len(source) for source in sources}):
        places = [i for i, source in enumerate(sources) if len(source) == length]
        rows = np.array([[*sources[i], model.end_id] for i in places], np.int32)
        result = model.generate(
            rows, beam_width=beam_width, **{"max_length": length + 5, "n_best": 1, **settings}
        )
        ids, lengths = result.ids[:, 0].numpy(), result.lengths[:, 0].numpy()
        for row, i in enumerate(places):
            answer = ids[row, : lengths[row]]
            maps = None if result.alignments is None else result.alignments[row, 0].numpy()
            found[i] = answer[answer != model.end_id], maps
    return found


def exact(found: list, targets: list) -> float:
    """The share of answers that are their target."""
    return float(np.mean([np.array_equal(ids, want) for (ids, _), want in zip(found, targets)]))


def token_accuracy(found: list, targets: list) -> float:
    """The share of the targets' tokens that stand at their places of the answers."""
    right = [
        np.sum(ids[: len(want)] == want[: len(ids)]) / len(want)
        for (ids, _), want in zip(found, targets)
    ]
    return float(np.mean(right))


def report(
    model: Any,
    sources: list,
    targets: list,
    name="",
    picture: str | None = None,
    labels: Any = None,
) -> None:
    """Print how many answers are right; draw what the longest attended to, if a file is named.

    `labels(ids)` are those of the picture, by default `letters`.
    """
    found = answers(model, sources, return_alignments=picture is not None)
    if picture is not None:
        longest = int(np.argmax([len(source) for source in sources]))
        ids, weights = found[longest]
        sides = sources[longest], ids
        source, answer = ([*(labels or letters)(side), "(end)"] for side in sides)
        save(heat_map(weights[: len(answer), : len(source)], source, answer), picture)
        print(picture)
    print(f"{name}exactly right: {round(exact(found, targets) * len(targets))} of {len(targets)}")


def letters(ids: Any) -> list[str]:
    """The symbols as letters.

    >>> letters([4, 13])
    ['a', 'j']
    """
    return [chr(ord("a") + int(i) - 4) for i in ids]
