import numpy as np
import pytest
import tensorflow as tf

from models import Seq2Seq
from tests.models.decoders import SOURCES, TARGETS, V, check_decoder, check_export, check_gradients
from tests.models.toy import run_toy
from tests.results import figure

SIZES = {
    "sutskever": dict(units=6, layers=2, embedding_width=5),
    "cho": dict(units=6, embedding_width=5, maxout_units=4),
}
each = pytest.mark.parametrize("paper", list(SIZES))


def small(paper, **changes):
    model = Seq2Seq.of(paper, V, **{**SIZES[paper], **changes})
    model.build()
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.normal(size=weight.shape, scale=0.5))
    return model


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(cell, x, h, c):
    z = x @ cell.kernel.numpy() + h @ cell.recurrent_kernel.numpy() + cell.bias.numpy()
    i, f, g, o = np.split(z, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru(cell, x, h):
    """Cho's letters: z is how much stays."""
    W_z, W_r, W = np.split(cell.kernel.numpy(), 3, 1)
    U_z, U_r, U = np.split(cell.recurrent_kernel.numpy(), 3, 1)
    b_z, b_r, b = np.split(cell.bias.numpy(), 3)
    z, r = sigmoid(x @ W_z + h @ U_z + b_z), sigmoid(x @ W_r + h @ U_r + b_r)
    return z * h + (1 - z) * np.tanh(x @ W + (r * h) @ U + b)


def dense(layer, x):
    return x @ layer.kernel.numpy() + layer.bias.numpy()


def equations(model, paper, source, target_in):
    """One pair, in NumPy -> logits [T, V]."""
    E_x, E_y = (e.embeddings.numpy() for e in (model.source_embedding, model.target_embedding))
    logits = []
    if paper == "sutskever":
        v = [[np.zeros(6), np.zeros(6)] for _ in range(2)]
        for x in E_x[source[::-1]]:
            for layer, state in zip(model.encoder, v):
                state[:] = lstm(layer.cell, x, *state)
                x = state[0]
        for y in E_y[target_in]:
            for cell, state in zip(model.cell.cells, v):
                state[:] = lstm(cell, y, *state)
                y = state[0]
            logits.append(dense(model.output_layer, y))
        return np.array(logits)
    h = np.zeros(6)
    for x in E_x[source]:
        h = gru(model.encoder[0].cell, x, h)
    c = np.tanh(dense(model.summary, h))
    s = np.tanh(dense(model.bridge, c))
    W_z, W_r, W = np.split(model.cell.given.kernel.numpy(), 3, 1)
    b_z, b_r, b = np.split(model.cell.given.bias.numpy(), 3)
    UC_z, UC_r, UC = np.split(model.cell.carried.kernel.numpy(), 3, 1)
    for y in E_y[target_in]:
        z = sigmoid(y @ W_z + s @ UC_z[:6] + c @ UC_z[6:] + b_z)
        r = sigmoid(y @ W_r + s @ UC_r[:6] + c @ UC_r[6:] + b_r)
        s = z * s + (1 - z) * np.tanh(y @ W + b + r * (s @ UC[:6] + c @ UC[6:]))
        t = dense(model.maxout_layer, np.concatenate([s, y, c])).reshape(4, 2).max(1)
        logits.append(dense(model.output_layer, t))
    return np.array(logits)


@each
def test_it_computes_the_equations_of_the_paper(paper):
    model = small(paper)
    logits = model((SOURCES, TARGETS)).numpy()
    for row, length in enumerate([5, 2, 4]):
        expected = equations(model, paper, SOURCES[row, :length], TARGETS[row])
        np.testing.assert_allclose(logits[row], expected, atol=1e-5)


@each
def test_it_is_a_decoder_and_every_weight_learns(paper, tmp_path):
    model = small(paper, dropout=0.1)
    check_decoder(model, tmp_path)
    check_gradients(model)


def test_reading_backwards_is_reading_the_reversed_source():
    model = small("sutskever", reverse_source=False)
    backwards = small("sutskever")
    backwards.set_weights(model.get_weights())
    turned = np.array([[2, 8, 7, 6, 5], [2, 9, 0, 0, 0], [2, 10, 4, 4, 0]])
    np.testing.assert_allclose(backwards((SOURCES, TARGETS)), model((turned, TARGETS)), atol=1e-6)


def test_the_weights_of_the_papers():
    """4 n (m + n + 1) a layer of LSTM, 3 n (m + n + 1) a GRU, and Cho's C."""
    n, m, l = 6, 5, 4  # noqa: E741
    lstms = 4 * n * (m + n + 1) + 4 * n * (n + n + 1)
    assert small("sutskever").count_params() == 2 * V * m + 2 * lstms + V * (n + 1)
    grus = 3 * n * (m + n + 1) + 3 * n * (m + 2 * n + 1)
    output = 2 * l * (n + m + n + 1) + V * (l + 1)
    assert small("cho").count_params() == 2 * V * m + grus + 2 * n * (n + 1) + output
    model = Seq2Seq.of("sutskever", V, units=30, layers=2, embedding_width=30)
    model.build()
    for weight in model.weights:
        assert 0.05 < np.abs(weight).max() <= 0.08, weight.path
    one, two = (cell.recurrent_kernel.numpy() for cell in model.cell.cells)
    assert not np.array_equal(one, two)


def test_the_summary_is_seen_at_every_step_and_by_the_output():
    model = small("cho")
    _, state = model.encode(SOURCES)
    other = state._replace(summary=state.summary + 1)
    words = model.embed(np.full(3, 4))
    (output, after), (changed, after_other) = model.cell(words, state), model.cell(words, other)
    assert np.abs(after.hidden - after_other.hidden).min(1).max() > 0
    np.testing.assert_array_equal(after.summary, state.summary)
    np.testing.assert_array_equal(changed[:, -6:] - output[:, -6:] > 0, True)


def test_bad_arguments_are_named():
    for settings, message in [
        (dict(units=0), "units, embedding_width must be .* Received: units=0"),
        (dict(maxout_units=3, layers=2), "one layer. Received: maxout_units=3, layers=2"),
    ]:
        with pytest.raises(ValueError, match=message):
            Seq2Seq(9, **settings)
    with pytest.raises(ValueError, match="paper must be one of .* Received: 'luong'"):
        Seq2Seq.of("luong", 9)
    with pytest.raises(ValueError, match="return_alignments=True for a cell of type"):
        model = small("cho")
        model.decode(tf.constant(TARGETS), *model.encode(SOURCES), return_alignments=True)


@pytest.mark.full
@each
def test_its_export_gives_the_same_answers(paper, tmp_path):
    check_export(small(paper), tmp_path, return_alignments=False)


@pytest.mark.slow
def test_its_toy_task(tmp_path):
    forwards, backwards = (
        int(part.split()[0]) for part in run_toy("seq2seq", tmp_path).split("exactly right: ")[1:]
    )
    assert backwards > forwards


def test_the_result_meets_its_bar():
    """Short strings are reversed; reading backwards helps to copy; SCAN as published."""
    assert figure("seq2seq", "no attention, reversal, 4,000 steps", "tokens 8") >= 98
    forwards, backwards = (
        figure("seq2seq", f"Sutskever, {way}, copy", "loss") for way in ("forwards", "backwards")
    )
    assert backwards < forwards
    exact = figure("seq2seq", "attention, reversal", "exact 20")
    assert exact >= 95
    assert exact >= figure("seq2seq", "no attention, reversal", "exact 20") + 50
    assert figure("seq2seq", "Sutskever, SCAN simple", "exact") >= 90
