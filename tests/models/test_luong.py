import math

import numpy as np
import pytest

from models import Luong, Seq2Seq, luong
from tests.models.decoders import SOURCES, TARGETS, V, check_decoder, check_export, check_gradients
from tests.models.toy import is_png, run_toy
from tests.results import figure

n, m = 6, 5


def small(attention="global", score="general", **settings):
    settings = {"units": n, "layers": 2, "embedding_width": m, "radius": 5, **settings}
    model = Luong(V, attention=attention, score=score, **settings)
    model.build()
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.normal(size=weight.shape, scale=0.5))
    return model


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(cell, x, state):
    h, c = state
    z = x @ cell.kernel.numpy() + h @ cell.recurrent_kernel.numpy() + cell.bias.numpy()
    i, f, g, o = np.split(z, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    state[:] = sigmoid(o) * np.tanh(c), c
    return state[0]


def scores(attention, score, h, memory):
    inner = getattr(attention, "attention", attention)
    if score == "dot":
        return memory @ h
    if score == "general":
        return (memory @ inner.score.kernel.numpy().T) @ h
    if score == "location":
        return (h @ inner.score.kernel.numpy())[: len(memory)]
    W_q, W_k = inner.query_layer.kernel.numpy(), inner.key_layer.kernel.numpy()
    return np.tanh(h @ W_q + memory @ W_k) @ inner.score.v.numpy()


def equations(model, kind, score, source, target_in):
    """One pair, in NumPy -> logits [T, V], alignments [T, S]."""
    attention, D = model.cell.attention_mechanism, model.get_config()["radius"]
    E_x, E_y = (e.embeddings.numpy() for e in (model.source_embedding, model.target_embedding))
    states = [[np.zeros(n), np.zeros(n)] for _ in range(2)]
    memory, logits, alignments = [], [], []
    for x in E_x[source[::-1]]:
        for layer, state in zip(model.encoder, states):
            x = lstm(layer.cell, x, state)
        memory.insert(0, x)
    memory, S = np.array(memory), len(memory)
    fed = np.zeros(n)
    for t, y in enumerate(E_y[target_in]):
        h = np.concatenate([y, fed])
        for cell, state in zip(model.cell.cell.cells, states):
            h = lstm(cell, h, state)
        a = np.exp(scores(attention, score, h, memory))
        p = min(t, S - 1)
        if kind == "local-p":
            p = S * sigmoid(np.tanh(h @ attention.w_p.numpy()) @ attention.v_p.numpy()[:, 0])
        if kind != "global":
            a = a * (np.abs(np.arange(S) - p) <= D)
        a = a / a.sum()
        if kind == "local-p":
            a = a * np.exp(-((np.arange(S) - p) ** 2) / (2 * (D / 2) ** 2))
        fed = np.tanh(np.concatenate([h, a @ memory]) @ model.cell.attention_layer.kernel.numpy())
        logits.append(fed @ model.output_layer.kernel.numpy() + model.output_layer.bias.numpy())
        alignments.append(a)
    return np.array(logits), np.array(alignments)


@pytest.mark.parametrize(
    "kind, score, radius",
    [
        ("global", "dot", 10),
        ("global", "concat", 10),
        ("local-m", "general", 1),
        ("local-p", "location", 5),
    ],
)
def test_it_computes_the_equations_of_the_paper(kind, score, radius):
    model = small(kind, score, radius=radius)
    logits, alignments = model.decode(TARGETS, *model.encode(SOURCES), return_alignments=True)
    for row, length in enumerate([5, 2, 4]):
        expected, looked = equations(model, kind, score, SOURCES[row, :length], TARGETS[row])
        np.testing.assert_allclose(logits[row], expected, atol=1e-5)
        np.testing.assert_allclose(alignments[row, :, :length], looked, atol=1e-5)
        assert not alignments[row, :, length:].numpy().any()


def same_logits(one, other, weights=None):
    other.set_weights(one.get_weights() if weights is None else weights)
    np.testing.assert_allclose(one((SOURCES, TARGETS)), other((SOURCES, TARGETS)), atol=1e-5)


def test_wide_windows_are_global_attention():
    whole = small("global")
    same_logits(whole, small("local-m", radius=5))
    predictive = small("local-p", radius=math.inf)
    same_logits(predictive, whole, [w for w in predictive.weights if "_p" not in w.path[-3:]])


def test_general_with_the_identity_is_dot():
    general, dot = small("global", "general"), small("global", "dot")
    kernel = general.cell.attention_mechanism.score.kernel
    kernel.assign(np.eye(n))
    same_logits(general, dot, [w for w in general.weights if w is not kernel])


def test_without_attention_it_is_sutskevers_model():
    plain = Seq2Seq(V, units=n, layers=2, embedding_width=m, reverse_source=True)
    plain.build()
    same_logits(small(None), plain)


def test_input_feeding_widens_the_first_layer_alone():
    with_, without = small(), small(input_feeding=False)
    assert with_.count_params() - without.count_params() == 4 * n * n
    expected = 2 * V * m + V * (n + 1) + 2 * n * n + n * n  # W_c, W_a
    expected += 2 * 4 * n * (m + n + 1) + 2 * 4 * n * (n + n + 1)
    assert without.count_params() == expected
    memory, state = without.encode(SOURCES)
    output, after = without.cell(without.embed(TARGETS[:, 0]), state, memory=memory)
    other, _ = without.cell(
        without.embed(TARGETS[:, 0]), state.clone(attention=state.attention + 1), memory=memory
    )
    np.testing.assert_array_equal(output, other)
    np.testing.assert_array_equal(after.attention, output)
    _, alignments = without.decode(TARGETS, memory, state, return_alignments=True)
    np.testing.assert_allclose(alignments[:, 0], after.alignments, atol=1e-6)


def test_the_location_score_ignores_places_beyond_its_length():
    model = small("global", "location", max_length=3)
    logits, alignments = model.decode(TARGETS, *model.encode(SOURCES), return_alignments=True)
    assert np.isfinite(logits).all() and not alignments[..., 3:].numpy().any()
    np.testing.assert_allclose(alignments.numpy().sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("kind", ["local-p", pytest.param("local-m", marks=pytest.mark.full)])
def test_it_is_a_decoder_and_every_weight_learns(kind, tmp_path):
    model = small(kind, score="concat", dropout=0.1)
    check_decoder(model, tmp_path)
    check_gradients(model)


def test_bad_arguments_are_named():
    for settings in (dict(attention="soft"), dict(score="cosine")):
        with pytest.raises(ValueError, match=f"Received: .*{next(iter(settings.values()))}"):
            Luong(9, **settings)
    with pytest.raises(ValueError, match="radius D must be at least 1"):
        Luong(9, attention="local-m", radius=0)
    with pytest.warns(
        UserWarning, match="local-p hardly learns with D below 5. Received: radius=3"
    ):
        Luong(9, units=2, attention="local-p", radius=3)


@pytest.mark.full
@pytest.mark.parametrize("kind", ["global", "local-m", "local-p"])
def test_its_export_gives_the_same_answers(kind, tmp_path):
    check_export(small(kind), tmp_path)


@pytest.mark.slow
def test_its_toy_task(tmp_path):
    last = run_toy("luong", tmp_path).splitlines()[-1]
    assert int(last.removeprefix("exactly right: ").split()[0]) >= 150
    assert is_png(tmp_path / "luong.png")


def test_the_result_meets_its_bar():
    """The bars of strings; on Multi30k attention and input feeding help."""
    for score in luong.SCORES:
        assert figure("luong", f"global {score}, copy", "tokens 20") >= 95
    assert figure("luong", "local-m D=3, copy", "exact 20") >= 90
    reversal = figure("luong", "local-m D=3, reversal", "exact 20")
    assert reversal <= figure("luong", "no attention, reversal", "exact 20") + 5
    for task in ("copy", "reversal"):
        assert figure("luong", f"local-p D=10, {task}", "exact 20") >= 90
    assert figure("luong", "local-p D=10, copy to 60", "exact 60") >= 90
    base, attention, feeding = (
        figure("luong", f"Multi30k: {name}", "perplexity")
        for name in ("+ dropout", "+ global (location)", "+ input feeding")
    )
    assert feeding < attention < base
