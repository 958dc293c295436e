"""Decoder code as it was written for tf.contrib, which runs on both: one source, two worlds.

A case is a function of a `World` that gives a dict of tensors. `contrib_outputs.py` runs it on
TensorFlow 1.15 and stores what it gives; `test_contrib.py` runs the same function on
keras_attention.contrib. What both are fed, inputs and weights, is drawn from names.
(Also read by Python 3.7.)
"""

import collections
import functools
import zlib

import numpy as np

# tf, seq2seq and rnn are the modules; Dense makes an output layer; owns(x) -> x says that x has
# weights, in the order in which contrib makes them.
World = collections.namedtuple("World", "tf seq2seq rnn Dense owns")

B, S, T, M, D, U, V = 3, 4, 5, 5, 3, 6, 7  # batch, memory, steps, widths: memory, inputs, units
LENGTHS, STEPS = np.array([4, 2, 3], np.int32), np.array([5, 3, 4], np.int32)
START, END = 1, 0


def draw(name, *shape):
    """Numbers that belong to a name, the same everywhere."""
    values = np.random.RandomState(zlib.crc32(name.encode())).uniform(-1, 1, shape)
    return values.astype(np.float32)


def ids(name, *shape):
    """Token ids that belong to a name."""
    return np.random.RandomState(zlib.crc32(name.encode())).randint(0, V, shape).astype(np.int32)


# -- parts


def mechanism(world, kind="LuongAttention", memory="memory", lengths=LENGTHS, **options):
    """A mechanism over a memory [B, S, M] that belongs to a name."""
    make = getattr(world.seq2seq, kind)
    memory = world.tf.constant(draw(memory, B, S, M)) if isinstance(memory, str) else memory
    return world.owns(make(U, memory, memory_sequence_length=lengths, **options))


def cell(world, kind="LSTMCell", units=U, **options):
    """A cell that has weights."""
    return world.owns(getattr(world.rnn, kind)(units, **options))


def stack(world):
    """Three cells on top of each other, each wrapped otherwise."""
    rnn = world.rnn
    return rnn.MultiRNNCell(
        [
            rnn.DropoutWrapper(cell(world, "BasicLSTMCell"), output_keep_prob=1.0),
            rnn.ResidualWrapper(cell(world, "GRUCell")),
            cell(world, "LSTMCell"),
        ]
    )


def wrapper(world, inner=None, mechanisms=None, **options):
    """An AttentionWrapper, by default over one LSTM and Luong's attention."""
    inner = inner or cell(world)
    wrapped = world.seq2seq.AttentionWrapper(inner, mechanisms or mechanism(world), **options)
    return world.owns(wrapped)


def flat(world, **values):
    """Nests of tensors as single ones: name/0, name/1, ..."""
    leaves = {}
    for name, value in values.items():
        for place, leaf in enumerate(world.tf.nest.flatten(value)):
            is_array = isinstance(leaf, world.tf.TensorArray)
            leaves[f"{name}/{place}"] = leaf.stack() if is_array else leaf
    return leaves


# -- mechanisms


def asked(world, state=None, **options):
    """A mechanism is asked once, from some state on."""
    tf = world.tf
    made = mechanism(world, **options)
    before = tf.nn.softmax(tf.constant(draw("state", B, S)))
    alignments, after = made(tf.constant(draw("query", B, U)), before)
    return flat(
        world,
        alignments=alignments,
        state=after,
        keys=made.keys,
        values=made.values,
        initial=made.initial_alignments(B, tf.float32),
    )


def asked_for_hard_weights(world):
    return asked(world, probability_fn=world.seq2seq.hardmax)


def asked_with_other_keys_and_values(world):
    return asked(world, custom_key_value_fn=lambda keys, values: (2.0 * keys, values[:, :, :2]))


# -- cells


