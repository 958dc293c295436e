import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.data import batches, epoch_batches

RANDOM = np.random.default_rng(0)
SOURCES = [RANDOM.integers(3, 99, RANDOM.integers(0, 40)).astype(np.int32) for _ in range(301)]
TARGETS = [RANDOM.integers(3, 99, RANDOM.integers(0, 40)).astype(np.int32) for _ in range(301)]
LENGTHS = [len(source) for source in SOURCES]


def listed(dataset):
    return [tf.nest.map_structure(lambda x: x.numpy(), element) for element in dataset]


def assert_same(first, second):
    assert len(first) == len(second)
    for mine, other in zip(tf.nest.flatten(first), tf.nest.flatten(second)):
        np.testing.assert_array_equal(mine, other)


def test_a_batch_is_padded_shifted_and_weighted():
    (((source, target_in), target_out, weights),) = listed(batches([[5], [6, 7]], [[8, 9], []], 2))
    assert source.tolist() == [[5, 2, 0], [6, 7, 2]]
    assert target_in.tolist() == [[1, 8, 9], [1, 0, 0]]
    assert target_out.tolist() == [[8, 9, 2], [2, 0, 0]]
    assert weights.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert (source.dtype, weights.dtype) == (np.int32, np.float32)


def test_the_special_ids_are_free():
    (element,) = listed(batches([[], [5]], [[6], []], 2, start=70, end=80, pad=90))
    (source, target_in), target_out, weights = element
    assert source.tolist() == [[80, 90], [5, 80]]
    assert target_in.tolist() == [[70, 6], [70, 90]]
    assert target_out.tolist() == [[6, 80], [80, 90]]
    assert weights.tolist() == [[1, 1], [1, 0]]


def test_without_a_seed_the_order_is_kept():
    rows = [row for (source, _), _, _ in listed(batches(SOURCES, TARGETS, 8)) for row in source]
    for row, ids in zip(rows, SOURCES, strict=True):
        assert row[: len(ids)].tolist() == ids.tolist()
        assert row[len(ids)] == 2 and not row[len(ids) + 1 :].any()


