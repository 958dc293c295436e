"""Labelled texts as batches of ids, for the models that give one label to a text."""

import gzip
import lzma
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

PAD, UNKNOWN = 0, 1


def table(path) -> list[list[str]]:
    """The rows of a tab-separated file, .gz or .xz."""
    opened = {".gz": gzip.open, ".xz": lzma.open}[path.suffix]
    with opened(path, "rt", encoding="utf-8") as lines:
        return [line.rstrip("\n").split("\t") for line in lines]


def vocabulary(texts: Iterable[Iterable[str]], least: int = 1) -> dict[str, int]:
    """word -> id, from 2 on, of the words that occur at least so often; frequent ones first."""
    counts = Counter(word for text in texts for word in text)
    words = sorted((w for w, n in counts.items() if n >= least), key=lambda w: (-counts[w], w))
    return {word: place + 2 for place, word in enumerate(words)}


def ids_of(words: Iterable[str], known: dict[str, int]) -> np.ndarray:
    return np.array([known.get(word, UNKNOWN) for word in words], np.int32)


def padded(arrays: Sequence[Any], value: int = PAD) -> np.ndarray:
    """Arrays of one rank, padded to the largest of each axis -> [B, ...]."""
    arrays = [np.asarray(array) for array in arrays]
    shape = np.max([array.shape for array in arrays], 0).astype(int)
    whole = np.full((len(arrays), *shape), value, arrays[0].dtype)
    for row, array in enumerate(arrays):
        whole[(row, *map(slice, array.shape))] = array
    return whole


def collate(examples: Sequence[Any]) -> Any:
    """Examples, nests of arrays -> the same nest of padded batches."""
    flat = zip(*(tf.nest.flatten(example) for example in examples))
    return tf.nest.pack_sequence_as(examples[0], [padded(parts) for parts in flat])


def shuffled(
    examples: Sequence[Any], batch_size: int, seed: int, size: Callable, collate: Callable = collate
) -> Callable:
    """`make_epoch` of `Run.fit`: batches of about one size, in a new order in every epoch."""
    spec = tf.nest.map_structure(
        lambda x: tf.TensorSpec([None] * x.ndim, x.dtype), collate(examples[:1])
    )

    def make_epoch(epoch, batch):
        rng = np.random.default_rng([seed, epoch])
        order, pool = rng.permutation(len(examples)), 50 * batch_size
        pools = [order[i : i + pool] for i in range(0, len(order), pool)]
        order = [n for part in pools for n in sorted(part, key=lambda n: size(examples[n]))]
        batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        rng.shuffle(batches)

        def generate():
            for rows in batches[batch:]:
                yield collate([examples[row] for row in rows])

        data = tf.data.Dataset.from_generator(generate, output_signature=spec)
        left = tf.data.experimental.assert_cardinality(max(len(batches) - batch, 0))
        return data.apply(left).prefetch(2)

    return make_epoch


def outputs(
    model: Any, inputs: Sequence[Any], size: Callable, batch_size=128, collate: Callable = collate
) -> np.ndarray:
    """What the model gives for each of the inputs, in their order."""
    order = sorted(range(len(inputs)), key=lambda n: size(inputs[n]))
    call = tf.function(lambda x: model(x, training=False), reduce_retracing=True)
    found = []
    for first in range(0, len(order), batch_size):
        rows = collate([inputs[n] for n in order[first : first + batch_size]])
        found.append(call(tf.nest.map_structure(tf.constant, rows)).numpy())
    return np.concatenate(found)[np.argsort(order)]


def accuracy(model: Any, examples: Sequence[Any], size: Callable) -> float:
    """Percent of the (inputs, label) that the model labels right."""
    logits = outputs(model, [inputs for inputs, _ in examples], size)
    return 100 * float(np.mean(logits.argmax(-1) == [label for _, label in examples]))