def unrolled(world, make, width=D):
    """A cell, step by step from zeros."""
    made = make(world)
    state = made.zero_state(B, world.tf.float32)
    zeros, outputs = state, []
    for time in range(3):
        output, state = made(world.tf.constant(draw(f"inputs{time}", B, width)), state)
        outputs.append(output)
    return flat(world, zeros=zeros, outputs=outputs, state=state)


def side_by_side(world):
    cells = [cell(world, "GRUCell", 4), cell(world, "BasicRNNCell", 5)]
    return world.rnn.MultiRNNCell(cells, state_is_tuple=False)


def residual_function(world):
    def scaled(inputs, outputs):
        return 2.0 * outputs + world.tf.reduce_sum(inputs, -1, keepdims=True)

    return world.rnn.ResidualWrapper(cell(world, "GRUCell"), residual_fn=scaled)


def projecting(world, kind, width=4, **options):
    """A cell between two widths that are not its own."""
    return world.owns(getattr(world.rnn, kind)(cell(world, "GRUCell"), width, **options))


def squashed(world):
    return projecting(world, "OutputProjectionWrapper", activation=world.tf.tanh)


def stacked_both_ways(world, given=False, time_major=False):
    """`stack_bidirectional_dynamic_rnn` of two layers."""
    tf = world.tf
    inputs = tf.constant(draw("source", B, S, D))
    inputs = tf.transpose(inputs, [1, 0, 2]) if time_major else inputs
    layers = [[cell(world, "GRUCell", units) for _ in range(2)] for units in (4, 5)]
    options = dict(sequence_length=tf.constant(LENGTHS), time_major=time_major, dtype=tf.float32)
    if given:
        for way in ("fw", "bw"):
            states = [tf.constant(draw(f"{way}{units}", B, units)) for units in (4, 5)]
            options["initial_states_" + way] = states
    outputs, forward, backward = world.rnn.stack_bidirectional_dynamic_rnn(
        *map(list, zip(*layers)), inputs, **options
    )
    return flat(world, outputs=outputs, forward=forward, backward=backward)


def encoded(world):
    """`tf.nn.dynamic_rnn` over contrib's cells."""
    tf = world.tf
    inputs = tf.constant(draw("source", B, S, D))
    lengths = tf.constant(LENGTHS)
    outputs, state = tf.nn.dynamic_rnn(stack_of(world, D), inputs, lengths, dtype=tf.float32)
    return flat(world, outputs=outputs, state=state)


def stack_of(world, width):
    """Cells as an encoder has them; the residual one as wide as its inputs."""
    rnn = world.rnn
    residual = rnn.ResidualWrapper(cell(world, "LSTMCell", width))
    return rnn.MultiRNNCell([residual, cell(world, "GRUCell", 4)])


# -- decoding


def decoded(world, wrapped, helper, state=None, layer=True, **options):
    """BasicDecoder and dynamic_decode; all that they give."""
    tf, seq2seq = world.tf, world.seq2seq
    if state is None:
        state = wrapped.zero_state(B, tf.float32)
    output_layer = world.owns(world.Dense(V)) if layer else None
    decoder = seq2seq.BasicDecoder(wrapped, helper, state, output_layer=output_layer)
    outputs, state, lengths = seq2seq.dynamic_decode(decoder, **options)
    return outputs, state, lengths


def trained(world, make, gradients=False, time_major=False, **options):
    """Teacher forcing from an encoder's state; with the gradients of the loss."""
    tf, seq2seq = world.tf, world.seq2seq
    wrapped = make(world)
    zeros = wrapped.zero_state(B, tf.float32)
    given = [
        tf.constant(draw(f"cell_state{place}", *leaf.shape.as_list()))
        for place, leaf in enumerate(tf.nest.flatten(zeros.cell_state))
    ]
    start = zeros.clone(cell_state=tf.nest.pack_sequence_as(zeros.cell_state, given))
    inputs = draw("target", B, T, D)
    inputs = tf.constant(inputs.swapaxes(0, 1) if time_major else inputs)
    helper = seq2seq.TrainingHelper(inputs, tf.constant(STEPS), time_major=time_major)
    outputs, state, lengths = decoded(world, wrapped, helper, start, **options)
    found = flat(world, outputs=outputs, state=state, lengths=lengths)
    if gradients:
        weights = tf.sequence_mask(tf.constant(STEPS), T, tf.float32)
        targets = tf.constant(ids("targets", B, T))
        found["loss"] = seq2seq.sequence_loss(outputs.rnn_output, targets, weights)
    return found


