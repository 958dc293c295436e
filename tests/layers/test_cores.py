"""Cores of multi-head attention: what they declare is what they do, and they decode beams."""

import concurrent.futures
import dataclasses
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.layers import (
    LinearAttentionCell,
    MultiHeadAttention,
    TransformerCell,
    TransformerStack,
    cores,
)
from keras_attention.seq2seq import BeamSearchDecoder
from tests.sampled import full, sampled

B, T, D, H, V = 2, 5, 8, 2, 3
CORES = {
    "full": cores.Full(),
    "banded": cores.Banded(1),
    "strided": cores.Strided(2),
    "strided_far": cores.Strided(2, hop=2),
    "fixed": cores.Fixed(3, 2),
    "fixed_far": cores.Fixed(2, hop=2),
    "linear": cores.Linear(),
    "chunked": cores.Chunked(2),
    "relative": cores.Relative(2),
    "relative_per_head": cores.Relative(1, share_heads=False),
    "distance": cores.Distance(0.5, forward=None),
    "distance_forward": cores.Distance(0.5),
}
each = pytest.mark.parametrize("name", CORES)


def drawn(*shape):
    return np.random.normal(size=shape).astype("float32")


def cell_of(core, **settings):
    attention = MultiHeadAttention(H, core=core, **settings)
    cell = TransformerCell(TransformerStack(2, H, 6, causal=True, self_attention=attention))
    cell.build((None, D))
    cell.stack.set_weights([drawn(*weight.shape) / 2 for weight in cell.stack.weights])
    return cell


# -- decoding


@pytest.mark.parametrize("name, jit", sampled(CORES, [None, True], together=0))
def test_hypotheses_that_change_places_are_each_the_whole_sequence_alone(name, jit):
    beams, cell = 3, cell_of(CORES[name], num_key_heads=1)
    inputs, parents = drawn(T, B, beams, D), np.random.randint(0, beams, (T, B, beams))

    def step(x, state, parents):
        output, state = cell(x, state, beam_width=beams)
        return output, cell.reorder(state, parents)

    step = step if jit is None else tf.function(step, jit_compile=jit, autograph=False)
    state = cell.get_initial_state(B, T, beams)
    said = np.zeros([B, beams, 0, D], "float32")
    for x, chosen in zip(inputs, parents):
        output, state = step(tf.reshape(x, [-1, D]), state, tf.constant(chosen))
        said = np.concatenate([said, x[:, :, None]], 2)
        alone = cell.stack(said.reshape(B * beams, -1, D))[:, -1]
        np.testing.assert_allclose(output, alone, atol=1e-5)
        said = np.take_along_axis(said, chosen[:, :, None, None], 1)


@pytest.mark.parametrize(
    "name",
    ["relative", "distance", *full(*[n for n in CORES if n not in ("relative", "distance")])],
)
def test_a_beam_search_finds_what_trying_all_sequences_finds(name):
    """V = 3 tokens, of which 0 ends: in three steps 15 sequences, and the best 4 of them."""
    cell, table, output_layer = cell_of(CORES[name]), drawn(V, D), keras.layers.Dense(V)
    output_layer.build((None, D))
    output_layer.set_weights([2 * drawn(D, V), drawn(V)])
    start, steps, everything = 1, 3, 15

    def score(ids):
        inputs = table[[[start, *ids[:-1]]]]
        log_p = tf.nn.log_softmax(output_layer(cell.stack(inputs)))[0]
        return sum(float(log_p[t, token]) for t, token in enumerate(ids))

    possible = [
        (*words, *end)
        for length in range(steps + 1)
        for words in itertools.product((1, 2), repeat=length)
        for end in ([()] if length == steps else [(0,)])
    ]
    assert len(possible) == everything
    expected = sorted(((score(ids), ids) for ids in possible), reverse=True)
    decoder = BeamSearchDecoder(
        cell, everything, output_layer=output_layer, maximum_iterations=steps
    )
    outputs, final, lengths = decoder(
        tf.constant(table),
        start_tokens=tf.constant([start]),
        end_token=0,
        initial_state=cell.get_initial_state(1, steps, everything),
    )
    found = [tuple(outputs.predicted_ids[0, : lengths[0, k], k].numpy()) for k in range(everything)]
    assert found[:4] == [ids for _, ids in expected[:4]] and set(found) == set(possible)
    scores = [score for score, _ in expected]
    np.testing.assert_allclose(final.log_probs[0], scores, atol=1e-4)


@each
def test_several_steps_at_once_are_the_whole_sequence(name):
    layer, x = MultiHeadAttention(H, core=CORES[name]), tf.constant(drawn(B, T, D))
    expected = layer(x, causal=True)
    cache, outputs = layer.empty_cache(B, T), []
    for first, last in ((0, 3), (3, T)):
        seen = tf.range(T) <= tf.range(first, last)[:, None]
        output, cache = layer.step(x[:, first:last], cache, first, seen[None, None])
        outputs.append(output)
    np.testing.assert_allclose(tf.concat(outputs, 1), expected, atol=1e-5)