@pytest.mark.parametrize("seed", [None, 0, 2**40])
@pytest.mark.parametrize("count, size", [(1, 1), (1, 64), (301, 4), (301, 301), (64, 8)])
def test_every_example_comes_exactly_once(seed, count, size):
    order = epoch_batches(LENGTHS[:count], size, seed, epoch=3)
    assert sorted(np.concatenate(order)) == list(range(count))
    assert len(order) == -(-count // size)
    assert sum(len(batch) < size for batch in order) <= 1


def test_seed_and_epoch_alone_decide_the_order():
    def order(seed, epoch):
        return [batch.tolist() for batch in epoch_batches(LENGTHS, 4, seed, epoch)]

    assert order(1, 2) == order(1, 2)
    different = [order(1, 2), order(1, 3), order(2, 2), order(2, 1)]
    assert all(a != b for i, a in enumerate(different) for b in different[:i])
    assert order(None, 0) == order(None, 1)


def test_composition_and_not_only_order_changes_with_the_epoch():
    lengths = RANDOM.integers(1, 40, 3000)
    first, second = (
        {frozenset(batch) for batch in epoch_batches(lengths, 8, 0, epoch)} for epoch in (0, 1)
    )
    assert len(first & second) < 4


def test_examples_of_like_length_meet():
    lengths = RANDOM.integers(1, 100, 5000)

    def waste(order):
        padded = sum(len(batch) * lengths[batch].max() for batch in order)
        return 1 - lengths.sum() / padded

    assert waste(epoch_batches(lengths, 16, seed=0)) < 0.05
    assert waste(epoch_batches(lengths, 16)) > 0.4


def test_long_and_short_batches_alternate_at_random():
    lengths = np.arange(6400) % 80
    means = [lengths[batch].mean() for batch in epoch_batches(lengths, 16, seed=0)]
    assert abs(np.corrcoef(means[1:], means[:-1])[0, 1]) < 0.2


def padding(order, lengths):
    """The share of padding, of both sides, in batches of these examples."""
    padded = sum(len(batch) * lengths[batch].max(0).sum() for batch in order)
    return 1 - lengths.sum() / padded


@pytest.mark.parametrize("count, size", [(1, 4), (4, 4), (5, 4), (301, 7), (2100, 10)])
def test_buckets_hold_every_example_once_in_the_order_of_seed_and_epoch(count, size):
    lengths = np.random.default_rng(1).integers(0, 40, [count, 2])
    order = epoch_batches(lengths, size, seed=2, epoch=3)
    assert sorted(np.concatenate(order).tolist()) == list(range(count))
    assert sorted(map(len, order))[1:] == [size] * (len(order) - 1)
    assert_same(order, epoch_batches(lengths, size, seed=2, epoch=3))
    if len(order) > 9:
        for other in (dict(seed=2, epoch=4), dict(seed=3, epoch=3)):
            same = {tuple(sorted(batch)) for batch in epoch_batches(lengths, size, **other)}
            found = sum(tuple(sorted(batch)) in same for batch in order)
            assert found < len(order) / 2


def test_buckets_have_little_padding_on_both_sides():
    lengths = np.random.default_rng(1).integers(1, 40, [4000, 2])
    order = epoch_batches(lengths, 16, seed=0)
    assert padding(order, lengths) < 0.6 * padding(epoch_batches(lengths.max(1), 16, 0), lengths)


def test_a_dataset_of_buckets_has_the_same_examples_and_is_resumed_by_skipping():
    whole = listed(batches(SOURCES, TARGETS, 16, seed=4, epoch=2, buckets=True))
    rest = listed(batches(SOURCES, TARGETS, 16, seed=4, epoch=2, buckets=True, skip=7))
    assert_same(whole[7:], rest)
    plain = listed(batches(SOURCES, TARGETS, 16, seed=4, epoch=2))

    def rows(elements):
        return sorted(
            (row[row != 0].tolist(), out[out != 0].tolist())
            for (source, _), target_out, _ in elements
            for row, out in zip(source, target_out)
        )

    assert rows(whole) == rows(plain)
    with pytest.raises(ValueError, match="pass a seed. Received: seed=None"):
        batches(SOURCES, TARGETS, 16, buckets=True)


@pytest.mark.parametrize("skip", [0, 1, 40, 75, 76])
def test_skipping_gives_the_rest_of_the_same_epoch(skip):
    whole = listed(batches(SOURCES, TARGETS, 4, seed=1, epoch=2))
    rest = batches(SOURCES, TARGETS, 4, seed=1, epoch=2, skip=skip)
    assert len(rest) == len(whole) - skip
    assert_same(listed(rest), whole[skip:])


def test_a_dataset_can_be_read_again():
    dataset = batches(SOURCES, TARGETS, 16, seed=1)
    assert_same(listed(dataset), listed(dataset))


def test_lengths_can_be_rounded_up():
    for (source, target_in), target_out, weights in listed(
        batches(SOURCES, TARGETS, 8, seed=0, multiple=8)
    ):
        assert source.shape[1] % 8 == target_in.shape[1] % 8 == 0
        assert target_in.shape == target_out.shape == weights.shape
        assert source[:, -8:].any()


def test_weights_count_the_tokens():
    total = sum(weights.sum() for _, _, weights in listed(batches(SOURCES, TARGETS, 8, seed=0)))
    assert total == sum(len(target) + 1 for target in TARGETS)


def test_fit_traces_once_for_all_shapes_and_epochs():
    traces = []

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.embedding = keras.layers.Embedding(99, 4)
            self.logits = keras.layers.Dense(99)

        def call(self, inputs):
            traces.append(1)
            source, target = map(self.embedding, inputs)
            return self.logits(target + keras.ops.mean(source, 1, keepdims=True))

    model = Model()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    counts = []
    for epoch in range(3):
        dataset = batches(SOURCES, TARGETS, 32, seed=0, epoch=epoch)
        history = model.fit(dataset, initial_epoch=epoch, epochs=epoch + 1, verbose=0)
        counts.append(len(traces))
    assert counts[0] == counts[1] == counts[2]
    assert np.isfinite(history.history["loss"]).all()
    assert int(model.optimizer.iterations) == 30


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ({"targets": [[1]]}, "2 sources and 1 targets"),
        ({"sources": [], "targets": []}, "examples must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1. Received: 0"),
        ({"multiple": 0}, "multiple must be a whole number of at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"epoch": -1, "seed": 1}, "epoch must be at least 0"),
        ({"skip": 3}, "skip must be 0 to 2"),
        ({"skip": -1}, "skip must be 0 to 2"),
        ({"sources": 5}, "sources must be N rows of token ids. Received: 5"),
        ({"targets": "ab"}, "targets must be N rows of token ids. Received: 'ab'"),
        ({"sources": lambda: tf.ragged.constant([[[5, 6]], [[7]]])}, r"ragged tensor \[N, None\]"),
        ({"start": 2**40}, "start must be whole numbers from 0 to 2147483647"),
        ({"end": 2.5}, "end must be whole numbers.* Received: 2.5"),
        ({"pad": -1}, "pad must be whole numbers"),
        ({"end": 0}, "end must differ from pad"),
        ({"widths": 1}, "longest row with its end or start id, 2"),
        ({"widths": (4.5,)}, "widths must be whole numbers.* Received: 4.5"),
        ({"widths": ("a",)}, "widths must be whole numbers"),
        ({"widths": (4,), "multiple": 8}, "Pass either multiple or widths"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, complaint):
    good = {"sources": [[1], [2]], "targets": [[3], [4]], "batch_size": 1}
    with pytest.raises(ValueError, match=complaint):
        batches(**{**good, **{k: v() if callable(v) else v for k, v in arguments.items()}})


@pytest.mark.parametrize(
    "row, received",
    [
        ([2**32 + 5], "4294967301 at 0"),
        ([5, -3], "-3 at 1"),
        ([5.7], "float64 .*5.7"),
        ([[5, 6]], r"shape \(1, 2\)"),
        ([5, 0, 6], "0 at 1"),
        ("ab", "'ab'"),
        (5, "5"),
        (["ab"], "<U2"),
    ],
)
@pytest.mark.parametrize("side", ["sources", "targets"])
def test_anything_but_a_row_of_ids_is_refused_by_its_index(side, row, received):
    rows = {"sources": [[5], [6]], "targets": [[5], [6]]}
    rows[side] = [[5], row]
    with pytest.raises(ValueError, match=rf"Received: {received}.* in {side}\[1\]"):
        batches(**rows, batch_size=2)


def test_what_a_tokenizer_gives_is_taken_as_it_is():
    ragged = tf.ragged.constant([[5, 6], [], [7]], dtype=tf.int32)
    lists = [[5, 6], [], [7]]
    assert_same(listed(batches(ragged, ragged, 2)), listed(batches(lists, lists, 2)))
    with pytest.raises(ValueError, match="examples must be at least 1"):
        batches(ragged[:0], ragged[:0], 2)


def test_widths_leave_few_shapes():
    shapes = {
        (source.shape[1], target.shape[1])
        for (source, target), _, _ in batches(SOURCES, TARGETS, 8, seed=0, widths=(41, 8, 20))
    }
    assert {width for shape in shapes for width in shape} <= {8, 20, 41}
    with pytest.raises(ValueError, match="longest row with its end or start id, 40"):
        batches(SOURCES, TARGETS, 8, widths=(16, 32))
