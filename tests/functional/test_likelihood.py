import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional.likelihood import cross_entropy, log_normalizer


def random_logits(rows, columns, scale=3.0):
    return tf.constant(np.random.default_rng(0).normal(size=(rows, columns)) * scale, tf.float32)


@pytest.mark.parametrize("shift", [0.0, 1e4, -1e4])
def test_the_normaliser_is_the_log_of_the_sum(shift):
    logits = random_logits(5, 300) + shift
    expected = tf.reduce_logsumexp(logits, -1, keepdims=True)
    np.testing.assert_allclose(log_normalizer(logits), expected, rtol=1e-6)


def test_forbidden_tokens_take_no_part_in_the_normaliser():
    logits = random_logits(2, 7)
    forbidden = tf.concat([logits, tf.fill([2, 3], -float("inf"))], 1)
    np.testing.assert_allclose(log_normalizer(forbidden), log_normalizer(logits), rtol=1e-6)


def test_one_certain_token_leaves_nothing_to_lose():
    loss = cross_entropy(tf.constant([1, 0]), tf.constant([[0.0, 200.0], [0.0, 200.0]]))
    assert loss.numpy().tolist() == [0.0, 200.0]


@pytest.mark.parametrize("jit", [False, True])
def test_loss_and_gradient_are_those_of_tensorflow(jit):
    logits, weights = random_logits(6, 50), tf.constant([1.0, 0.0, 2.0, 0.5, 1.0, 3.0])
    labels = tf.constant([0, 49, 7, 7, 3, 20])

    @tf.function(jit_compile=jit)
    def loss_and_gradient(function):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = tf.reduce_sum(weights * function(labels=labels, logits=logits))
        return loss, tape.gradient(loss, logits)

    ours = loss_and_gradient(cross_entropy)
    theirs = loss_and_gradient(tf.nn.sparse_softmax_cross_entropy_with_logits)
    for one, other in zip(ours, theirs):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_half_precision_logits_have_a_full_precision_loss_and_a_half_precision_gradient():
    logits = tf.cast(random_logits(3, 9), tf.float16)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = cross_entropy(tf.constant([1, 2, 3]), logits)
    assert loss.dtype == tf.float32
    assert tape.gradient(loss, logits).dtype == tf.float16


def test_no_rows_have_no_loss():
    assert cross_entropy(tf.zeros([0], tf.int32), tf.zeros([0, 4])).shape == [0]


OUT_OF_RANGE = "must be an id from 0 to V - 1"


@pytest.mark.parametrize("label", [-1, 4])
def test_an_id_outside_of_the_vocabulary_is_refused_by_name(label):
    with pytest.raises(ValueError, match=f"{OUT_OF_RANGE}.*from {label} to {label} for V = 4"):
        cross_entropy(tf.constant([label]), tf.zeros([1, 4]))
    with pytest.raises(tf.errors.InvalidArgumentError, match=OUT_OF_RANGE):
        tf.function(cross_entropy)(tf.constant([label]), tf.zeros([1, 4]))
    compiled = tf.function(cross_entropy, jit_compile=True)
    assert np.isnan(compiled(tf.constant([label]), tf.zeros([1, 4])))


@pytest.mark.parametrize("how", ["eager", "graph", "jit"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_row_that_does_not_count_has_no_loss_and_no_gradient_whatever_it_holds(how, smoothing):
    logits = random_logits(6, 5).numpy()
    logits[1, 2] = -np.inf
    logits[2], logits[3] = np.nan, -np.inf
    labels = np.array([3, 2, 0, -100, -1, 4])
    counted = np.array([True, False, False, False, False, True])

    def loss_and_gradient(labels, logits, counted=None):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = cross_entropy(labels, logits, smoothing, counted)
        return loss, tape.gradient(loss, logits)

    call = {
        "eager": loss_and_gradient,
        "graph": tf.function(loss_and_gradient),
        "jit": tf.function(loss_and_gradient, jit_compile=True),
    }[how]
    loss, gradient = call(tf.constant(labels), tf.constant(logits), tf.constant(counted))
    alone = loss_and_gradient(tf.constant(labels[counted]), tf.constant(logits[counted]))
    for found, expected in zip((loss.numpy(), gradient.numpy()), alone):
        np.testing.assert_allclose(found[counted], expected, rtol=1e-5, atol=1e-7)
        assert (found[~counted] == 0).all()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int64", "float32", "float64"])
def test_ids_of_every_type_are_exact(dtype):
    labels = np.array([100, 127, 3])
    logits = random_logits(3, 304)
    np.testing.assert_array_equal(
        cross_entropy(tf.constant(labels.astype(dtype)), logits),
        cross_entropy(tf.constant(labels), logits),
    )


def test_floats_that_cannot_be_ids_are_refused():
    logits = random_logits(1, 304)
    for dtype in ("bfloat16", "float16"):
        fits = tf.cast(tf.constant([256]), dtype)
        if dtype == "bfloat16":
            with pytest.raises(
                ValueError, match="bfloat16, which represents whole numbers up to 256"
            ):
                cross_entropy(fits, logits)
        else:
            assert np.isfinite(cross_entropy(fits, logits))
    with pytest.raises(ValueError, match="not whole.*5.7"):
        cross_entropy(tf.constant([5.7]), logits)


@pytest.mark.parametrize("labels, counted", [(3, None), (2, 3)])
def test_rows_that_do_not_match_are_refused(labels, counted):
    counted = counted and tf.ones([counted], tf.bool)
    with pytest.raises(ValueError, match="Received: .* of shape"):
        cross_entropy(tf.zeros([labels], tf.int32), tf.zeros([2, 4]), counted=counted)
