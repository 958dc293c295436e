import numpy as np
import pytest

from keras_attention.data import BatchOrder
from keras_attention.data.order import LEAST, permuted

RANDOM = np.random.default_rng(0)
LENGTHS = RANDOM.geometric(0.07, 5003)
COUNTS = list(zip(*(found.tolist() for found in np.unique(LENGTHS, return_counts=True))))
BY_LENGTH = np.argsort(LENGTHS, kind="stable")


def order(**arguments):
    return BatchOrder(COUNTS, BY_LENGTH, **arguments)


def epoch(made, number):
    return [made.batch(number * made.per_epoch + place) for place in range(made.per_epoch)]


@pytest.mark.parametrize("count", [1, 2, 3, 16, 17, 1000])
def test_a_permutation_is_one_to_one(count):
    keys = RANDOM.integers(0, 2**63, 8).astype(np.uint64)
    found = permuted(np.arange(count), count, keys)
    assert sorted(found) == list(range(count))
    np.testing.assert_array_equal(found[::-1], permuted(np.arange(count)[::-1], count, keys))


def test_every_permutation_of_three_is_about_equally_likely():
    keys = RANDOM.integers(0, 2**63, (3000, 8)).astype(np.uint64)
    found = [tuple(permuted(np.arange(3), 3, key)) for key in keys]
    _, counts = np.unique(found, axis=0, return_counts=True)
    assert len(counts) == 6
    assert ((counts - 500) ** 2 / 500).sum() < 20.5  # chi-square of 5 degrees, p = 0.001


@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 32, "seed": 0},
        {"batch_size": 32},
        {"batch_tokens": 500, "seed": 2**40},
        {"batch_tokens": 500},
    ],
)
def test_each_epoch_has_every_example_exactly_once(arguments):
    made = order(**arguments)
    for number in (0, 3):
        found = epoch(made, number)
        assert sorted(np.concatenate(found)) == list(range(len(LENGTHS)))


def test_one_batch_of_an_epoch_is_smaller():
    sizes = [len(batch) for batch in epoch(order(batch_size=32, seed=1), 0)]
    assert sorted(sizes)[0] == 5003 % 32 and set(sorted(sizes)[1:]) == {32}


def test_seed_and_epoch_alone_decide_the_order():
    def listed(seed, number):
        return [batch.tolist() for batch in epoch(order(batch_size=32, seed=seed), number)]

    assert listed(1, 2) == listed(1, 2)
    different = [listed(1, 2), listed(1, 3), listed(2, 2), listed(2, 1)]
    assert all(a != b for i, a in enumerate(different) for b in different[:i])


def test_without_a_seed_the_order_is_kept():
    found = np.concatenate(epoch(order(batch_size=32), 1))
    np.testing.assert_array_equal(found, np.arange(len(LENGTHS)))
    lengths = LENGTHS[np.concatenate(epoch(order(batch_tokens=500), 0))]
    assert (np.diff(lengths) >= 0).all()


def test_the_batches_of_two_epochs_differ_in_their_examples():
    made = order(batch_size=8, seed=0)
    first, second = ({frozenset(batch) for batch in epoch(made, number)} for number in (0, 1))
    assert len(first & second) < 4


@pytest.mark.parametrize("size", [{"batch_size": 8}, {"batch_tokens": 900}])
def test_each_bucket_has_batches_enough_for_other_neighbours_in_each_epoch(size):
    """Also the last one, of a few examples that are much longer than the others."""
    for count in range(150, 1200, 41):
        lengths = np.sort(np.append(RANDOM.geometric(0.1, count), [200] * (count % 5)))
        counts = list(zip(*(part.tolist() for part in np.unique(lengths, return_counts=True))))
        made = BatchOrder(counts, np.arange(len(lengths)), **size, seed=0)
        buckets = made._buckets
        assert [begin for begin, _, _ in buckets[1:]] == [end for _, end, _ in buckets[:-1]]
        assert buckets[0][0] == 0 and buckets[-1][1] == len(lengths)
        assert all((end - begin) % batch == 0 for begin, end, batch in buckets[:-1])
        if len(buckets) > 1:
            assert min((end - begin) // batch for begin, end, batch in buckets) >= LEAST


def test_examples_of_like_length_meet():
    def waste(batches):
        padded = sum(len(batch) * LENGTHS[batch].max() for batch in batches)
        return 1 - LENGTHS.sum() / padded

    shuffled = np.array_split(RANDOM.permutation(len(LENGTHS)), len(LENGTHS) // 8)
    assert waste(epoch(order(batch_size=8, seed=0), 0)) < 0.1 < 0.4 < waste(shuffled)


def test_no_batch_has_more_tokens_than_it_may_and_most_have_nearly_so_many():
    tokens = np.array(
        [
            len(batch) * (LENGTHS[batch].max() + 1)
            for batch in epoch(order(batch_tokens=500, seed=0), 0)
        ]
    )
    assert tokens.max() <= 500 and np.median(tokens) > 450


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "batch_size or batch_tokens"),
        ({"batch_size": 1, "batch_tokens": 9}, "batch_size or batch_tokens"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_tokens": int(LENGTHS.max())}, "batch_tokens must be at least"),
        ({"batch_size": 1, "seed": -1}, "seed"),
    ],
)
def test_a_wrong_argument_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        order(**arguments)


def test_no_examples_and_a_negative_place_are_refused():
    with pytest.raises(ValueError, match="at least one example"):
        BatchOrder([], [], batch_size=1)
    with pytest.raises(ValueError, match="place"):
        order(batch_size=1).batch(-1)
