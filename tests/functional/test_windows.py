"""Windows cut an image without losing a pixel, and a shift never lets the edges meet."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import (
    cyclic_shift,
    relative_position_index,
    shifted_window_mask,
    window_merge,
    window_partition,
)

each_window = pytest.mark.parametrize("window", [2, 3, (2, 3), (6, 1), 6])


def _pair(window):
    return window if isinstance(window, tuple) else (window, window)


@each_window
def test_a_window_holds_its_pixels_row_by_row(window):
    image = np.random.normal(size=(2, 6, 12, 3))
    rows, columns = _pair(window)
    tops, lefts = range(0, 6, rows), range(0, 12, columns)
    expected = [
        image[:, y : y + rows, x : x + columns].reshape(2, -1, 3)
        for y, x in itertools.product(tops, lefts)
    ]
    np.testing.assert_array_equal(window_partition(image, window), np.stack(expected, 1))


@each_window
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_merging_undoes_cutting(window, batch):
    image = np.random.normal(size=(batch, 6, 12, 3))
    merged = window_merge(window_partition(image, window), window, 6, 12)
    np.testing.assert_array_equal(merged, image)


def test_an_image_of_unknown_size_is_cut_in_a_graph():
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 1])])
    def there_and_back(image):
        shape = tf.shape(image)
        return window_merge(window_partition(image, 2), 2, shape[1], shape[2])

    for shape in ((1, 2, 4, 1), (3, 6, 2, 1)):
        image = np.random.normal(size=shape).astype("float32")
        np.testing.assert_array_equal(there_and_back(image), image)


def test_an_image_that_does_not_divide_is_refused_by_its_axis():
    with pytest.raises(ValueError, match=r"Y must be a multiple.*2.*Received: Y=5"):
        window_partition(np.zeros((1, 5, 4, 1)), 2)
    with pytest.raises(ValueError, match=r"Received: X=3"):
        window_partition(np.zeros((1, 4, 3, 1)), 2)


def test_a_shift_goes_up_and_left_and_comes_back():
    image = np.random.normal(size=(2, 4, 6, 3))
    moved = cyclic_shift(image, (1, 2)).numpy()
    for y, x in np.ndindex(4, 6):
        np.testing.assert_array_equal(moved[:, y, x], image[:, (y + 1) % 4, (x + 2) % 6])
    np.testing.assert_array_equal(cyclic_shift(moved, (-1, -2)), image)


@pytest.mark.parametrize("window, shift", [(2, 1), (4, 2), ((2, 3), (1, 1)), ((4, 3), (3, 2))])
def test_shifted_places_see_each_other_where_no_edge_lies_between(window, shift):
    """By brute force over the paper's regions: slices of the rolled image, numbered."""
    height, width = 8, 12
    (my, mx), (up, left) = _pair(window), _pair(shift)
    regions = np.zeros((height, width))
    rows = (slice(0, -my), slice(-my, -up), slice(-up, None))
    columns = (slice(0, -mx), slice(-mx, -left), slice(-left, None))
    for number, (row, column) in enumerate(itertools.product(rows, columns)):
        regions[row, column] = number
    found = shifted_window_mask(height, width, window, shift).numpy()
    for n, (y, x) in enumerate(itertools.product(range(0, height, my), range(0, width, mx))):
        inside = regions[y : y + my, x : x + mx].ravel()
        np.testing.assert_array_equal(found[n], inside[:, None] == inside)


def test_without_a_shift_all_of_a_window_is_seen():
    assert shifted_window_mask(4, 6, 2, 0).numpy().all()


def test_the_relative_index_of_a_small_window():
    assert relative_position_index(2).numpy().tolist() == [
        [4, 3, 1, 0],
        [5, 4, 2, 1],
        [7, 6, 4, 3],
        [8, 7, 5, 4],
    ]


@each_window
def test_equal_offsets_share_an_index_and_others_do_not(window):
    rows, columns = _pair(window)
    places = list(itertools.product(range(rows), range(columns)))
    index = relative_position_index(window).numpy()
    meaning = {}
    for (i, (y, x)), (j, (v, u)) in itertools.product(enumerate(places), repeat=2):
        assert meaning.setdefault(index[i, j], (y - v, x - u)) == (y - v, x - u)
    assert sorted(meaning) == list(range((2 * rows - 1) * (2 * columns - 1)))
