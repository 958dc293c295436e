import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import sinusoid
from keras_attention.layers import PositionEmbedding, TiedEmbedding

IDS = np.array([[1, 2, 0], [9, 2, 2]])


def tied(**settings):
    layer = TiedEmbedding(10, 4, **settings)
    layer.build()
    return layer


def test_one_matrix_serves_both_ways_and_only_the_ids_are_scaled():
    layer = tied()
    (matrix,) = (weight.numpy() for weight in layer.weights)
    hidden = np.random.normal(size=(2, 3, 4)).astype("float32")
    np.testing.assert_allclose(layer(IDS), 2.0 * matrix[IDS], atol=1e-6)
    np.testing.assert_allclose(layer.logits(hidden), hidden @ matrix.T, atol=1e-6)


def test_without_a_scale_ids_are_rows():
    layer = tied(scale=False)
    np.testing.assert_array_equal(layer(IDS), layer.embeddings.numpy()[IDS])


def test_both_ways_begin_with_variance_one():
    layer = TiedEmbedding(400, 256)
    rows = layer(np.arange(400))
    assert abs(np.var(rows) - 1) < 0.02
    assert abs(np.var(layer.logits(np.random.normal(size=(400, 256)).astype("float32"))) - 1) < 0.02


def test_the_matrix_learns_both_ways():
    layer = tied()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer.logits(tf.stop_gradient(layer(IDS))) ** 2)
    out = tf.convert_to_tensor(tape.gradient(loss, layer.embeddings.value))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(IDS) ** 2)
    rows = tf.convert_to_tensor(tape.gradient(loss, layer.embeddings.value)).numpy().any(-1)
    assert out.numpy().any(-1).all()
    assert set(np.flatnonzero(rows)) == set(IDS.flat)


@pytest.mark.parametrize("shape", [(3,), (2, 0), (0, 3), (2, 3, 5)])
def test_ids_of_any_shape_are_embedded(shape):
    layer = tied()
    ids = np.ones(shape, "int32")
    assert layer(ids).shape == (*shape, 4)
    assert layer.logits(layer(ids)).shape == (*shape, 10)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_narrow_policy_looks_up_and_projects_narrow(policy):
    layer = tied(dtype=policy)
    rows = layer(IDS)
    assert rows.dtype == layer.logits(rows).dtype == policy.removeprefix("mixed_")
    assert layer.embeddings.dtype == "float32"


# -- positions


@pytest.mark.parametrize("layout", ["interleaved", "concatenated"])
def test_sinusoids_are_added(layout):
    x = np.random.normal(size=(2, 5, 6)).astype("float32")
    found = PositionEmbedding(layout=layout)(x)
    np.testing.assert_allclose(found, x + sinusoid(np.arange(5), 6, layout), atol=1e-6)


@pytest.mark.parametrize("kind", ["sinusoid", "learned"])
def test_an_offset_is_the_position_of_the_first_step(kind):
    layer = PositionEmbedding(kind, max_length=7)
    whole = layer(tf.zeros([1, 7, 4]))
    for offset in (0, 3, tf.constant(5)):
        part = layer(tf.zeros([1, 2, 4]), offset=offset)
        np.testing.assert_array_equal(part, whole[:, int(offset) : int(offset) + 2])


def test_positions_beyond_the_learned_ones_are_an_error():
    layer = PositionEmbedding("learned", max_length=4)
    assert layer(tf.zeros([1, 4, 2])).shape == (1, 4, 2)
    graph = tf.function(lambda x: layer(x), input_signature=[tf.TensorSpec([None, None, 2])])
    for call in (layer, graph):
        with pytest.raises(tf.errors.InvalidArgumentError, match="Only 4 positions"):
            call(tf.zeros([1, 5, 2]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Only 4 positions"):
        layer(tf.zeros([1, 1, 2]), offset=4)


def test_no_steps_have_no_positions():
    for kind in ("sinusoid", "learned"):
        assert PositionEmbedding(kind, max_length=4)(tf.zeros([2, 0, 6])).shape == (2, 0, 6)


def test_a_mask_goes_through():
    x = keras.layers.Masking()(tf.constant([[[1.0, 2.0], [0.0, 0.0]]]))
    found = PositionEmbedding()(x)
    np.testing.assert_array_equal(found._keras_mask, [[True, False]])


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: TiedEmbedding(0, 4), "vocab_size=0"),
        (lambda: TiedEmbedding(4, 0), "width=0"),
        (lambda: PositionEmbedding("rotary"), "kind='rotary'"),
        (lambda: PositionEmbedding("learned"), "max_length=None"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_logits_can_be_the_first_call():
    embedding = TiedEmbedding(7, 4)
    assert embedding.logits(tf.ones([2, 4])).shape == (2, 7)
