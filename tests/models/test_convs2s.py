import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.data import batches
from keras_attention.export import Endpoints, save_search
from keras_attention.training import token_objective
from models import ConvS2S
from models._convolution import WeightNormDense
from tests.models.toy import check_saved, is_png, run_toy, with_random_weights
from tests.results import figure

SIZES = dict(
    vocab_size=11, target_vocab_size=9, units=4, embedding_width=6, encoder_layers=2,
    decoder_layers=2, max_length=12, dropout=0.0,
)  # fmt: skip
SOURCE = np.array([[5, 6, 7, 2], [9, 2, 0, 0]])
TARGET = np.array([[1, 4, 3], [1, 8, 5]])


def small(**settings):
    return with_random_weights(ConvS2S(**{**SIZES, **settings}))


@pytest.fixture(scope="module")
def model():
    return small()


def linear(layer, x):
    v, g, b = layer.get_weights()
    return x @ (v / np.linalg.norm(v, axis=0) * g) + b


def convolve(layer, x, before):
    """A step at a time, with so many zeros before the first."""
    k, found = layer.kernel_size, []
    padded = np.pad(x, [[before, k - 1 - before], [0, 0]])
    for t in range(len(x)):
        a, b = np.split(linear(layer.linear, padded[t : t + k].reshape(-1)), 2)
        found.append(a / (1 + np.exp(-b)))
    return np.array(found)


def table(layer):
    return np.array(layer.embeddings)


def by_the_equations(model, source, target):
    """Logits [T, V] and weights [T, S] of one pair without padding."""
    cell, half, m = model.cell, 0.5**0.5, len(source)
    e = table(model.source_embedding)[source] + np.array(model.source_positions.positions)[:m]
    h = linear(model.encoder_in, e)
    for layer in model.encoder:
        h = (convolve(layer, h, 1) + h) * half
    z = linear(model.encoder_out, h)
    g = table(model.target_embedding)[target]
    g = g + np.array(model.target_positions.positions)[: len(target)]
    h, looked_at = linear(cell.map_in, g), []
    for convolution, query, back in zip(cell.convolutions, cell.queries, cell.contexts):
        v = convolve(convolution, h, 2)
        scores = (linear(query, v) + g) @ z.T
        a = np.exp(scores - scores.max(-1, keepdims=True))
        a /= a.sum(-1, keepdims=True)
        c = m * np.sqrt(1 / m) * a @ (z + e)
        h = ((v + linear(back, c)) * half + h) * half
        looked_at.append(a)
    kernel, bias = model.output_layer.get_weights()
    return linear(cell.map_out, h) @ kernel + bias, np.mean(looked_at, 0)