# -- what a core declares

ARGUMENTS = {  # what a core says that it supports, and how it is asked for
    "takes_memory": lambda layer, x: layer(x[:, 2:], memory=x),
    "takes_pair_masks": lambda layer, x: layer(x, mask=tf.ones([B, T, T], tf.bool)),
    "takes_bias": lambda layer, x: layer(x, bias=tf.zeros([T, T])),
    "returns_weights": lambda layer, x: layer(x, return_weights=True)[1],
    "applies_dropout": lambda layer, x: MultiHeadAttention(H, dropout=0.1, core=layer.core)(x),
}


@each
def test_an_argument_is_supported_or_refused_as_the_core_declares(name):
    core, x = CORES[name], tf.constant(drawn(B, T, D))
    layer = MultiHeadAttention(H, core=core)
    for fact, ask in ARGUMENTS.items():
        if getattr(core, fact):
            assert np.isfinite(ask(layer, x)).all()
        else:
            with pytest.raises(ValueError, match=f"{type(core).__name__}.*Received: "):
                ask(layer, x)


@each
def test_a_core_that_declares_to_be_causal_does_not_look_ahead(name):
    core, x = CORES[name], drawn(1, T, D)
    layer = MultiHeadAttention(H, core=core)
    later = np.concatenate([x[:, :3], drawn(1, T - 3, D)], 1)
    same = [
        np.allclose(layer(x, causal=causal)[:, :3], layer(later, causal=causal)[:, :3], atol=1e-6)
        for causal in (True, None, False)
    ]
    assert same == [True, core.is_causal or core.causal_by_default, core.is_causal]


def test_a_core_is_a_value():
    assert cores.Banded(2) == cores.Banded(2) != cores.Banded(3)
    assert MultiHeadAttention(2).core == cores.Full()
    with pytest.raises(dataclasses.FrozenInstanceError):
        cores.Banded(2).radius = 3  # type: ignore[misc]
    with pytest.raises(ValueError, match="such as cores.Banded.*Received: core='banded'"):
        MultiHeadAttention(2, core="banded")


@pytest.mark.parametrize(
    "make, received",
    [
        (lambda: cores.Banded(-1), "radius=-1"),
        (lambda: cores.Strided(0), "stride=0, hop=None"),
        (lambda: cores.Fixed(2, 3), "stride=2, summary=3, hop=None"),
        (lambda: cores.Chunked(0), "chunk=0"),
        (lambda: cores.Relative(-1), "reach=-1"),
        (lambda: cores.Distance(-1.0), "alpha=-1.0"),
    ],
)
def test_sizes_out_of_range_are_refused(make, received):
    with pytest.raises(ValueError, match=f"Received: {received}"):
        make()


def test_threads_share_a_layer_without_sharing_the_arguments_of_a_call():
    layer, x = MultiHeadAttention(H, core=cores.Relative(2)), tf.constant(drawn(B, T, D))
    expected = {causal: layer(x, causal=causal).numpy() for causal in (True, False)}
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        calls = [True, False] * 20
        for causal, found in zip(calls, pool.map(lambda c: layer(x, causal=c), calls)):
            np.testing.assert_allclose(found, expected[causal], atol=1e-6)


# -- cores of users


@keras.saving.register_keras_serializable("tests_of_cores")
@dataclasses.dataclass(frozen=True)
class Latest(cores.Core):
    """Every query gets the value of the last step, whatever it asks for."""

    def __call__(self, query, keys, values, **_):
        return tf.repeat(values[:, :, -1:], tf.shape(query)[2], 2), None


def test_a_core_of_few_lines_serves_a_stack_and_does_not_decode():
    stack = TransformerStack(
        1, H, 6, causal=True, self_attention=MultiHeadAttention(H, core=Latest())
    )
    assert stack(drawn(B, T, D)).shape == (B, T, D)
    copy = TransformerStack.from_config(stack.get_config())
    assert copy.blocks[0].self_attention.core == Latest()
    with pytest.raises(ValueError, match=r"Latest\(\) defines no step: it declares decodes=False"):
        TransformerCell(stack)


def test_a_linear_cell_takes_any_layer_with_its_core():
    attention = MultiHeadAttention(H, key_width=3, core=cores.Linear())
    x = drawn(B, T, D)
    rnn = keras.layers.RNN(LinearAttentionCell(attention), return_sequences=True)
    np.testing.assert_allclose(rnn(x), attention(x, causal=True), atol=1e-5)
    with pytest.raises(ValueError, match=r"core=Linear\(\)"):
        LinearAttentionCell(MultiHeadAttention(H, key_width=3))
