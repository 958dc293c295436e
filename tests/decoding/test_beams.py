import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import gather_tree, gather_tree_from_array, tile_batch
from tests import oracles

# -- tile_batch


def test_every_row_is_followed_by_its_own_copies():
    assert tile_batch(tf.constant(["a", "b"]), 3).numpy().tolist() == [b"a"] * 3 + [b"b"] * 3
    state = {"h": np.arange(4.0).reshape(2, 2), "length": np.array([5, 6])}
    tiled = tile_batch(state, 2)
    assert tiled["h"].numpy().tolist() == [[0, 1], [0, 1], [2, 3], [2, 3]]
    assert tiled["length"].numpy().tolist() == [5, 5, 6, 6]


def test_what_is_known_of_a_shape_stays_known():
    @tf.function(input_signature=[tf.TensorSpec([None, 3]), tf.TensorSpec([2, None])])
    def tile(unknown, known):
        tiled = tile_batch((unknown, known), 4)
        assert [t.shape.as_list() for t in tiled] == [[None, 3], [8, None]]
        return tiled

    assert tile(np.ones([5, 3], "float32"), np.ones([2, 1], "float32"))[0].shape == (20, 3)


def test_the_multiplier_may_be_a_tensor():
    assert tile_batch(tf.constant([1, 2]), tf.constant(2)).numpy().tolist() == [1, 1, 2, 2]


def test_a_scalar_has_no_batch():
    with pytest.raises(ValueError, match="batch dimension"):
        tile_batch(tf.constant(1), 2)


# -- gather_tree


def random_tree(steps, batch, beams, vocabulary=5):
    ids = np.random.randint(vocabulary, size=(steps, batch, beams)).astype("int32")
    parents = np.random.randint(beams, size=(steps, batch, beams)).astype("int32")
    lengths = np.random.randint(steps + 2, size=batch).astype("int32")
    return ids, parents, lengths


@pytest.mark.parametrize("steps, batch, beams", [(1, 1, 1), (4, 3, 2), (9, 2, 5), (6, 4, 1)])
def test_the_tree_is_followed_as_the_oracle_follows_it(steps, batch, beams):
    for _ in range(5):
        ids, parents, lengths = random_tree(steps, batch, beams)
        found = gather_tree(ids, parents, lengths, 2)
        np.testing.assert_array_equal(found, oracles.gather_tree(ids, parents, lengths, 2))


@pytest.mark.parametrize("jit", [False, True])
def test_the_tree_is_the_same_in_a_graph_and_under_xla(jit):
    ids, parents, lengths = random_tree(5, 3, 4)
    follow = tf.function(gather_tree, jit_compile=jit, autograph=False)
    expected = oracles.gather_tree(ids, parents, lengths, 2)
    found = follow(tf.constant(ids), tf.constant(parents), tf.constant(lengths), 2)
    np.testing.assert_array_equal(found, expected)


def test_a_length_of_zero_is_all_ends():
    assert gather_tree([[[1, 3]]] * 2, [[[0, 0]]] * 2, [0], 9).numpy().ravel().tolist() == [9] * 4


def test_no_steps_are_no_ids():
    empty = np.zeros([0, 2, 3], "int32")
    assert gather_tree(empty, empty, [0, 0], 9).shape == (0, 2, 3)


@pytest.mark.parametrize("parent", [-1, 2, 7])
def test_a_parent_that_does_not_exist_is_refused(parent):
    ids, parents = np.ones([3, 1, 2], "int32"), np.zeros([3, 1, 2], "int32")
    parents[1, 0, 1] = parent
    message = rf"(?s)invalid parent id.*time major.*shape.*3,? 1,? 2.*parent id.*{parent}"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        gather_tree(ids, parents, [3], 9)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        gather_tree_from_array(tf.ones([3, 1, 2]), parents, [[3, 3]])


def test_beyond_the_length_any_parent_is_allowed():
    ids, parents = [[[1, 2]], [[3, 4]], [[5, 6]]], [[[0, 0]], [[1, 0]], [[-1, 99]]]
    found = gather_tree(ids, parents, [2], 9)
    assert found[:, 0].numpy().tolist() == [[2, 1], [3, 4], [9, 9]]


# -- gather_tree_from_array


def test_an_array_is_ordered_as_the_ids_are():
    """Recorded ids, put in order, are what gather_tree gives up to each length."""
    steps, batch, beams, end = 6, 3, 4, -1
    ids, parents, _ = random_tree(steps, batch, beams)
    lengths = np.random.randint(1, steps + 1, size=(batch, beams))
    expected = oracles.gather_tree(ids, parents, lengths.max(1), end)
    array = np.stack([ids, 10 * ids], -1).astype("float32")
    found = gather_tree_from_array(array, parents, lengths).numpy()
    assert found.shape == array.shape
    for b, k in np.ndindex(batch, beams):
        length = lengths[b, k]
        np.testing.assert_array_equal(found[:length, b, k, 0], expected[:length, b, k])
        np.testing.assert_array_equal(found[length:, b, k], array[length:, b, k])


def test_an_array_of_merged_rows_is_ordered_like_one_of_beams():
    _, parents, _ = random_tree(4, 2, 3)
    array, lengths = np.random.normal(size=(4, 2, 3, 5)), np.full([2, 3], 4)
    split = gather_tree_from_array(array, parents, lengths)
    merged = gather_tree_from_array(array.reshape(4, 6, 5), parents, lengths)
    assert merged.shape == (4, 6, 5)
    np.testing.assert_array_equal(tf.reshape(merged, split.shape), split)
