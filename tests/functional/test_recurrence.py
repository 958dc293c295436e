"""`functional.recurrence`: all steps of a stack of cells under attention, and their gradient.

Shapes: T steps, B rows, U units, S slots; one row has no active step, and sees no slot.
"""

import itertools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import (
    GRUWeights,
    LSTMWeights,
    RecurrentAttention,
    recurrence,
)
from keras_attention.functional.recurrence import Recurrence

T, B, U, S, KEYS, VALUES, A = 3, 4, 3, 5, 4, 2, 6
SCORES = (None, "additive", "multiplicative")
CELLS = (("lstm",), ("gru",), ("lstm", "gru"), ("gru", "lstm"))


def case(cells=("lstm",), score=None, feeds=False, layer="tanh", masked=False, dropped=False):
    """The arguments of `recurrence`, float64, random."""
    random = np.random.default_rng(0)

    def draw(*shape):
        return tf.constant(random.standard_normal(shape) * 0.5)

    context = VALUES if layer is None else A
    layers, states = [], []
    for i, cell in enumerate(cells):
        gates = (4 if cell == "lstm" else 3) * U
        width = U if i else context if feeds else 0
        kernel = draw(width, gates) if width else None
        drop = tf.constant(random.integers(0, 2, (B, width)) * 2.0) if width and dropped else None
        weights: Any = (draw(U, gates), kernel, draw(gates) if i else None, drop)
        if cell == "lstm":
            layers.append(LSTMWeights(*weights))
            states.append((draw(B, U), draw(B, U)))
        else:
            layers.append(GRUWeights(*weights, draw(gates)))
            states.append((draw(B, U),))
    arguments: dict = {"layers": layers, "states": states}
    arguments["given"] = draw(T, B, (4 if cells[0] == "lstm" else 3) * U)
    if score is not None:
        additive = score == "additive"
        arguments["attention"] = RecurrentAttention(
            draw(B, S, KEYS if additive else U),
            draw(B, S, VALUES),
            draw(U, KEYS) if additive else None,
            draw(KEYS) if additive else None,
            None if layer is None else draw(U + VALUES, A),
            None if layer is None else draw(A),
        )
        arguments["fed"] = draw(B, context)
        arguments["memory_mask"] = tf.sequence_mask([5, 3, 1, 0], S)
        arguments["activation"] = layer or "linear"
    if masked:
        arguments["active"] = tf.transpose(tf.sequence_mask([3, 1, 0, 2], T))
    return arguments


def step_by_step(given, layers, states, attention=None, fed=None, memory_mask=None, active=None,
                 activation="linear"):  # fmt: skip
    """The same steps one by one, for TensorFlow to differentiate."""
    layers = [layer.for_steps() for layer in layers]
    hidden, attentions, weights = [], [], []
    for t in range(given.shape[0]):
        below, inputs, after = fed if layers[0].kernel is not None else None, given[t], []
        for layer, state in zip(layers, states):
            new, _ = layer.step(inputs, below, state)
            after.append(keep(active, t, new, state))
            below, inputs = after[-1][0], None
        states = after
        hidden.append(below)
        if attention is not None:
            new, looked, _ = attention.for_steps().step(below, memory_mask, activation)
            (fed,) = keep(active, t, (new,), (fed,))
            attentions.append(fed)
            weights.append(looked)
    stacks = [tf.stack(x) if x else None for x in (hidden, attentions, weights)]
    return Recurrence(*stacks, states, fed)


def keep(active, t, new, old):
    if active is None:
        return new
    return tuple(tf.where(active[t][:, None], x, y) for x, y in zip(new, old))


def tensors(nest):
    return [x for x in tf.nest.flatten(nest) if x is not None]


def floats(arguments):
    """Everything that has a gradient: no masks."""
    drops = [layer.mask for layer in arguments["layers"] if layer.mask is not None]
    names = ("given", "layers", "states", "attention", "fed")
    found = tensors([arguments.get(name) for name in names])
    return [x for x in found if not any(x is drop for drop in drops)]


def weighted(out, active):
    """A number that depends on all that steps give; of inactive steps weights do not count."""
    random = np.random.default_rng(1)
    if active is not None and out.weights is not None:
        out = out._replace(weights=tf.where(active[:, :, None], out.weights, 0.0))
    return tf.add_n(
        [
            tf.reduce_sum(tf.cast(x, tf.float64) * random.standard_normal(x.shape))
            for x in tensors(list(out))
        ]
    )


def gradients(run, arguments):
    inputs = floats(arguments)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        out = run(**arguments)
        total = weighted(out, arguments.get("active"))
    found = tape.gradient(total, inputs, unconnected_gradients="zero")
    return tensors(list(out)), found


def check_against_steps(**settings):
    arguments = case(**settings)
    for ours, theirs in zip(gradients(recurrence, arguments), gradients(step_by_step, arguments)):
        for x, y in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(x, y, atol=1e-12)


