"""`fused`: all steps as one function give the numbers of a loop over single steps.

B rows of T steps, a memory of S slots; one row has no steps.
"""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import (
    RNN,
    AttentionRNN,
    AttentionWrapper,
    BahdanauAttention,
    BasicDecoder,
    GreedyEmbeddingSampler,
    LuongAttention,
    LuongMonotonicAttention,
    TrainingSampler,
    recurrent,
)
from models import RNNSeq2Seq
from tests.sampled import full

keras_3 = pytest.mark.skipif(keras.__version__ < "3", reason="fused loops need Keras 3")
pytestmark = keras_3
B, T, D, S, U = 4, 5, 2, 3, 3
KINDS = ("lstm", "gru", "stack")
MECHANISMS = {
    "additive": lambda dtype: BahdanauAttention(4, dtype=dtype),
    "normalized": lambda dtype: BahdanauAttention(4, normalize=True, dtype=dtype),
    "multiplicative": lambda dtype: LuongAttention(U, dtype=dtype),
    "scaled": lambda dtype: LuongAttention(U, scale=True, dtype=dtype),
}


def cell_of(kind="lstm", score=None, layer=None, feeds=True, dropout=0.0, dtype="float64", **more):
    """A cell, alone or in an `AttentionWrapper`; the same weights at each call."""
    keras.utils.set_random_seed(1)
    how = {"dropout": dropout, "dtype": dtype}
    if kind == "stack":
        cells = [keras.layers.LSTMCell(U, **how), keras.layers.GRUCell(U, use_bias=False, **how)]
        cell = keras.layers.StackedRNNCells(cells, dtype=dtype)
    else:
        cell = {"lstm": keras.layers.LSTMCell, "gru": keras.layers.GRUCell}[kind](U, **how)
    if score is None:
        return cell
    if layer is not None:
        more["attention_layer"] = keras.layers.Dense(5, layer, dtype=dtype)
    if not feeds:
        more["cell_input_fn"] = lambda inputs, attention: inputs
    return AttentionWrapper(cell, MECHANISMS[score](dtype), dtype=dtype, **more)


def inputs_of(dtype="float64"):
    random, dtype = np.random.default_rng(0), keras.DTypePolicy(dtype).compute_dtype
    return [tf.constant(random.standard_normal(shape), dtype) for shape in ((B, T, D), (B, S, 4))]


def decoded(fused, cell, output=True, training=False, dtype="float64", compiled=None, **settings):
    """What a BasicDecoder gives, and its gradients: tensors, and the numbers of its state."""
    layer = keras.layers.Dense(6, dtype=dtype) if output else None
    decoder = BasicDecoder(cell, TrainingSampler(), layer, fused=fused, dtype=dtype, **settings)

    def run(inputs, memory):
        arguments = {}
        if isinstance(cell, AttentionWrapper):
            arguments = {"memory": memory, "memory_sequence_length": [3, 1, 2, 2]}
        with tf.GradientTape() as tape:
            tape.watch([inputs, memory])
            outputs, state, lengths = decoder(
                inputs, sequence_length=[3, 4, 1, 0], training=training, **arguments
            )
            history = getattr(state, "alignment_history", ())
            if history != ():
                state = state._replace(alignment_history=history.stack())
            leaves = [outputs.rnn_output, *tf.nest.flatten(state)]
            total = tf.add_n(
                [(1 + i) * tf.reduce_sum(tf.cast(x, tf.float64) ** 2) for i, x in enumerate(leaves)]
            )
        variables = [weight.value for weight in decoder.trainable_weights]
        grads = tape.gradient(total, [*variables, inputs, memory], unconnected_gradients="zero")
        return [*leaves, outputs.sample_id, lengths], [tf.convert_to_tensor(g) for g in grads]

    inputs, memory = inputs_of(dtype)
    keras.utils.set_random_seed(2)
    if compiled is None:
        return run(inputs, memory)
    arguments = {"memory": memory} if isinstance(cell, AttentionWrapper) else {}
    decoder(inputs, training=False, **arguments)  # makes the weights
    step = tf.function(
        run,
        jit_compile=compiled == "XLA",
        input_signature=[
            tf.TensorSpec(x.shape if compiled == "XLA" else [None, None, x.shape[2]], dtype)
            for x in (inputs, memory)
        ],
    )
    return step(inputs, memory)