def test_it_computes_the_equations_of_the_paper(model):
    logits = model((SOURCE, TARGET)).numpy()
    memory, state = model.encode(SOURCE)
    _, weights = model.decode(TARGET, memory, state, return_alignments=True)
    for row, length in enumerate((4, 2)):
        want, looked_at = by_the_equations(model, SOURCE[row, :length], TARGET[row])
        np.testing.assert_allclose(logits[row], want, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(weights[row, :, :length], looked_at, atol=1e-5)
        assert not weights[row, :, length:].numpy().any()


def test_steps_give_what_the_whole_sequence_gives(model):
    logits = model((SOURCE, TARGET)).numpy()
    memory, state = model.encode(SOURCE)
    for t in range(3):
        output, state = model.cell(model.embed(TARGET[:, t]), state, memory=memory)
        np.testing.assert_allclose(model.project(output), logits[:, t], rtol=1e-4, atol=1e-5)


def test_no_token_sees_those_after_it(model):
    later = np.where(TARGET == 3, 6, TARGET)
    logits, other = model((SOURCE, TARGET)).numpy(), model((SOURCE, later)).numpy()
    np.testing.assert_array_equal(logits[0, :2], other[0, :2])
    assert (logits[0, 2] != other[0, 2]).any()


def test_padding_changes_nothing(model):
    wide = np.pad(SOURCE, [[0, 0], [0, 3]]), np.pad(TARGET, [[0, 0], [0, 2]])
    np.testing.assert_allclose(model(wide)[:, :3], model((SOURCE, TARGET)), rtol=1e-5, atol=1e-5)
    found = model((np.zeros([1, 2]), TARGET[:1])).numpy()  # no token in the source
    assert np.isfinite(found).all()
    assert model((SOURCE, np.zeros([2, 0]))).shape == (2, 0, 9)


def test_beams_are_queries_to_one_memory(model):
    found = model.generate(SOURCE, beam_width=3, max_length=5, return_alignments=True)
    alone = model.generate(SOURCE[1:, :2], beam_width=3, max_length=5)
    np.testing.assert_array_equal(found.ids[1:, :, : alone.ids.shape[2]], alone.ids)
    assert found.alignments.shape == (2, 3, found.ids.shape[2], 4)


def test_weights_are_normalised_and_begin_with_their_own_length():
    layer = WeightNormDense(3, gain=4.0)
    layer.build((None, 5))
    v, g, _ = layer.get_weights()
    np.testing.assert_allclose(g, np.linalg.norm(v, axis=0), rtol=1e-6)
    x = np.ones([1, 5], np.float32)
    before = layer(x)
    layer.direction.assign(7 * v)  # only its direction counts
    np.testing.assert_allclose(layer(x), before, rtol=1e-5)


def test_attentions_share_one_gradient_of_the_encoder():
    """With L layers the encoder gets a part in L of the gradient, and the forward pass is as is."""
    model = small(decoder_layers=1)
    bias = model.encoder_out.bias
    with tf.GradientTape(persistent=True) as tape:
        total = tf.reduce_sum(model((SOURCE, TARGET)) ** 2)
    whole = tape.gradient(total, bias)
    model._config["decoder_layers"] = 4
    with tf.GradientTape() as tape:
        same = tf.reduce_sum(model((SOURCE, TARGET)) ** 2)
    np.testing.assert_allclose(same, total, rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(same, bias), whole / 4, rtol=1e-4)


@pytest.mark.full
def test_fit_lowers_the_loss_and_a_saved_model_answers_the_same(tmp_path):
    keras.utils.set_random_seed(0)
    model = small(dropout=0.1)
    model.compile("adam", **token_objective())
    rows = [[4, 5, 6], [7, 8], [3]]
    examples = batches(rows, rows, 3, seed=0).repeat(8)
    losses = model.fit(examples, epochs=2, shuffle=False, verbose=0).history["loss"]
    assert losses[1] < losses[0]
    check_saved(model, (SOURCE, TARGET), tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_narrow_policies_stay_close(model, policy):
    narrow = small(dtype=policy)
    narrow.set_weights(model.get_weights())
    wide = model((SOURCE, TARGET)).numpy()
    for call in (narrow, tf.function(narrow, jit_compile=True)):
        found = tf.cast(call((tf.constant(SOURCE), tf.constant(TARGET))), tf.float32)
        np.testing.assert_allclose(found, wide, atol=0.05 * abs(wide).max())
    narrow.generate(SOURCE, beam_width=2, max_length=4)


@pytest.mark.full
def test_an_export_answers_in_a_clean_process(model, tmp_path):
    save_search(str(tmp_path / "served"), Endpoints(model), warm_up=False)


@pytest.mark.parametrize("sizes", [{"kernel_size": 2}, {"units": 0}, {"decoder_layers": 0}])
def test_sizes_that_cannot_be_are_refused(sizes):
    name, value = next(iter(sizes.items()))
    with pytest.raises(ValueError, match=f"'{name}': {value}"):
        ConvS2S(11, **sizes)


def test_more_tokens_than_positions_are_refused(model):
    with pytest.raises(tf.errors.InvalidArgumentError, match="Only 12 positions"):
        model((np.full([1, 13], 5), TARGET[:1]))


def test_the_copies_are_right():
    assert figure("convs2s", "copy", "exact") >= 99


@pytest.mark.slow
def test_the_toy_task_is_learnt(tmp_path):
    said = run_toy("convs2s", tmp_path)
    assert is_png(tmp_path / "convs2s.png")
    assert int(said.split()[-3]) >= 190