@pytest.mark.parametrize(
    ("cells", "score", "feeds", "layer", "masked", "dropped"),
    [
        (("lstm",), None, False, None, False, False),
        (("gru",), None, False, None, True, False),
        (("lstm", "gru"), "additive", True, "tanh", True, True),
        (("gru", "lstm"), "multiplicative", True, "linear", False, True),
        (("gru",), "additive", False, None, True, False),
        (("lstm",), "multiplicative", True, None, False, False),
        (("lstm", "gru"), "additive", False, "relu", False, False),
        (("lstm",), "additive", True, "sigmoid", True, False),
    ],
)
def test_outputs_and_gradients_are_those_of_single_steps(
    cells, score, feeds, layer, masked, dropped
):
    check_against_steps(
        cells=cells, score=score, feeds=feeds, layer=layer, masked=masked, dropped=dropped
    )


@pytest.mark.full
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("cells", CELLS)
def test_every_combination_gives_the_outputs_and_gradients_of_single_steps(cells, score):
    layers = [None] if score is None else [None, "linear", "tanh", "relu", "sigmoid"]
    feeds = [False] if score is None else [False, True]
    for layer, fed, masked, dropped in itertools.product(layers, feeds, *[[False, True]] * 2):
        check_against_steps(
            cells=cells, score=score, feeds=fed, layer=layer, masked=masked, dropped=dropped
        )


