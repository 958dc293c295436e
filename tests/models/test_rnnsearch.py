import keras
import numpy as np
import pytest

from models import RNNsearch
from tests.models.decoders import SOURCES, TARGETS, V, check_decoder, check_export, check_gradients
from tests.models.toy import is_png, run_toy
from tests.results import figure, figures

n, m, l, n_a = 6, 5, 4, 7  # noqa: E741  the letters of the paper


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    model = RNNsearch(
        V, units=n, embedding_width=m, maxout_units=l, attention_units=n_a, dropout=0.1
    )
    model.build()
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.normal(size=weight.shape, scale=0.5))
    return model


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru(cell, x, s):
    """Bahdanau's letters: z is how much is new, where Keras' z is how much stays."""
    W_z, W_r, W = np.split(cell.kernel.numpy(), 3, 1)
    U_z, U_r, U = np.split(cell.recurrent_kernel.numpy(), 3, 1)
    b_z, b_r, b = np.split(cell.bias.numpy(), 3)
    z = sigmoid(-(x @ W_z + s @ U_z + b_z))
    r = sigmoid(x @ W_r + s @ U_r + b_r)
    new = np.tanh(x @ W + (r * s) @ U + b)
    return (1 - z) * s + z * new


def equations(model, source, target_in):
    """One pair, in NumPy -> logits [T, V], alignments [T, S]."""
    x = model.source_embedding.embeddings.numpy()[source]
    forward, backward = model.encoder.forward_layer.cell, model.encoder.backward_layer.cell
    ahead, behind, s = [], [], np.zeros(n)
    for x_j in x:
        ahead.append(s := gru(forward, x_j, s))
    s = np.zeros(n)
    for x_j in x[::-1]:
        behind.insert(0, s := gru(backward, x_j, s))
    h = np.concatenate([ahead, behind], 1)
    s = np.tanh(behind[0] @ model.bridge.kernel.numpy() + model.bridge.bias.numpy())
    attention = model.cell.attention
    W_a, U_a = attention.query_layer.kernel.numpy(), attention.key_layer.kernel.numpy()
    logits, alignments = [], []
    for y in model.target_embedding.embeddings.numpy()[target_in]:
        e = np.tanh(s @ W_a + h @ U_a) @ attention.score.v.numpy()
        alpha = np.exp(e) / np.exp(e).sum()
        c = alpha @ h
        t = np.concatenate([s, y, c]) @ model.maxout_layer.kernel.numpy()
        t = (t + model.maxout_layer.bias.numpy()).reshape(l, 2).max(1)
        logits.append(t @ model.output_layer.kernel.numpy() + model.output_layer.bias.numpy())
        alignments.append(alpha)
        s = gru(model.cell.gru, np.concatenate([y, c]), s)
    return np.array(logits), np.array(alignments)


def test_it_computes_the_equations_of_the_appendix(model):
    logits = model((SOURCES, TARGETS)).numpy()
    for row, length in enumerate([5, 2, 4]):
        expected, _ = equations(model, SOURCES[row, :length], TARGETS[row])
        np.testing.assert_allclose(logits[row], expected, atol=1e-5)


def test_a_search_returns_the_alignments_of_the_equations(model):
    found = model.generate(SOURCES, beam_width=2, max_length=4, return_alignments=True)
    ids, length = found.ids[2, 1].numpy(), int(found.lengths[2, 1])
    _, expected = equations(model, SOURCES[2, :4], [1, *ids[: length - 1]])
    np.testing.assert_allclose(found.alignments[2, 1, :length, :4], expected, atol=1e-5)
    assert not found.alignments[2, 1, :, 4:].numpy().any()


def test_it_has_the_weights_of_the_appendix_and_its_sizes(model):
    encoder = V * m + 2 * 3 * (m * n + n * n + n)
    attention = n_a * n + n_a * 2 * n + n_a
    decoder = V * m + (n * n + n) + 3 * (m * n + n * n + 2 * n * n + n)
    output = 2 * l * (n + m + 2 * n) + 2 * l + l * V + V
    assert model.count_params() == encoder + attention + decoder + output
    config = RNNsearch(30000).get_config()
    sizes = "units", "embedding_width", "maxout_units", "attention_units"
    assert [config[name] for name in sizes] == [1000, 620, 500, 1000]


def test_the_query_is_the_previous_state(model):
    """So the first alignment does not depend on the first word, and the second does."""
    memory, state = model.encode(SOURCES)
    one, other = (
        model.cell(model.embed(np.full(3, word)), state, memory=memory)[1] for word in (4, 5)
    )
    np.testing.assert_array_equal(one.alignments, other.alignments)
    one, other = (
        model.cell(model.embed(np.full(3, 4)), state, memory=memory)[1] for state in (one, other)
    )
    assert not np.allclose(one.alignments, other.alignments)


def test_it_is_a_decoder(model, tmp_path):
    check_decoder(model, tmp_path)


def test_every_weight_learns(model):
    check_gradients(model)


def test_bad_arguments_are_named(model):
    with pytest.raises(ValueError, match="units must be at least 1. Received: units=0"):
        RNNsearch(9, units=0)
    with pytest.raises(ValueError, match="source"):
        model((SOURCES + 0.5, TARGETS))


@pytest.mark.full
def test_its_export_gives_the_same_answers(model, tmp_path):
    check_export(model, tmp_path)


@pytest.mark.slow
def test_its_toy_task(tmp_path):
    last = run_toy("rnnsearch", tmp_path).splitlines()[-1]
    assert int(last.removeprefix("exactly right: ").split()[0]) >= 190
    assert is_png(tmp_path / "rnnsearch.png")


def test_the_result_meets_its_bar():
    """Alignments are right; attention helps, most with strings longer than in the training."""
    assert min(figures("rnnsearch", "RNNsearch, reversal", "exact 20")) >= 95
    assert min(figures("rnnsearch", "RNNsearch, reversal", "aligned")) >= 95
    assert min(figures("rnnsearch", "RNNsearch, copy", "aligned")) >= 95
    for length, points in ((20, 50), (25, 0)):
        with_, without = (
            figure("rnnsearch", f"{name}, reversal", f"exact {length}")
            for name in ("RNNsearch", "RNNencdec")
        )
        assert with_ >= without + points
    with_, without = (
        {k: figure("rnnsearch", f"{name}, Multi30k", f"BLEU{k}") for k in ("", " short", " long")}
        for name in ("RNNsearch", "RNNencdec")
    )
    assert with_[""] > without[""]
    assert with_[" long"] - without[" long"] > with_[" short"] - without[" short"]