def check_same(ours, theirs, tolerance=1e-10):
    for x, y in zip(tf.nest.flatten(ours), tf.nest.flatten(theirs), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_allclose(
            tf.cast(x, tf.float64), tf.cast(y, tf.float64), rtol=tolerance, atol=tolerance
        )


CASES = {
    "alone": {"kind": "stack"},
    "additive": {"kind": "lstm", "score": "additive", "layer": "tanh"},
    "normalized, no feeding": {"kind": "gru", "score": "normalized", "feeds": False},
    "multiplicative": {"kind": "stack", "score": "multiplicative", "layer": "linear"},
    "scaled, the cell's output": {"score": "scaled", "output_attention": False},
}


@pytest.mark.parametrize(
    ("name", "compiled"),
    [
        *((name, None) for name in CASES),
        ("additive", "graph"),
        *full(*((name, "graph") for name in CASES if name != "additive")),
    ],
)
def test_a_decoder_gives_the_same_fused(name, compiled):
    ours, theirs = (
        decoded(fused, cell_of(**CASES[name]), compiled=compiled) for fused in (True, False)
    )
    check_same(ours, theirs)


@pytest.mark.full
@pytest.mark.parametrize("compiled", [None, "graph", "XLA"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_combination_gives_the_same_fused(kind, dtype, compiled):
    scores = [None, "additive", "multiplicative"] if compiled == "XLA" else [None, *MECHANISMS]
    for score, (layer, feeds, output_attention, output, history) in itertools.product(
        scores,
        [
            ("tanh", True, True, False, True),
            (None, False, False, True, False),
            ("linear", False, True, True, False),
            (None, True, True, False, False),
        ],
    ):
        more = {} if score is None else {"output_attention": output_attention}
        if history and score is not None:
            more["alignment_history"] = True
        settings = {"maximum_iterations": 4 if compiled else None}
        ours, theirs = (
            decoded(
                fused,
                cell_of(kind, score, layer, feeds, dtype=dtype, **more),
                output,
                dtype=dtype,
                compiled=compiled,
                **settings,
            )
            for fused in (True, False)
        )
        check_same(ours, theirs, 1e-10 if dtype == "float64" else 1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"maximum_iterations": 2},
        {"impute_finished": True},
        {"output_time_major": True, "impute_finished": True},
        *full({"compiled": "XLA", "maximum_iterations": 7}),
    ],
    ids=str,
)
def test_settings_of_the_decoder_do_the_same_fused(settings):
    case = {"kind": "stack", "score": "additive", "layer": "tanh"}
    ours, theirs = (decoded(fused, cell_of(**case), **settings) for fused in (True, False))
    check_same(ours, theirs)


def test_the_alignments_of_all_steps_are_kept_and_have_a_gradient():
    ours, theirs = (
        decoded(fused, cell_of(score="multiplicative", alignment_history=True))
        for fused in (True, False)
    )
    check_same(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_masks_are_those_of_single_steps(kind):
    ours, theirs = (
        decoded(fused, cell_of(kind, "additive", "tanh", dropout=0.5), training=True)
        for fused in (True, False)
    )
    check_same(ours, theirs)


def test_bfloat16_is_near_single_steps():
    (ours, grads), (theirs, their_grads) = (
        decoded(
            fused,
            cell_of("stack", "additive", "tanh", dtype="mixed_bfloat16"),
            dtype="mixed_bfloat16",
        )
        for fused in (True, False)
    )
    assert [x.dtype for x in ours] == [x.dtype for x in theirs]
    check_same(ours[0], theirs[0], 0.05)
    for x, y in zip(grads, their_grads):
        x, y = np.ravel(tf.cast(x, tf.float32)), np.ravel(tf.cast(y, tf.float32))
        assert x @ y > 0.99 * np.linalg.norm(x) * np.linalg.norm(y)


def test_memory_and_states_have_the_compute_dtype():
    cell = cell_of("stack", "additive", "tanh", dtype="mixed_bfloat16")
    memory = cell.prepare_memory(inputs_of("float32")[1])
    assert memory.keys.dtype == memory.values.dtype == tf.bfloat16
    decoder = BasicDecoder(cell, TrainingSampler(), fused=True)
    _, state, _ = decoder(inputs_of("mixed_bfloat16")[0], memory=memory)
    assert {leaf.dtype for leaf in tf.nest.flatten(state)} == {tf.bfloat16}


def test_no_row_has_a_step():
    inputs, memory = inputs_of()
    results = []
    for fused in (True, False):
        decoder = BasicDecoder(cell_of(score="additive"), TrainingSampler(), fused=fused)
        start = decoder.cell.get_initial_state(
            batch_size=B, memory=decoder.cell.prepare_memory(memory)
        )
        run = tf.function(
            lambda inputs, decoder=decoder, start=start: decoder(
                inputs, start, memory=memory, sequence_length=[0] * B
            ),
            input_signature=[tf.TensorSpec([None, None, D], tf.float64)],
        )
        results.append(run(inputs))
    assert results[0][0].rnn_output.shape == (B, 0, 4)
    check_same(*results)


# -- layers over sequences


def run_of(layer, x, arguments, weights):
    """The outputs of a layer and its gradients, with these weights."""
    layer(x, **arguments)
    layer.set_weights(weights)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = tf.nest.flatten(layer(x, **arguments))
        total = tf.add_n([(1 + i) * tf.reduce_sum(y**2) for i, y in enumerate(outputs)])
    variables = [weight.value for weight in layer.trainable_weights]
    return outputs, tape.gradient(total, [*variables, x], unconnected_gradients="zero")


MASK = [[1, 1, 1, 1, 0], [0, 1, 1, 0, 0], [1, 0, 0, 0, 1], [0, 0, 0, 0, 0]]
SEQUENCE_SETTINGS = [
    {"return_sequences": True},
    {"return_state": True, "go_backwards": True},
    {"return_sequences": True, "return_state": True, "zero_output_for_mask": True},
]


@pytest.mark.parametrize("settings", SEQUENCE_SETTINGS, ids=str)
@pytest.mark.parametrize(
    ("kind", "masked"),
    [
        *((kind, True) for kind in KINDS),
        ("lstm", False),
        *full(("gru", False), ("stack", False)),
    ],
)
def test_rnn_gives_what_that_of_keras_gives(kind, settings, masked):
    x = inputs_of()[0]
    arguments = {"mask": tf.cast(MASK, tf.bool)} if masked else {}
    keras_rnn = keras.layers.RNN(cell_of(kind), dtype="float64", **settings)
    keras_rnn(x)
    weights = [w + 0.1 for w in keras_rnn.get_weights()]  # also the biases
    ours = RNN(cell_of(kind), fused=True, dtype="float64", **settings)
    check_same(run_of(ours, x, arguments, weights), run_of(keras_rnn, x, arguments, weights))


@pytest.mark.parametrize("settings", SEQUENCE_SETTINGS, ids=str)
@pytest.mark.parametrize("score", ["additive", "multiplicative"])
def test_attention_rnn_gives_the_same_fused(score, settings):
    x, memory = inputs_of()
    results = []
    for fused in (True, False):
        cell = cell_of("stack", score, "tanh")
        layer = AttentionRNN(cell, fused=fused, dtype="float64", **settings)
        arguments = {"memory": memory, "mask": tf.cast(MASK, tf.bool)}
        layer(x, **arguments)
        weights = [w + 0.1 for w in layer.get_weights()]
        results.append(run_of(layer, x, arguments, weights))
    check_same(*results)


def test_a_stateful_rnn_goes_on_where_it_stopped():
    x = inputs_of()[0]
    layers = [
        kind(cell_of("stack"), stateful=True, dtype="float64") for kind in (RNN, keras.layers.RNN)
    ]
    for _ in range(2):
        check_same(*[layer(x) for layer in layers])


def test_both_directions_of_a_bidirectional_layer_are_fused():
    x = inputs_of()[0]
    both = [
        keras.layers.Bidirectional(
            kind(cell_of("gru"), return_sequences=True, dtype="float64", **fused), dtype="float64"
        )
        for kind, fused in ((RNN, {"fused": True}), (keras.layers.RNN, {}))
    ]
    mask = tf.cast(MASK, tf.bool)
    assert both[0].backward_layer.fused is True
    both[1](x)
    weights = both[1].get_weights()
    check_same(*[run_of(layer, x, {"mask": mask}, weights) for layer in both])


# -- which parts allow it


class OwnCell(keras.layers.LSTMCell):
    """A cell that may do anything."""


PREVENTED = {
    "OwnCell": lambda: OwnCell(U),
    "activation=relu": lambda: keras.layers.LSTMCell(U, activation="relu"),
    "recurrent_activation=hard_sigmoid": lambda: keras.layers.GRUCell(
        U, recurrent_activation="hard_sigmoid"
    ),
    "reset_after=False": lambda: keras.layers.GRUCell(U, reset_after=False),
    "recurrent_dropout": lambda: keras.layers.LSTMCell(U, recurrent_dropout=0.5),
    "SimpleRNNCell": lambda: keras.layers.SimpleRNNCell(U),
    "attention_fn": lambda: attending(attention_fn=lambda *_: None),
    "cell_input_fn": lambda: attending(cell_input_fn=lambda x, a: x + 1),
    "LuongMonotonicAttention": lambda: attending(LuongMonotonicAttention(U)),
    "probability_fn=hardmax": lambda: attending(LuongAttention(U, probability_fn="hardmax")),
    "a list of attention": lambda: attending([LuongAttention(U)]),
    "attention_layer": lambda: attending(attention_layer=keras.layers.Dense(3, "gelu")),
    "several dtypes": lambda: attending(LuongAttention(U, dtype="float64")),
    "fused_test_query": lambda: attending(
        LuongAttention(U, query_layer=keras.layers.Dense(U, name="fused_test_query"))
    ),
}


def attending(mechanism=None, **settings):
    return AttentionWrapper(keras.layers.LSTMCell(U), mechanism or LuongAttention(U), **settings)


@pytest.mark.parametrize("part", PREVENTED)
def test_fused_true_names_the_part_that_prevents_it(part):
    cell = PREVENTED[part]()
    decoder = BasicDecoder(cell, TrainingSampler(), fused=True)
    arguments = {"memory": tf.ones([1, 2, U])} if isinstance(cell, AttentionWrapper) else {}
    named = "query_layer with a bias" if part == "fused_test_query" else part
    with pytest.raises(ValueError, match="fused=True needs") as error:
        decoder(tf.ones([1, 2, D]), **arguments)
    assert named in str(error.value)


def test_samplers_and_output_layers_that_need_single_steps_are_named():
    x, cell = tf.ones([1, 2, D]), keras.layers.LSTMCell(U)
    with pytest.raises(ValueError, match="output_layer of type Dropout"):
        BasicDecoder(cell, TrainingSampler(), keras.layers.Dropout(0.5), fused=True)(x)
    greedy = BasicDecoder(cell, GreedyEmbeddingSampler(), fused=True, maximum_iterations=2)
    with pytest.raises(ValueError, match="a sampler of type GreedyEmbeddingSampler"):
        greedy(tf.ones([U, D]), start_tokens=[0], end_token=1)
    with pytest.raises(ValueError, match="fused must be 'auto', True or False"):
        BasicDecoder(cell, TrainingSampler(), fused="yes")
    with pytest.raises(ValueError, match="unroll=True"):
        RNN(cell, unroll=True, fused=True)(x)


def test_an_rnn_is_fused_in_training_alone_by_default(monkeypatch):
    found, run = [], recurrent.fused_steps
    monkeypatch.setattr(recurrent, "fused_steps", lambda *given: found.append(1) or run(*given))
    rnn, x = RNN(keras.layers.LSTMCell(U)), tf.ones([1, 2, D])
    rnn(x)
    assert not found
    rnn(x, training=True)
    assert found


def test_auto_takes_single_steps_where_a_part_prevents_it():
    rnn = RNN(keras.layers.LSTMCell(U, activation="relu"))
    assert rnn(tf.ones([1, 2, D])).shape == (1, U)


def test_a_decoder_with_a_step_of_its_own_is_not_fused():
    class Own(BasicDecoder):
        def step(self, *arguments, **named):
            outputs, *rest = super().step(*arguments, **named)
            return outputs._replace(rnn_output=outputs.rnn_output + 1), *rest

    x, results = inputs_of("float32")[0], []
    for kind in (Own, BasicDecoder):
        cell = cell_of(dtype="float32")
        results.append(kind(cell, TrainingSampler())(x)[0].rnn_output)
    np.testing.assert_allclose(results[0], results[1] + 1, atol=1e-6)


def test_the_argument_is_saved():
    rnn = RNN(keras.layers.LSTMCell(U), fused=False)
    assert RNN.from_config(rnn.get_config()).fused is False
    decoder = BasicDecoder(keras.layers.LSTMCell(U), TrainingSampler(), fused=True)
    assert BasicDecoder.from_config(decoder.get_config()).fused is True
    older = decoder.get_config()
    del older["fused"]  # saved by an earlier version
    assert BasicDecoder.from_config(older).fused == "auto"


@pytest.mark.parametrize("settings", [
    {"layers": 2, "bidirectional": False, "cell": "lstm", "dropout": 0.3},
    {"attention": "luong", "cell": "gru"},
], ids=str)  # fmt: skip
def test_the_model_trains_the_same_fused(settings):
    source = tf.constant([[5, 6, 2, 0], [7, 2, 0, 0], [0, 0, 0, 0]])
    target = tf.constant([[1, 6, 7], [1, 7, 0], [1, 0, 0]])
    results = []
    for fused in (True, False):
        keras.utils.set_random_seed(3)
        model = RNNSeq2Seq(9, units=4, fused=fused, dtype="float64", **settings)
        model.build()
        keras.utils.set_random_seed(4)
        with tf.GradientTape() as tape:
            logits = model((source, target), training=True)
            total = tf.reduce_sum(logits**2)
        variables = [weight.value for weight in model.trainable_weights]
        grads = [tf.convert_to_tensor(g) for g in tape.gradient(total, variables)]
        results.append((logits, grads))
    check_same(*results)