def several_mechanisms(world):
    kinds = ("BahdanauAttention", "LuongAttention", "LuongMonotonicAttention")
    return [mechanism(world, kind, memory=kind) for kind in kinds]


def over(world, kind):
    return wrapper(world, cell(world, kind), attention_layer_size=4)


def over_stack(world):
    return wrapper(world, stack(world), attention_layer_size=4)


def asking(world, kind):
    return wrapper(world, mechanisms=mechanism(world, kind), attention_layer_size=4)


def asking_several(world, attention_layer_size=(4, 2, 3), **options):
    options["attention_layer_size"] = attention_layer_size and list(attention_layer_size)
    return wrapper(world, mechanisms=several_mechanisms(world), **options)


def with_input_function(world):
    def join(inputs, attention):
        return world.tf.concat([attention, 2.0 * inputs], -1)

    return wrapper(world, cell_input_fn=join)


def with_layer(world):
    layer = world.Dense(4, activation=world.tf.tanh, use_bias=False, name="attention_layer")
    return wrapper(world, attention_layer=layer)


def with_attention_function(world):
    def attend(mechanism, cell_output, attention_state, attention_layer):
        alignments, next_state = mechanism(cell_output, state=attention_state)
        context = world.tf.reduce_sum(alignments[:, :, None] * mechanism.values, 1)
        return 0.5 * context, alignments, next_state

    return wrapper(world, attention_fn=attend)


def with_initial_state(world):
    tf = world.tf
    state = tf.constant(draw("first", B, U))
    inner = cell(world, "GRUCell")
    wrapped = wrapper(world, inner, attention_layer_size=4, initial_cell_state=state)
    helper = world.seq2seq.TrainingHelper(tf.constant(draw("target", B, T, D)), STEPS)
    outputs, state, lengths = decoded(world, wrapped, helper)
    return flat(world, outputs=outputs, state=state, lengths=lengths)


def helped(world, make_helper, scale=1.0, width=V, layer=True, **options):
    """A GRU under some helper; a large scale makes draws certain."""
    inner = cell(world, "GRUCell", width)
    peaked = world.rnn.ResidualWrapper(inner, residual_fn=lambda i, o: scale * o)
    state = inner.zero_state(B, world.tf.float32)
    helper = make_helper(world)
    found = decoded(world, peaked, helper, state, layer=layer, **options)
    return flat(world, outputs=found[0], state=found[1], lengths=found[2])


def embedding(world, width=D):
    return world.tf.constant(draw("embedding", V, width))


def starts(world):
    return world.tf.fill([B], START)


def greedy(world, as_function=False):
    table = embedding(world)
    lookup = functools.partial(world.tf.nn.embedding_lookup, table) if as_function else table
    return world.seq2seq.GreedyEmbeddingHelper(lookup, starts(world), END)


def sampling(world):
    return world.seq2seq.SampleEmbeddingHelper(embedding(world), starts(world), END, 1e-3, seed=1)


def scheduled_ids(world, probability):
    inputs = world.tf.constant(draw("target", B, T, D))
    make = world.seq2seq.ScheduledEmbeddingTrainingHelper
    return make(inputs, world.tf.constant(STEPS), embedding(world), probability)


def scheduled_outputs(world, probability, **options):
    tf = world.tf
    inputs = tf.constant(draw("target", B, T, D))
    options = {name: make(world) for name, make in options.items()}
    make = world.seq2seq.ScheduledOutputTrainingHelper
    return make(inputs, tf.constant(STEPS), probability, **options)


