import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import entmax15, hardmax, sampled, softmax, sparsemax
from tests import oracles

PAIRS = [
    (softmax, oracles.softmax),
    (hardmax, oracles.hardmax),
    (sparsemax, oracles.sparsemax),
    (entmax15, oracles.entmax15),
]
each = pytest.mark.parametrize("normalize, oracle", PAIRS, ids=lambda f: f.__name__)


@each
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_are_those_of_the_oracle(normalize, oracle, dtype):
    scores = (4 * np.random.normal(size=(3, 5, 7))).astype(dtype)
    mask = np.random.random((3, 5, 7)) < 0.6
    mask[0, 0] = False
    for seen in (None, mask, mask[:, :1]):
        found = normalize(scores, seen)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, oracle(scores, seen), atol=1e-6)


@each
def test_weights_sum_to_one_on_visible_slots_and_are_exactly_zero_elsewhere(normalize, oracle):
    mask = np.random.random((50, 6)) < 0.5
    mask[:, 2] = True
    weights = normalize(100 * np.random.normal(size=(50, 6)), mask).numpy()
    assert (weights >= 0).all() and (weights[~mask] == 0).all()
    np.testing.assert_allclose(weights.sum(-1), 1)


@each
def test_a_row_without_visible_slots_is_zero_and_so_is_its_gradient(normalize, oracle):
    scores = tf.Variable(np.random.normal(size=(2, 3)))
    mask = np.array([[False, False, False], [True, True, False]])
    with tf.GradientTape() as tape:
        weights = normalize(scores, mask)
        total = tf.reduce_sum(weights * [1.0, 2.0, 3.0])
    assert (weights.numpy()[0] == 0).all()
    gradient = tape.gradient(total, scores)
    if normalize is not hardmax:  # a hard choice has no gradient
        assert (gradient.numpy()[0] == 0).all()
        assert np.isfinite(gradient).all() and (gradient.numpy()[1] != 0).any()


@each
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_types_are_normalised_in_float32(normalize, oracle, dtype):
    scores = tf.cast(tf.random.normal([2, 3000]), dtype)
    weights = normalize(scores)
    assert weights.dtype == tf.float32
    expected = oracle(tf.cast(scores, tf.float64).numpy())
    np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-9)


@each
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_scores_at_the_end_of_their_range_give_no_nan(normalize, oracle, dtype):
    largest = np.finfo(dtype).max
    scores = np.array([[largest, -largest, 0], [-largest] * 3, [largest] * 3], dtype)
    for mask in (None, [[True, False, True]], [[False, False, False]]):
        weights = normalize(scores, mask).numpy()
        assert np.isfinite(weights).all() and (weights >= 0).all()


@each
def test_padding_never_changes_the_weights(normalize, oracle):
    scores = np.random.normal(size=(2, 3, 4))
    junk = np.full((2, 3, 5), 1e6)
    mask = np.arange(9) < 4
    padded = normalize(np.concatenate([scores, junk], -1), mask)
    np.testing.assert_allclose(padded[..., :4], normalize(scores), atol=1e-6)
    assert (padded.numpy()[..., 4:] == 0).all()


def test_hardmax_takes_the_first_of_equals():
    assert hardmax([[1.0, 2.0, 2.0]]).numpy().tolist() == [[0, 1, 0]]
    assert hardmax([[1.0, 2.0, 2.0]], [[True, False, True]]).numpy().tolist() == [[0, 0, 1]]


@each
def test_normalizers_are_known_to_keras(normalize, oracle):
    saved = keras.saving.serialize_keras_object(normalize)
    assert keras.saving.deserialize_keras_object(saved) is normalize


@each
def test_eager_graph_and_xla_agree(normalize, oracle):
    scores, mask = np.random.normal(size=(2, 4)), np.array([[True] * 4, [False] * 4])
    for jit in (False, True):
        compiled = tf.function(normalize, jit_compile=jit, autograph=False)
        np.testing.assert_allclose(compiled(scores, mask), normalize(scores, mask), atol=1e-12)


def test_sparsemax_gives_the_weights_of_the_paper():
    np.testing.assert_allclose(sparsemax([1.0, 0.8, 0.1, -1.0]), [0.6, 0.4, 0, 0], atol=1e-6)


def test_no_point_of_the_simplex_is_nearer_than_sparsemax():
    for scores in np.random.normal(size=(20, 5)):
        nearest = np.sum((sparsemax(scores).numpy() - scores) ** 2)
        others = np.random.dirichlet(np.full(5, 0.5), 2000)
        assert nearest <= ((others - scores) ** 2).sum(-1).min()


def test_no_weights_have_more_of_scores_and_tsallis_entropy_than_entmax15():
    def objective(p, scores):  # Peters et al., 2019, eq. 9 and 10 with alpha = 1.5
        return p @ scores + (1 - (p**1.5).sum(-1)) / (1.5 * 0.5)

    for scores in np.random.normal(size=(20, 5)):
        others = np.random.dirichlet(np.full(5, 0.5), 2000)
        assert objective(entmax15(scores).numpy(), scores) >= objective(others, scores).max()


