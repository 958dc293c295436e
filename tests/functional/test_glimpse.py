import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import glimpse


def _by_hand(image, location, size, scales):
    """Every pixel of every patch, looked up or zero, then means of blocks."""
    height, width, depth = image.shape
    patches = []
    for k in range(scales):
        side = size * 2**k
        top, left = (
            int(np.floor((place + 1) / 2 * length - side / 2 + 0.5))
            for place, length in zip(location, (height, width))
        )
        patch = np.zeros((side, side, depth))
        for y, x in np.ndindex(side, side):
            if 0 <= top + y < height and 0 <= left + x < width:
                patch[y, x] = image[top + y, left + x]
        blocks = patch.reshape(size, 2**k, size, 2**k, depth)
        patches.append(blocks.mean((1, 3)))
    return np.stack(patches)


@pytest.mark.parametrize("size, scales", [(4, 1), (3, 3), (8, 2), (1, 4)])
def test_patches_are_those_looked_up_pixel_by_pixel(size, scales):
    images, locations = np.random.normal(size=(5, 9, 12, 2)), np.random.uniform(-1, 1, (5, 2))
    locations[:2] = [[-1, 1], [1, 0]]
    found = glimpse(images, locations, size, scales)
    for image, location, patches in zip(images, locations, found):
        np.testing.assert_allclose(patches, _by_hand(image, location, size, scales), atol=1e-12)


def test_the_middle_of_an_even_image_is_its_centre_crop():
    image = np.random.normal(size=(1, 10, 12, 3))
    found = glimpse(image, np.zeros((1, 2)), 4)[0, 0]
    np.testing.assert_array_equal(found, image[0, 3:7, 4:8])


@pytest.mark.parametrize("corner", [(-1, -1), (-1, 1), (1, -1), (1, 1)])
def test_at_a_corner_three_quarters_are_zeros(corner):
    patch = glimpse(np.ones((1, 8, 8, 1)), [corner], 4)[0, 0, ..., 0].numpy()
    assert patch.sum() == 4
    rows, columns = (slice(0, 2) if place > 0 else slice(2, 4) for place in corner)
    assert (patch[rows, columns] == 1).all()


def test_the_first_coordinate_is_the_row():
    image = np.zeros((1, 4, 4, 1))
    image[0, 0, 2:] = 1
    assert glimpse(image, [[-0.5, 0.5]], 2)[0, 0, ..., 0].numpy().tolist() == [[1, 1], [0, 0]]


def test_a_coarse_scale_is_the_average_pool_of_its_crop():
    image = np.random.normal(size=(2, 16, 16, 1)).astype("float32")
    patches = glimpse(image, np.zeros((2, 2)), 4, scales=3)
    for k in range(3):
        margin = (16 - 4 * 2**k) // 2
        crop = image[:, margin : 16 - margin, margin : 16 - margin]
        pooled = tf.nn.avg_pool2d(crop, 2**k, 2**k, "VALID")
        np.testing.assert_allclose(patches[:, k], pooled, atol=1e-6)


def test_far_outside_there_is_nothing():
    assert not glimpse(np.ones((1, 8, 8, 1)), [[9.0, -9.0]], 4, 2).numpy().any()


def test_the_image_gets_a_gradient_and_the_location_none():
    image, location = tf.Variable(tf.ones([1, 6, 6, 1])), tf.Variable(tf.zeros([1, 2]))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(glimpse(image, location, 2))
    of_image, of_location = tape.gradient(total, [image, location])
    assert of_location is None
    assert np.flatnonzero(of_image).tolist() == [14, 15, 20, 21]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_patches_have_the_type_of_the_image(dtype):
    image, location = tf.ones([1, 6, 6, 1], dtype), tf.zeros([1, 2], dtype)
    assert glimpse(image, location, 2, 2).dtype == dtype


def test_unknown_sizes_and_xla():
    spec = [tf.TensorSpec([None, None, None, 1]), tf.TensorSpec([None, 2])]
    graph = tf.function(lambda *x: glimpse(*x, 3, 2), input_signature=spec)
    xla = tf.function(lambda *x: glimpse(*x, 3, 2), jit_compile=True)
    for batch, side in ((1, 5), (3, 8), (0, 4)):
        image = tf.random.normal([batch, side, side, 1])
        location = tf.random.uniform([batch, 2], -1, 1)
        expected = glimpse(image, location, 3, 2)
        np.testing.assert_array_equal(graph(image, location), expected)
        if batch:
            np.testing.assert_allclose(xla(image, location), expected, atol=1e-6)


def test_shapes_and_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\[B, Y, X, C\].*\(1, 4, 4\)"):
        glimpse(tf.zeros([1, 4, 4]), tf.zeros([1, 2]), 2)
    with pytest.raises(ValueError, match=r"location \[B, 2\].*\(1, 3\)"):
        glimpse(tf.zeros([1, 4, 4, 1]), tf.zeros([1, 3]), 2)
    with pytest.raises(ValueError, match="size=0"):
        glimpse(tf.zeros([1, 4, 4, 1]), tf.zeros([1, 2]), 0)