def first_inputs(world):
    return lambda outputs: outputs[:, :D] + 0.5


def auxiliary(world):
    return world.tf.constant(draw("auxiliary", B, T, 2))


def inference(world):
    tf = world.tf
    return world.seq2seq.InferenceHelper(
        sample_fn=lambda outputs: outputs[:, :D],
        sample_shape=[D],
        sample_dtype=tf.float32,
        start_inputs=tf.constant(draw("start", B, D)),
        end_fn=lambda samples: samples[:, 0] > 0.4,
        next_inputs_fn=lambda samples: 2.0 * samples,
    )


def custom(world):
    tf = world.tf
    return world.seq2seq.CustomHelper(
        initialize_fn=lambda: (tf.tile([False], [B]), tf.constant(draw("start", B, D))),
        sample_fn=lambda time, outputs, state: tf.argmin(outputs, -1, output_type=tf.int32),
        next_inputs_fn=lambda time, outputs, state, sample_ids: (
            tf.equal(sample_ids + time, 5),
            tf.one_hot(sample_ids, D),
            0.5 * state,
        ),
    )


# -- beam search

K = 3


def searched(world, history=False, as_function=False, steps=6, **options):
    """Beam search over tiled memory, from a tiled state."""
    tf, seq2seq = world.tf, world.seq2seq
    memory = tf.constant(draw("memory", B, S, M))
    if history:  # whose rows contrib reorders only where it does not know B and S
        memory = tf.placeholder_with_default(memory, [None, None, M])
    memory = seq2seq.tile_batch(memory, multiplier=K)
    lengths = seq2seq.tile_batch(tf.constant(LENGTHS), multiplier=K)
    made = mechanism(world, "BahdanauAttention", memory, lengths)
    inner = cell(world, "BasicLSTMCell")
    wrapped = wrapper(world, inner, made, attention_layer_size=U, alignment_history=history)
    encoder = type(inner.state_size)(*(tf.constant(draw(f"encoder{i}", B, U)) for i in range(2)))
    start = wrapped.zero_state(B * K, tf.float32)
    start = start.clone(cell_state=seq2seq.tile_batch(encoder, multiplier=K))
    table = 10.0 * tf.constant(draw("embeddingd", V, D))  # a search that ends at different steps
    lookup = functools.partial(tf.nn.embedding_lookup, table) if as_function else table
    decoder = seq2seq.BeamSearchDecoder(
        wrapped,
        lookup,
        starts(world),
        END,
        start,
        K,
        output_layer=world.owns(world.Dense(V)),
        **options,
    )
    outputs, state, lengths = seq2seq.dynamic_decode(decoder, maximum_iterations=steps)
    return flat(world, outputs=outputs, state=state, lengths=lengths)


# -- functions


def traced(world):
    parents = np.random.RandomState(0).randint(0, K, [T, B, K]).astype(np.int32)
    step_ids = world.tf.constant(ids("steps", T, B, K))
    beams = world.seq2seq.gather_tree(step_ids, world.tf.constant(parents), STEPS, END)
    return {"beams": beams}


def tiled(world):
    x = {"a": world.tf.constant(draw("a", B, 2)), "b": (world.tf.constant(ids("b", B)),)}
    return flat(world, tiled=world.seq2seq.tile_batch(x, 3))


def chosen(world):
    return {"hard": world.seq2seq.hardmax(world.tf.constant(draw("scores", B, S)))}


def multiplied(world):
    x = world.tf.constant(np.abs(draw("factors", B, S)))
    product = world.seq2seq.safe_cumprod
    return {"plain": product(x, axis=1), "exclusive": product(x, axis=1, exclusive=True)}


def stopped(world, mode):
    p = np.abs(draw("p", B, S))
    p = world.tf.constant(np.round(p) if mode == "hard" else p)
    before = world.tf.one_hot([0, 1, 2], S)
    if mode != "hard":
        before = world.tf.nn.softmax(world.tf.constant(draw("state", B, S)))
    return {"attention": world.seq2seq.monotonic_attention(p, before, mode)}