def test_sparsemax_has_the_jacobian_of_the_paper():
    scores = tf.Variable(np.random.normal(size=6))
    with tf.GradientTape() as tape:
        weights = sparsemax(scores)
    support = (weights.numpy() > 0).astype(float)
    expected = np.diag(support) - np.outer(support, support) / support.sum()
    np.testing.assert_allclose(tape.jacobian(weights, scores), expected, atol=1e-12)


def test_entmax15_has_the_jacobian_of_the_paper():
    scores = tf.Variable(np.random.normal(size=6))
    with tf.GradientTape() as tape:
        weights = entmax15(scores)
    s = np.sqrt(weights.numpy())
    expected = np.diag(s) - np.outer(s, s) / s.sum()
    np.testing.assert_allclose(tape.jacobian(weights, scores), expected, atol=1e-9)


@pytest.mark.parametrize("normalize", [softmax, sparsemax, entmax15])
def test_gradients_are_the_finite_differences(normalize):
    scores = 2 * np.random.normal(size=(40, 7))
    mask = np.random.random((40, 7)) < 0.7
    direction = np.random.normal(size=(40, 7))
    variable = tf.Variable(scores)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(normalize(variable, mask) * direction)
    gradient = tape.gradient(total, variable).numpy()
    step = 1e-6 * np.random.normal(size=(40, 7))
    change = [np.sum(normalize(scores + sign * step, mask) * direction, -1) for sign in (1, -1)]
    expected = (change[0] - change[1]) / 2
    np.testing.assert_allclose((gradient * step).sum(-1), expected, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("normalize", [sparsemax, entmax15])
def test_equal_scores_get_equal_weights_also_at_the_edge_of_the_support(normalize):
    assert normalize([[2.0, 2.0, 2.0, 2.0]]).numpy().tolist() == [[0.25] * 4]
    found = normalize([[1.0, 0.0, 0.0, -1.0]]).numpy()[0]
    assert found[1] == found[2] and abs(found.sum() - 1) < 1e-6
    assert normalize([[9.0, 0.0, 0.0]]).numpy().tolist() == [[1, 0, 0]]


@pytest.mark.parametrize("normalize", [softmax, hardmax, sparsemax, entmax15, sampled])
def test_no_slots_have_no_weights(normalize):
    assert normalize(np.zeros([2, 3, 0]), np.zeros([2, 1, 0], bool)).shape == (2, 3, 0)


@pytest.mark.parametrize("normalize", [sampled, sparsemax, entmax15])
def test_a_graph_that_knows_no_lengths_gives_the_eager_result(normalize):
    scores, mask = 9 * np.eye(4)[[2, 0]], np.array([[True] * 4, [False] * 4])
    signature = [tf.TensorSpec([None, None], tf.float64), tf.TensorSpec([None, None], tf.bool)]
    call = tf.function(normalize, input_signature=signature)
    scores *= 9  # a draw from these is certain
    np.testing.assert_allclose(call(scores, mask), normalize(scores, mask), atol=1e-12)


def test_slots_are_sampled_with_the_softmax_probabilities():
    scores = np.array([0.5, -1.0, 2.0, 0.0])
    mask = np.array([True, True, True, False])
    draws = sampled(np.tile(scores, [100_000, 1]), mask).numpy()
    assert (draws.sum(-1) == 1).all() and set(draws.flat) == {0, 1}
    np.testing.assert_allclose(draws.mean(0), softmax(scores, mask), atol=0.01)


def test_a_seed_repeats_a_draw_and_none_does_not():
    scores = tf.zeros([5, 100])
    np.testing.assert_array_equal(sampled(scores, seed=[1, 2]), sampled(scores, seed=[1, 2]))
    assert (sampled(scores, seed=[1, 2]).numpy() != sampled(scores, seed=[1, 3]).numpy()).any()
    first, second = sampled(scores).numpy(), sampled(scores).numpy()
    assert (first != second).any()
    tf.random.set_seed(7)
    one = sampled(scores)
    tf.random.set_seed(7)
    np.testing.assert_array_equal(sampled(scores), one)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_a_draw_is_one_hot_in_every_type_and_compiled_too(dtype):
    scores = tf.cast(np.random.normal(size=(4, 3, 6)), dtype)
    mask = np.random.random((4, 1, 6)) < 0.5
    mask[0] = False
    for call in (sampled, tf.function(sampled, jit_compile=True, autograph=False)):
        draw = call(scores, mask).numpy()
        assert draw.dtype == ("float64" if dtype == "float64" else "float32")
        expected = np.broadcast_to(mask.any(-1), (4, 3)).astype(float)
        np.testing.assert_array_equal(draw.sum(-1), expected)
        assert (draw[np.broadcast_to(~mask, draw.shape)] == 0).all()


@pytest.mark.parametrize("normalize", [softmax, hardmax, sparsemax, entmax15])
@pytest.mark.parametrize("shape", [(3,), (3, 4), (1, 2, 4)])
def test_a_mask_that_does_not_fit_the_scores_is_refused(normalize, shape):
    with pytest.raises(
        ValueError, match=r"mask must broadcast to \[\.\.\., S\]. Received: mask of"
    ):
        normalize(tf.zeros([2, 4]), tf.ones(shape, tf.bool))