def test_lstm_under_additive_attention_computes_the_equations_of_the_papers():
    arguments = case(score="additive", feeds=True)
    (lstm,), ((h, c),) = arguments["layers"], arguments["states"]
    look, fed = arguments["attention"], arguments["fed"].numpy()
    h, c, mask = h.numpy(), c.numpy(), arguments["memory_mask"].numpy()

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    out = recurrence(**arguments)
    for t in range(T):
        z = arguments["given"][t] + fed @ lstm.kernel + h @ lstm.recurrent_kernel
        i, f, g, o = np.split(z.numpy(), 4, 1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        query = h @ look.query_kernel.numpy()
        scores = np.tanh(look.keys + query[:, None]) @ look.v.numpy()
        exps = np.exp(scores) * mask
        weights = exps / np.maximum(exps.sum(1, keepdims=True), 1e-300)
        context = np.einsum("bs,bsd->bd", weights, look.values)
        fed = np.tanh(np.concatenate([h, context], 1) @ look.kernel + look.bias)
        np.testing.assert_allclose(out.hidden[t], h, atol=1e-12)
        np.testing.assert_allclose(out.weights[t], weights, atol=1e-12)
        np.testing.assert_allclose(out.attention[t], fed, atol=1e-12)


def test_gru_computes_the_equations_of_its_paper():
    arguments = case(cells=("gru",))
    (gru,), ((h,),) = arguments["layers"], arguments["states"]
    h = h.numpy()

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    out = recurrence(**arguments)
    for t in range(T):
        x_z, x_r, x_h = np.split(arguments["given"][t].numpy(), 3, 1)
        s = h @ gru.recurrent_kernel.numpy() + gru.recurrent_bias.numpy()
        s_z, s_r, s_h = np.split(s, 3, 1)
        z = sigmoid(x_z + s_z)
        h = z * h + (1 - z) * np.tanh(x_h + sigmoid(x_r + s_r) * s_h)
        np.testing.assert_allclose(out.hidden[t], h, atol=1e-12)


@pytest.mark.parametrize("score", ["additive", "multiplicative"])
def test_gradients_are_finite_differences(score):
    arguments = case(cells=("lstm", "gru"), score=score, feeds=True, masked=True, dropped=True)
    inputs, random, step = floats(arguments), np.random.default_rng(2), 1e-5
    directions = [random.standard_normal(x.shape) for x in inputs]
    _, found = gradients(recurrence, arguments)

    def at(distance):
        moved = {id(x): x + distance * d for x, d in zip(inputs, directions)}
        near = tf.nest.map_structure(lambda x: moved.get(id(x), x), arguments)
        return float(weighted(recurrence(**near), arguments["active"]))

    slope = (at(step) - at(-step)) / (2 * step)
    expected = sum(np.sum(g * d) for g, d in zip(found, directions))
    np.testing.assert_allclose(expected, slope, rtol=1e-7)


def test_inactive_rows_keep_their_state_and_attention():
    arguments = case(cells=("lstm", "gru"), score="additive", feeds=True, masked=True)
    arguments["given"] = tf.where(arguments["active"][:, :, None], arguments["given"], np.inf)
    out = recurrence(**arguments)
    for before, after in zip(tf.nest.flatten(arguments["states"]), tf.nest.flatten(out.states)):
        np.testing.assert_array_equal(after[2], before[2])  # never active
    np.testing.assert_array_equal(out.fed[2], arguments["fed"][2])
    np.testing.assert_array_equal(out.hidden[1:, 1], np.repeat(out.hidden[:1, 1], T - 1, 0))


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_graph_of_unknown_length_runs_any_number_of_steps(steps):
    arguments = case(cells=("lstm",), score="multiplicative", feeds=True)
    given = arguments.pop("given")

    @tf.function(input_signature=[tf.TensorSpec([None, None, 4 * U], tf.float64)])
    def run(given):
        with tf.GradientTape() as tape:
            tape.watch(given)
            out = recurrence(given, **arguments)
            total = tf.reduce_sum(out.attention) + tf.reduce_sum(out.states[0][1])
        return out, tape.gradient(total, given)

    out, gradient = run(given[:steps])
    assert out.attention.shape == (steps, B, A) and gradient.shape == (steps, B, 4 * U)
    if not steps:
        np.testing.assert_array_equal(out.states[0][0], arguments["states"][0][0])
        np.testing.assert_array_equal(out.fed, arguments["fed"])
        return
    whole = recurrence(given[:steps], **arguments)
    np.testing.assert_allclose(out.attention, whole.attention, atol=1e-12)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("without_active", [False, True])
def test_rows_that_have_ended_need_not_be_computed(score, without_active):
    arguments = case(cells=("lstm", "gru"), score=score, feeds=score is not None, dropped=True)
    arguments["active"] = tf.transpose(tf.sequence_mask([3, 2, 1, 0], T))
    (ours, grads), (theirs, their_grads) = (
        gradients(recurrence, {**arguments, "rows": rows})
        for rows in (tf.constant([3, 2, 1]), None)
    )
    if score is not None:  # alignments of inactive steps are not defined
        for found in (ours, theirs):
            found[2] = tf.where(arguments["active"][:, :, None], found[2], 0.0)
    for x, y in zip(ours + grads, theirs + their_grads, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-12)


def test_no_rows_give_no_rows():
    weights = LSTMWeights(tf.ones([U, 4 * U]))
    empty = tf.zeros([0, U])
    out = recurrence(tf.zeros([T, 0, 4 * U]), [weights], [(empty, empty)])
    assert out.hidden.shape == (T, 0, U)


def test_xla_gives_the_same():
    arguments = case(cells=("lstm", "gru"), score="additive", feeds=True, masked=True)
    rest = {name: arguments.pop(name) for name in ("activation",)}
    plain = gradients(recurrence, {**arguments, **rest})
    compiled = tf.function(lambda given: gradients(
        recurrence, {**arguments, **rest, "given": given}), jit_compile=True)  # fmt: skip
    for ours, theirs in zip(compiled(arguments["given"]), plain):
        for x, y in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(x, y, atol=1e-12)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_narrow_weights_give_narrow_states_near_those_of_float64(dtype):
    arguments = case(cells=("lstm", "gru"), score="additive", feeds=True)

    def narrow(x):
        return tf.cast(x, dtype) if tf.is_tensor(x) and x.dtype.is_floating else x

    wide = gradients(recurrence, arguments)
    near = gradients(recurrence, tf.nest.map_structure(narrow, arguments))
    assert near[0][0].dtype == dtype and near[0][2].dtype == tf.float32
    for ours, theirs in zip(near, wide):
        for x, y in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(tf.cast(x, tf.float64), y, atol=0.15, rtol=0.1)


def test_second_derivatives_are_those_of_single_steps():
    found = []
    for run in (recurrence, step_by_step):
        arguments = case(cells=("lstm", "gru"), score="additive", feeds=True, dropped=True)
        inputs = floats(arguments)
        with tf.GradientTape() as outer:
            outer.watch(inputs)
            with tf.GradientTape() as inner:
                inner.watch(inputs)
                total = weighted(run(**arguments), None)
            first = inner.gradient(total, inputs)
            slope = tf.add_n([tf.reduce_sum(g**2) for g in first])
        found.append(outer.gradient(slope, inputs, unconnected_gradients="zero"))
    for x, y in zip(*found, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-11)


def test_a_forward_accumulator_gives_the_slope():
    arguments = case(score="multiplicative", feeds=True)
    given = arguments.pop("given")
    with tf.autodiff.ForwardAccumulator(given, tf.ones_like(given)) as slopes:
        hidden = recurrence(given, **arguments).hidden
    near = [recurrence(given + step, **arguments).hidden for step in (1e-5, -1e-5)]
    np.testing.assert_allclose(slopes.jvp(hidden), (near[0] - near[1]) / 2e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layers": []}, "at least one layer"),
        ({"states": []}, "one state for each"),
        ({"states": [(np.zeros([B, U]),)]}, "must be 2 x"),
        ({"activation": "swish"}, "activation must be one of"),
        ({"fed": None}, "needs fed"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        recurrence(**{**case(score="additive"), **change})