def lost(world, own_function=False, **options):
    tf = world.tf
    logits, targets = tf.constant(draw("logits", B, T, V)), tf.constant(ids("targets", B, T))
    weights = tf.constant(np.float32(np.arange(T) < STEPS[:, None]) * np.abs(draw("w", B, T)))
    if own_function:
        options["softmax_loss_function"] = lambda labels, logits: tf.reduce_sum(
            tf.square(tf.one_hot(labels, V) - logits), -1
        )
    return {"value": world.seq2seq.sequence_loss(logits, targets, weights, **options)}


# -- the table

MONOTONIC = ("LuongMonotonicAttention", "BahdanauMonotonicAttention")
MODES = ("parallel", "recursive", "hard")
CELLS = ("LSTMCell", "BasicLSTMCell", "GRUCell", "BasicRNNCell")

# average across steps and batch, sum over steps and batch
LOSSES = ("1100", "1000", "0100", "0000", "0011", "0010", "0001")


def case(function, *args, **options):
    """The function with all its arguments but the world."""
    return lambda world: function(world, *args, **options)


def _table():
    yield "mechanism luong", case(asked)
    yield "mechanism luong scaled", case(asked, scale=True)
    yield "mechanism luong without lengths", case(asked, lengths=None)
    yield "mechanism luong score_mask_value", case(asked, score_mask_value=-0.5)
    yield "mechanism luong hardmax", asked_for_hard_weights
    yield "mechanism luong custom_key_value_fn", asked_with_other_keys_and_values
    yield "mechanism bahdanau", case(asked, kind="BahdanauAttention")
    yield "mechanism bahdanau normed", case(asked, kind="BahdanauAttention", normalize=True)
    for kind in MONOTONIC:
        for mode in MODES:
            options = dict(kind=kind, mode=mode, score_bias_init=0.3)
            yield f"mechanism {kind} {mode}", case(asked, **options)
    yield "mechanism monotonic scaled", case(asked, kind=MONOTONIC[0], scale=True)
    yield "mechanism monotonic normed", case(asked, kind=MONOTONIC[1], normalize=True)
    masked = case(asked, kind=MONOTONIC[0], score_mask_value=-2.0)
    yield "mechanism monotonic score_mask_value", masked

    for kind in CELLS:
        yield "cell " + kind, case(unrolled, case(cell, kind))
    forgetful = dict(forget_bias=0.3, state_is_tuple=False)
    for kind in CELLS[:2]:
        yield "cell joined " + kind, case(unrolled, case(cell, kind, **forgetful))
    yield "cell other activation", case(unrolled, case(cell, "GRUCell", activation="relu"))
    yield "cell stack", case(unrolled, stack)
    yield "cell side by side", case(unrolled, side_by_side)
    yield "cell residual_fn", case(unrolled, residual_function)
    yield "cell dynamic_rnn", encoded
    normed = "LayerNormBasicLSTMCell"
    yield "cell layer norm", case(unrolled, case(cell, normed, forget_bias=0.3))
    yield "cell layer norm off", case(unrolled, case(cell, normed, layer_norm=False))
    for kind in ("InputProjectionWrapper", "OutputProjectionWrapper"):
        yield "cell " + kind, case(unrolled, case(projecting, kind))
    yield "cell output activation", case(unrolled, squashed)
    yield "cell stack_bidirectional_dynamic_rnn", stacked_both_ways
    options = dict(given=True, time_major=True)
    yield "cell stack_bidirectional_dynamic_rnn given", case(stacked_both_ways, **options)

    wrapped = case(wrapper, attention_layer_size=4)
    yield "decode default", case(trained, case(wrapper))
    for kind in CELLS:
        yield "decode over " + kind, case(trained, case(over, kind), gradients=True)
    yield "decode over a stack", case(trained, over_stack, gradients=True)
    for kind in ("LuongAttention", "BahdanauAttention") + MONOTONIC:
        yield "decode with " + kind, case(trained, case(asking, kind), gradients=True)
    yield "decode with several", case(trained, asking_several, gradients=True)
    contexts = case(asking_several, attention_layer_size=None)
    yield "decode with several contexts", case(trained, contexts)
    cells_output = case(wrapper, output_attention=False, attention_layer_size=4)
    yield "decode cell output", case(trained, cells_output)
    history = case(wrapper, attention_layer_size=4, alignment_history=True)
    yield "decode history", case(trained, history)
    yield "decode several histories", case(trained, case(asking_several, alignment_history=True))
    yield "decode cell_input_fn", case(trained, with_input_function)
    yield "decode attention_layer", case(trained, with_layer)
    yield "decode attention_fn", case(trained, with_attention_function)
    yield "decode initial_cell_state", with_initial_state
    imputed = dict(impute_finished=True)
    yield "decode impute_finished", case(trained, history, **imputed)
    yield "decode imputed gradients", case(trained, wrapped, gradients=True, **imputed)
    yield "decode imputed short", case(trained, history, maximum_iterations=3, **imputed)
    yield "decode output_time_major", case(trained, wrapped, output_time_major=True)
    yield "decode time_major", case(trained, wrapped, time_major=True)
    yield "decode maximum_iterations", case(trained, wrapped, maximum_iterations=2)
    yield "decode without a layer", case(trained, wrapped, layer=False)

    steps = dict(maximum_iterations=6)
    yield "helper greedy", case(helped, greedy, **steps)
    yield "helper greedy imputed", case(helped, greedy, impute_finished=True, **steps)
    yield "helper greedy function", case(helped, case(greedy, as_function=True), **steps)
    yield "helper sample", case(helped, sampling, **steps)
    yield "helper scheduled ids never", case(helped, case(scheduled_ids, 0.0))
    yield "helper scheduled ids always", case(helped, case(scheduled_ids, 1.0), 1e4)
    as_wide = dict(width=D, layer=False)
    yield "helper scheduled outputs never", case(helped, case(scheduled_outputs, 0.0), **as_wide)
    always = case(scheduled_outputs, 1.0)
    yield "helper scheduled outputs always", case(helped, always, **as_wide)
    function = case(scheduled_outputs, 1.0, next_inputs_fn=first_inputs)
    yield "helper scheduled outputs function", case(helped, function)
    extra = dict(auxiliary_inputs=auxiliary)
    more = case(scheduled_outputs, 1.0, **extra)
    yield "helper scheduled outputs auxiliary", case(helped, more, **as_wide)
    both = case(scheduled_outputs, 1.0, next_inputs_fn=first_inputs, **extra)
    yield "helper scheduled outputs both", case(helped, both)
    yield "helper inference", case(helped, inference, **steps)
    yield "helper custom", case(helped, custom, **steps)

    yield "beam", case(searched)
    yield "beam function", case(searched, as_function=True)
    yield "beam length", case(searched, length_penalty_weight=0.7)
    yield "beam coverage", case(searched, coverage_penalty_weight=0.4)
    both = dict(length_penalty_weight=1.2, coverage_penalty_weight=0.2)
    yield "beam both", case(searched, **both)
    yield "beam short", case(searched, steps=2)
    yield "beam history", case(searched, history=True, reorder_tensor_arrays=False)
    yield "beam history reordered", case(searched, history=True)

    yield "function gather_tree", traced
    yield "function tile_batch", tiled
    yield "function hardmax", chosen
    yield "function safe_cumprod", multiplied
    for mode in MODES:
        yield "function monotonic_attention " + mode, case(stopped, mode)
    for flags in LOSSES:
        names = ("average_across_timesteps", "average_across_batch")
        names += ("sum_over_timesteps", "sum_over_batch")
        options = {name: flag == "1" for name, flag in zip(names, flags)}
        yield f"loss {flags}", case(lost, **options)
    yield "loss own function", case(lost, own_function=True)


CASES = collections.OrderedDict(_table())
