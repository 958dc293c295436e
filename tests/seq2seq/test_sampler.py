import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import (
    BasicDecoder,
    CustomSampler,
    GreedyEmbeddingSampler,
    InferenceSampler,
    SampleEmbeddingSampler,
    ScheduledEmbeddingTrainingSampler,
    ScheduledOutputTrainingSampler,
    SequenceLoss,
    TrainingSampler,
    sampler,
)
from keras_attention.seq2seq.sampler import bernoulli_sample, categorical_sample
from tests import oracles
from tests.sampled import full, sampled
from tests.seq2seq.cells import normal

INPUTS = np.arange(24, dtype="float32").reshape(2, 4, 3)
MODES = ["eager", "graph", "xla"]
VARIABLES = [tf.Variable, getattr(keras, "Variable", tf.Variable)]  # Keras 2 has none of its own
SCHEDULED = [ScheduledEmbeddingTrainingSampler, ScheduledOutputTrainingSampler]
modes = pytest.mark.parametrize("mode", MODES)


def compiled(function, mode):
    return function if mode == "eager" else tf.function(function, jit_compile=mode == "xla")


class Plus:
    """A cell whose output is its input plus a number: outputs tell what was read."""

    def __init__(self, width, number=0.0):
        self.output_size = width
        self.number = number

    def __call__(self, inputs, state, training=None):
        return inputs + tf.cast(self.number, inputs.dtype), state


def decode(cell, sampler, inputs, rows, mode="eager", steps=None, dtype="float32", **kwargs):
    """A whole decoding of `rows` rows: outputs [N, T, D], ids [N, T], lengths [N]."""
    decoder = BasicDecoder(cell, sampler, maximum_iterations=steps, dtype=dtype)
    state = tf.zeros([rows, 1], dtype)

    def run(inputs):
        outputs, _, lengths = decoder(inputs, initial_state=state, **kwargs)
        return outputs.rnn_output, outputs.sample_id, lengths

    return [x.numpy() for x in compiled(run, mode)(tf.constant(inputs))]


def assert_drawn_from(counts, probabilities):
    """Chi square, with a bound that one fair test in a million passes over."""
    expected = counts.sum() * np.asarray(probabilities)
    assert counts[expected == 0].sum() == 0
    counts, expected = counts[expected > 0], expected[expected > 0]
    assert ((counts - expected) ** 2 / expected).sum() < len(counts) + 30


# -- training


def fed(sampler, *args, **kwargs):
    """All inputs that a sampler feeds, and when each row has finished."""
    finished, inputs = sampler.initialize(*args, **kwargs)
    seen, ends = [inputs.numpy()], [finished.numpy()]
    for time in range(10):
        if finished.numpy().all():
            break
        finished, inputs, _ = sampler.next_inputs(tf.constant(time), None, None, None)
        seen.append(inputs.numpy())
        ends.append(finished.numpy())
    return np.stack(seen, 1), np.stack(ends, 1)


@pytest.mark.parametrize("time_major", [False, True])
def test_teacher_forcing_feeds_the_given_inputs_until_each_length(time_major):
    inputs = INPUTS.swapaxes(0, 1) if time_major else INPUTS
    seen, ends = fed(TrainingSampler(time_major), inputs, sequence_length=[3, 1])
    np.testing.assert_array_equal(seen[:, :3], INPUTS[:, :3])
    assert ends.tolist() == [[False, False, False, True], [False, True, True, True]]


@pytest.mark.parametrize("time_major", [False, True])
def test_a_right_padded_mask_gives_the_lengths(time_major):
    mask = oracles.padding([3, 1], 4)
    inputs = INPUTS.swapaxes(0, 1) if time_major else INPUTS
    by_mask = TrainingSampler(time_major)
    by_mask.initialize(inputs, mask=mask.T if time_major else mask)
    assert by_mask.sequence_length.numpy().tolist() == [3, 1]
    assert int(by_mask.batch_size) == 2


def test_without_lengths_every_row_has_all_steps():
    seen, _ = fed(TrainingSampler(), INPUTS)
    np.testing.assert_array_equal(seen[:, :4], INPUTS)


def test_inputs_may_be_a_nest():
    finished, first = TrainingSampler().initialize({"a": INPUTS, "b": INPUTS[..., 0]}, [3, 0])
    np.testing.assert_array_equal(first["a"], INPUTS[:, 0])
    np.testing.assert_array_equal(first["b"], INPUTS[:, 0, 0])
    assert finished.numpy().tolist() == [False, True]


def test_inputs_without_steps_are_finished_at_once():
    finished, first = TrainingSampler().initialize(INPUTS[:, :0])
    assert finished.numpy().all() and first.shape == (2, 3)


@pytest.mark.parametrize("graph", [False, True])
def test_a_mask_with_a_hole_is_refused_at_run_time(graph):
    def initialize(mask):
        return TrainingSampler().initialize(INPUTS, mask=mask)[0]

    initialize = tf.function(initialize) if graph else initialize
    with pytest.raises(tf.errors.InvalidArgumentError, match="right padded"):
        initialize(tf.constant([[True, False, True, False]] * 2))
    with pytest.raises(tf.errors.InvalidArgumentError):
        sampler._check_sequence_is_right_padded(tf.constant([[False], [True]]), True)


@pytest.mark.parametrize(
    "given",
    [
        {"mask": np.ones([2, 4])},
        {"mask": np.ones([2, 4, 1], bool)},
        {"sequence_length": 3},
        {"sequence_length": [3, 1], "mask": oracles.padding([3, 1], 4)},
        {"sequence_length": [[3, 1]]},
    ],
)
def test_masks_and_lengths_of_another_kind_are_refused(given):
    with pytest.raises(ValueError, match="Received"):
        TrainingSampler().initialize(INPUTS, **given)


TRAINING = {
    "training": TrainingSampler,
    "scheduled_ids": lambda: ScheduledEmbeddingTrainingSampler(0.5, lambda ids: tf.eye(3)),
    "scheduled_outputs": lambda: ScheduledOutputTrainingSampler(0.5),
}
MISFITS = {"beyond": [3, 5], "negative": [3, -1], "too_many": [3, 1, 2], "one_for_all": [3]}


@pytest.mark.parametrize("make", TRAINING.values(), ids=TRAINING)
@pytest.mark.parametrize("lengths", MISFITS.values(), ids=MISFITS)
def test_lengths_that_do_not_fit_the_inputs_are_refused(make, lengths):
    with pytest.raises(ValueError, match="Received: .*(sequence_length=|lengths)"):
        make().initialize(INPUTS, sequence_length=lengths)
    unknown = [tf.TensorSpec([None, None, 3]), tf.TensorSpec([None], tf.int32)]
    begin = tf.function(lambda *given: make().initialize(*given)[0], input_signature=unknown)
    with pytest.raises(tf.errors.InvalidArgumentError, match="from 0 to T"):
        begin(INPUTS, lengths)


def test_a_mask_of_more_steps_or_rows_than_the_inputs_is_refused():
    for shape in ([2, 5], [3, 4]):
        with pytest.raises(ValueError, match="Received"):
            TrainingSampler().initialize(INPUTS, mask=np.ones(shape, bool))


def test_inputs_of_a_nest_that_differ_in_their_steps_are_refused():
    with pytest.raises(ValueError, match="same number of steps"):
        TrainingSampler().initialize({"a": INPUTS, "b": INPUTS[:, :3]})


def test_xla_never_decodes_more_steps_than_were_given():
    decoder = BasicDecoder(Plus(3), TrainingSampler(), maximum_iterations=6)

    def lengths_of(lengths):
        return decoder(INPUTS, initial_state=tf.zeros([2, 1]), sequence_length=lengths)[2]

    found = tf.function(lengths_of, jit_compile=True)(tf.constant([6, 2]))
    assert found.numpy().tolist() == [4, 2]
    with pytest.raises(Exception, match="reshape|shape"):
        tf.function(
            lengths_of, jit_compile=True, input_signature=[tf.TensorSpec([None], tf.int32)]
        )(tf.constant([2]))


def test_numbers_in_lists_are_inputs_as_arrays_are():
    finished, first = TrainingSampler().initialize(INPUTS.tolist(), [3, 0])
    np.testing.assert_array_equal(first, INPUTS[:, 0])


def test_a_misspelt_argument_is_never_swallowed():
    with pytest.raises(TypeError, match="sequence_lengths"):
        TrainingSampler().initialize(INPUTS, sequence_lengths=[3, 1])


# -- greedy


def test_greedy_takes_the_likeliest_and_feeds_its_embedding():
    greedy, table = GreedyEmbeddingSampler(), np.random.normal(size=(4, 3))
    finished, first = greedy.initialize(table, start_tokens=[3, 1], end_token=2)
    np.testing.assert_array_equal(first, table[[3, 1]])
    assert not finished.numpy().any()
    ids = greedy.sample(0, tf.constant([[0.0, 1, 3, 2], [5, 1, 3, 2]]), None)
    assert ids.numpy().tolist() == [2, 0]
    finished, inputs, state = greedy.next_inputs(0, None, "state", ids)
    np.testing.assert_array_equal(inputs, table[[2, 0]])
    assert finished.numpy().tolist() == [True, False] and state == "state"


def test_greedy_never_remembers_an_embedding_of_an_earlier_call():
    greedy = GreedyEmbeddingSampler()
    for table in (np.zeros([4, 3]), np.ones([4, 3])):
        _, first = greedy.initialize(table, start_tokens=[3], end_token=2)
        np.testing.assert_array_equal(first, table[[3]])


def test_greedy_may_embed_by_a_layer():
    layer = keras.layers.Embedding(4, 3)
    _, first = GreedyEmbeddingSampler(layer).initialize(None, start_tokens=[3, 0], end_token=2)
    np.testing.assert_array_equal(first, layer(np.array([3, 0])))


def test_greedy_refuses_what_are_no_tokens():
    table = np.eye(3)
    with pytest.raises(ValueError, match="start_tokens must be a vector"):
        GreedyEmbeddingSampler().initialize(table, start_tokens=1, end_token=2)
    with pytest.raises(ValueError, match="end_token must be a scalar"):
        GreedyEmbeddingSampler().initialize(table, start_tokens=[1], end_token=[2])
    with pytest.raises(ValueError, match="embedding_fn must be callable"):
        GreedyEmbeddingSampler(table)
    greedy = GreedyEmbeddingSampler()
    greedy.initialize(table, start_tokens=[1], end_token=2)
    with pytest.raises(TypeError, match="single Tensor"):
        greedy.sample(0, (table, table), None)
    with pytest.raises(ValueError, match="embedding is required"):
        GreedyEmbeddingSampler().initialize(None, start_tokens=[1], end_token=2)


# -- draws


@modes
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_categories_are_sampled_with_the_softmax_probabilities(dtype, mode):
    logits = np.array([[[0.0, 1.0, -1.0, -np.inf]], [[3.0, 3.0, 0.0, 2.0]]], dtype)
    draw = compiled(lambda: categorical_sample(logits, tf.int64, 10000), mode)
    ids = draw()
    assert ids.shape == (10000, 2, 1) and ids.dtype == tf.int64
    for row in range(2):
        counts = np.bincount(ids[:, row, 0], minlength=4)
        assert_drawn_from(counts, oracles.softmax(logits[row, 0]))


@modes
def test_coins_have_their_probabilities(mode):
    probabilities = np.array([[0.0, 0.2], [0.5, 1.0]], np.float32)
    draws = compiled(lambda: bernoulli_sample(probabilities, sample_shape=[100, 100]), mode)()
    assert draws.shape == (100, 100, 2, 2) and draws.dtype == tf.int32
    for index, p in np.ndenumerate(probabilities):
        ones = draws.numpy()[..., index[0], index[1]]
        assert_drawn_from(np.bincount(ones.ravel(), minlength=2), [1 - p, p])


def test_coins_may_be_given_by_logits():
    logits = tf.constant([-1e9, 0.0, 1e9])
    draws = bernoulli_sample(logits=logits, dtype=tf.bool, sample_shape=10000).numpy()
    assert not draws[:, 0].any() and draws[:, 2].all()
    assert_drawn_from(np.bincount(draws[:, 1]), [0.5, 0.5])
    with pytest.raises(ValueError, match="probs or logits"):
        bernoulli_sample()


@pytest.mark.parametrize("shape, expected", [((), (2,)), (3, (3, 2)), ([0], (0, 2))])
def test_draws_have_the_sample_shape_before_the_batch(shape, expected):
    assert categorical_sample(np.zeros([2, 5]), sample_shape=shape).shape == expected
    assert bernoulli_sample([0, 1], sample_shape=shape).shape == expected


def test_a_seed_repeats_the_draws_and_the_next_draw_is_another():
    def draw():
        tf.random.set_seed(5)
        return [categorical_sample(np.zeros([50, 9]), seed=seed).numpy() for seed in (3, 3, 4)]

    one, other = draw(), draw()
    np.testing.assert_array_equal(one, other)
    assert (one[0] != one[1]).any() and (one[0] != one[2]).any()


# -- sampled


@modes
@pytest.mark.parametrize("temperature", [None, 0.5, 3.0])
def test_a_temperature_divides_the_logits(temperature, mode):
    logits = np.array([0.0, 1.0, -1.0, 0.5], np.float32)
    sample = SampleEmbeddingSampler(softmax_temperature=temperature)
    draw = compiled(lambda: sample.sample(0, tf.tile(logits[None], [10000, 1]), None), mode)
    expected = oracles.softmax(logits / (temperature or 1))
    assert_drawn_from(np.bincount(draw(), minlength=4), expected)


def test_a_cold_temperature_never_overflows_narrow_logits():
    sample = SampleEmbeddingSampler(softmax_temperature=1e-3)
    logits = tf.constant([[100.0, 200, 100]] * 20, tf.float16)
    assert sample.sample(0, logits, None).numpy().tolist() == [1] * 20


def test_a_temperature_may_be_a_variable_that_is_read_at_every_draw():
    temperature = tf.Variable(1e-3)
    sample = SampleEmbeddingSampler(softmax_temperature=temperature)
    draw = tf.function(lambda: sample.sample(0, tf.tile([[0.0, 1.0]], [100, 1]), None))
    assert draw().numpy().all()
    temperature.assign(1e3)
    assert not draw().numpy().all()


@modes
def test_what_was_drawn_is_read_in_the_next_step_until_the_end_token(mode):
    table, start = normal(4, 4), [1, 3, 0, 2, 1, 1]
    read, ids, lengths = decode(
        Plus(4),
        SampleEmbeddingSampler(seed=1),
        table,
        rows=6,
        mode=mode,
        steps=8,
        start_tokens=start,
        end_token=2,
    )
    np.testing.assert_array_equal(read[:, 0], table[start])
    for b, length in enumerate(lengths):
        np.testing.assert_array_equal(read[b, 1:length], table[ids[b, : length - 1]])
        assert 2 not in ids[b, : length - 1] and (ids[b, length - 1] == 2 or length == 8)


@pytest.mark.parametrize("temperature", [0, -1.0, np.float32(0), float("inf"), np.float32(np.nan)])
def test_a_temperature_must_be_above_zero(temperature):
    with pytest.raises(ValueError, match="must be > 0"):
        SampleEmbeddingSampler(softmax_temperature=temperature)


def test_a_row_that_has_nothing_to_draw_is_refused():
    sample = SampleEmbeddingSampler()
    outputs = tf.constant([[0.0, -np.inf], [-np.inf, -np.inf]])
    assert sample.sample(0, outputs[:1], None).numpy().tolist() == [0]
    with pytest.raises(tf.errors.InvalidArgumentError, match="a logit above -inf in each row"):
        sample.sample(0, outputs, None)


def test_sampled_refuses_outputs_that_are_no_tensor():
    with pytest.raises(TypeError, match="single Tensor"):
        SampleEmbeddingSampler().sample(0, (INPUTS, INPUTS), None)


# -- scheduled: ids


def mixed(given, sample_ids, table):
    """What a row reads: the embedding of its last id where one was drawn, else what was given."""
    read = np.array(given)
    for b, t in np.ndindex(read.shape[0], read.shape[1] - 1):
        if sample_ids[b, t] >= 0:
            read[b, t + 1] = table[sample_ids[b, t]]
    return read


@modes
@pytest.mark.parametrize("time_major", [False, True])
def test_each_row_reads_its_drawn_id_or_else_the_given_input(time_major, mode):
    inputs, table = normal(5, 6, 4), normal(4, 4)
    scheduled = ScheduledEmbeddingTrainingSampler(0.5, time_major=time_major, seed=1)
    given = inputs.swapaxes(0, 1) if time_major else inputs
    read, ids, lengths = decode(
        Plus(4),
        scheduled,
        given,
        rows=5,
        mode=mode,
        steps=6,
        embedding=table,
        sequence_length=[6, 1, 4, 0, 6],
    )
    assert (ids >= 0).any() and (ids == -1).any() and ids.max() < 4
    np.testing.assert_array_equal(read, mixed(inputs, ids, table))
    assert lengths.tolist() == [6, 1, 4, 0, 6]


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_a_drawn_embedding_takes_the_type_of_the_inputs(dtype):
    inputs, table = normal(5, 6, 4).astype(dtype), normal(4, 4)
    scheduled = ScheduledEmbeddingTrainingSampler(0.5, lambda ids: tf.gather(table, ids))
    read, ids, _ = decode(Plus(4), scheduled, inputs, rows=5, dtype=dtype)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, mixed(inputs, ids, table.astype(dtype)))


@modes
def test_at_probability_zero_it_is_teacher_forcing_and_no_id_is_drawn(mode):
    inputs = normal(3, 4, 5)
    scheduled = ScheduledEmbeddingTrainingSampler(0.0)
    read, ids, _ = decode(Plus(5), scheduled, inputs, 3, mode, steps=4, embedding=normal(5, 5))
    np.testing.assert_array_equal(read, inputs)
    assert (ids == -1).all()


@modes
def test_a_probability_for_each_row_is_for_that_row_alone(mode):
    inputs, table = normal(3, 4, 5), normal(5, 5)
    scheduled = ScheduledEmbeddingTrainingSampler([1.0, 0.0, 1.0])
    read, ids, _ = decode(Plus(5), scheduled, inputs, 3, mode, steps=4, embedding=table)
    assert (ids[[0, 2]] >= 0).all() and (ids[1] == -1).all()
    np.testing.assert_array_equal(read, mixed(inputs, ids, table))


@modes
@pytest.mark.parametrize("seeds", [(None, None), (7, 7)])
def test_rows_are_chosen_with_the_probability_and_ids_with_the_softmax(seeds, mode):
    probabilities = np.array([0.1, 0.2, 0.3, 0.4])
    logits = np.tile(np.log(probabilities), [500, 20, 1]).astype("float32")
    scheduled = ScheduledEmbeddingTrainingSampler(
        0.3, lambda ids: tf.tile(logits[:1, 0], [500, 1]), False, *seeds
    )
    _, ids, _ = decode(Plus(4), scheduled, logits, rows=500, mode=mode, steps=20)
    assert_drawn_from(np.bincount((ids >= 0).ravel()), [0.7, 0.3])
    assert_drawn_from(np.bincount(ids[ids >= 0]), probabilities)
    # A step says nothing of the next one, nor a row of its neighbour.
    chosen = ids >= 0
    for one, other in ((chosen[:, 1:], chosen[:, :-1]), (chosen[1:], chosen[:-1])):
        assert_drawn_from(np.bincount((2 * one + other).ravel()), [0.49, 0.21, 0.21, 0.09])


@pytest.mark.parametrize("mode, kind, scheduled", sampled(["graph", "xla"], VARIABLES, SCHEDULED))
def test_a_probability_may_change_after_tracing(scheduled, kind, mode):
    probability = kind(0.0)
    arguments = {"embedding": np.eye(5, dtype="float32")} if "Emb" in scheduled.__name__ else {}
    decoder = BasicDecoder(Plus(5), scheduled(probability), maximum_iterations=4)
    run = compiled(
        lambda x: decoder(x, initial_state=tf.zeros([3, 1]), **arguments)[0].sample_id, mode
    )
    inputs = tf.constant(normal(3, 4, 5))
    for value in (0.0, 1.0, 0.0):
        probability.assign(value)
        drawn = run(inputs).numpy() > (-1 if arguments else 0)
        assert (drawn == bool(value)).all()
    assert run.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(
    "mode, seeds", sampled(["eager", "graph"], [(None, None), (3, 4)], together=1)
)
def test_seeds_repeat_a_whole_decoding(seeds, mode):
    inputs, table = normal(6, 40, 4), normal(4, 4)

    def ids(seed):
        tf.random.set_seed(seed)
        scheduled = ScheduledEmbeddingTrainingSampler(0.5, None, False, *seeds)
        return decode(Plus(4), scheduled, inputs, 6, mode, embedding=table)[1]

    first = ids(seed=1)
    for _ in range(3):
        np.testing.assert_array_equal(ids(seed=1), first)
    assert (ids(seed=2) != first).any()


@pytest.mark.parametrize("kind", SCHEDULED)
def test_no_coin_is_tossed_before_the_outputs_of_its_step(kind):
    # Else a loop in a graph tosses those of several steps at once, and seeds repeat nothing.
    scheduled = kind(0.5)
    if kind is SCHEDULED[0]:
        scheduled.initialize(INPUTS, embedding=np.eye(3))
    else:
        scheduled.initialize(INPUTS)
    sample = tf.function(lambda outputs: scheduled.sample(0, outputs, None))
    graph = sample.get_concrete_function(tf.TensorSpec([2, 3])).graph
    before = [op for op in graph.get_operations() if op.type == "RandomUniform"]
    assert before
    for op in before:  # the list grows by all that must be done first
        earlier = [*op.control_inputs, *(x.op for x in op.inputs)]
        before += [other for other in earlier if other not in before]
    assert graph.inputs[0].op in before


@pytest.mark.parametrize("kind", SCHEDULED)
def test_a_custom_loop_keeps_the_batch_it_began_with(kind):
    scheduled = kind(0.5)
    arguments = {"embedding": np.eye(3, dtype="float32")} if kind is SCHEDULED[0] else {}

    @tf.function
    def run():
        finished, inputs = scheduled.initialize(INPUTS, [4, 2], **arguments)
        ids, time = tf.zeros([2], tf.int32), 0
        while not tf.reduce_all(finished):
            ids = scheduled.sample(time, inputs, None)
            finished, inputs, _ = scheduled.next_inputs(time, inputs, None, ids)
            time += 1
        return ids, time

    ids, time = run()
    assert ids.shape == (2,) and time == 4


def test_scheduled_never_remembers_an_embedding_of_an_earlier_call():
    scheduled, ids = ScheduledEmbeddingTrainingSampler(1.0), tf.constant([1, 0])
    for table in (np.zeros([4, 3]), np.ones([4, 3])):
        scheduled.initialize(INPUTS, embedding=table)
        np.testing.assert_array_equal(scheduled.next_inputs(0, None, None, ids)[1], table[:2])


def test_scheduled_inputs_may_be_a_nest():
    inputs = {"a": INPUTS, "b": INPUTS[..., :1]}
    scheduled = ScheduledEmbeddingTrainingSampler(
        1.0, lambda ids: {"a": tf.fill([2, 3], -1.0), "b": tf.fill([2, 1], -2.0)}
    )
    scheduled.initialize(inputs, [4, 2])
    finished, read, _ = scheduled.next_inputs(tf.constant(1), None, None, tf.constant([-1, 2]))
    assert finished.numpy().tolist() == [False, True]
    np.testing.assert_array_equal(read["a"], [INPUTS[0, 2], [-1] * 3])
    np.testing.assert_array_equal(read["b"], [INPUTS[0, 2, :1], [-2]])


def test_when_all_rows_have_ended_zeros_are_read():
    for scheduled, ids in (
        (ScheduledEmbeddingTrainingSampler(1.0, lambda ids: tf.ones([2, 3])), [2, 2]),
        (ScheduledOutputTrainingSampler(1.0), [1, 1]),
    ):
        scheduled.initialize(INPUTS, [1, 2])
        outputs, ids = tf.ones([2, 3]), tf.constant(ids)
        finished, read, _ = scheduled.next_inputs(tf.constant(1), outputs, None, ids)
        assert finished.numpy().all() and not read.numpy().any()


def test_the_embedding_of_what_was_drawn_gets_its_gradient():
    table, inputs = tf.Variable(normal(4, 3)), INPUTS
    scheduled = ScheduledEmbeddingTrainingSampler(1.0)
    with tf.GradientTape() as tape:
        scheduled.initialize(inputs, embedding=table)
        read = scheduled.next_inputs(0, None, None, tf.constant([2, -1]))[1]
        total = tf.reduce_sum(read)
    gradient = tf.convert_to_tensor(tape.gradient(total, table))
    np.testing.assert_array_equal(gradient, [[0] * 3, [0] * 3, [1] * 3, [0] * 3])


# -- scheduled: outputs


def walk(inputs, coins, function=lambda x: x, auxiliary=None):
    """The inputs of a `Plus(..., 1)`, of which only `coins` decide.  [B, T, D]."""
    read = [inputs[:, 0]]
    for t in range(1, inputs.shape[1]):
        own = function(read[-1] + 1)
        if auxiliary is not None:
            own = np.concatenate([own, auxiliary[:, t]], -1)
        read.append(np.where(coins[:, t - 1, None] == 1, own, inputs[:, t]))
    return np.stack(read, 1)


@modes
@pytest.mark.parametrize("function", [None, lambda x: 2 * x], ids=["outputs", "function"])
@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_each_row_reads_its_own_output_or_else_the_given_input(probability, function, mode):
    inputs = normal(5, 6, 4)
    scheduled = ScheduledOutputTrainingSampler(probability, next_inputs_fn=function)
    outputs, coins, lengths = decode(
        Plus(4, 1), scheduled, inputs, 5, mode, steps=6, sequence_length=[6, 1, 4, 0, 6]
    )
    assert coins.dtype == np.int32 and lengths.tolist() == [6, 1, 4, 0, 6]
    assert set(np.unique(coins)) == {0.0: {0}, 0.5: {0, 1}, 1.0: {1}}[probability]
    expected = walk(inputs, coins, function or (lambda x: x)) + 1
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


@modes
@pytest.mark.parametrize("time_major", [False, True])
def test_auxiliary_inputs_are_appended_to_what_is_given_and_to_what_is_fed_back(time_major, mode):
    inputs, auxiliary = normal(5, 6, 3), normal(5, 6, 2)

    def first_three(x):
        return x[:, :3]

    turn = (lambda x: x.swapaxes(0, 1)) if time_major else (lambda x: x)
    scheduled = ScheduledOutputTrainingSampler(0.5, time_major, 2, first_three)
    outputs, coins, _ = decode(
        Plus(5, 1),
        scheduled,
        turn(inputs),
        5,
        mode,
        steps=6,
        auxiliary_inputs=tf.constant(turn(auxiliary)),
    )
    whole = np.concatenate([inputs, auxiliary], -1)
    expected = walk(whole, coins, first_three, auxiliary) + 1
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


def test_outputs_and_auxiliary_inputs_may_be_nests_and_of_another_type():
    nest = {"a": INPUTS.astype("float64"), "b": INPUTS[..., :1]}
    scheduled = ScheduledOutputTrainingSampler(1.0)
    scheduled.initialize(nest, auxiliary_inputs={"a": -INPUTS, "b": -INPUTS.astype("float16")})
    outputs = {"a": tf.ones([2, 3]), "b": tf.ones([2, 1])}
    _, read, _ = scheduled.next_inputs(tf.constant(0), outputs, None, tf.constant([1, 0]))
    assert read["a"].dtype == tf.float64 and read["b"].dtype == tf.float32
    np.testing.assert_array_equal(read["a"][0], [1, 1, 1, *-INPUTS[0, 1]])
    np.testing.assert_array_equal(read["a"][1], [*INPUTS[1, 1], *-INPUTS[1, 1]])
    np.testing.assert_array_equal(read["b"][0], [1, *-INPUTS[0, 1]])


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_outputs_are_fed_back_in_the_type_of_the_inputs(dtype):
    inputs = np.zeros([3, 4, 2], dtype)
    outputs, _, _ = decode(Plus(2, 1), ScheduledOutputTrainingSampler(1.0), inputs, 3, dtype=dtype)
    assert outputs.dtype == dtype
    np.testing.assert_array_equal(outputs, np.tile([[[1], [2], [3], [4]]], [3, 1, 2]))


@pytest.mark.parametrize("probability, reach", [(0.0, 1), (1.0, 4)])
def test_the_gradient_goes_through_what_is_fed_back(probability, reach):
    inputs = tf.Variable(INPUTS)
    scheduled = ScheduledOutputTrainingSampler(probability)
    decoder = BasicDecoder(Plus(3, 1), scheduled)
    with tf.GradientTape() as tape:
        outputs, _, _ = decoder(tf.convert_to_tensor(inputs), initial_state=tf.zeros([2, 1]))
        total = tf.reduce_sum(outputs.rnn_output)
    assert (tape.gradient(total, inputs).numpy()[:, 0] == reach).all()


# -- scheduled: refusals


@pytest.mark.parametrize("kind", SCHEDULED)
@pytest.mark.parametrize("made", [list, tf.Variable])
def test_a_probability_is_a_scalar_or_a_vector(kind, made):
    with pytest.raises(ValueError, match="either a scalar or a vector"):
        kind(made([[0.5]]))


def test_scheduled_needs_an_embedding_from_somewhere():
    with pytest.raises(ValueError, match="embedding is required"):
        ScheduledEmbeddingTrainingSampler(0.5).initialize(INPUTS)
    with pytest.raises(ValueError, match="embedding_fn must be callable"):
        ScheduledEmbeddingTrainingSampler(0.5, np.eye(3))
    with pytest.raises(ValueError, match="next_inputs_fn must be callable"):
        ScheduledOutputTrainingSampler(0.5, next_inputs_fn=3)


def test_what_is_fed_back_must_look_like_an_input():
    scheduled = ScheduledOutputTrainingSampler(0.5)
    scheduled.initialize(INPUTS)
    with pytest.raises(ValueError, match="shape of the given ones"):
        scheduled.next_inputs(0, tf.ones([2, 1]), None, tf.constant([1, 0]))


# -- inference


@modes
@pytest.mark.parametrize("function", [None, lambda x: x - 3], ids=["samples", "function"])
def test_inference_continues_from_its_own_samples_until_they_end(function, mode):
    start, steps = np.array([[1.0], [9.0], [2.0], [0.25]], np.float32), 6
    inference = InferenceSampler(
        sample_fn=lambda outputs: 2 * outputs,
        sample_shape=[1],
        sample_dtype=tf.float32,
        end_fn=lambda samples: samples[:, 0] > 19,
        next_inputs_fn=function,
    )
    outputs, samples, lengths = decode(Plus(1, 1), inference, start, 4, mode, steps=steps)
    for b, x in enumerate(start[:, 0]):
        for t in range(lengths[b]):
            assert outputs[b, t, 0] == x + 1 and samples[b, t, 0] == 2 * (x + 1)
            assert (samples[b, t, 0] > 19) == (t + 1 == lengths[b]) or t + 1 == steps
            x = samples[b, t, 0] if function is None else function(samples[b, t, 0])


def test_inference_may_start_from_a_nest_and_a_shape_may_be_a_tensor():
    inference = InferenceSampler(
        tf.identity, tf.constant([2, 3]), "int64", lambda ids: ids[:, 0, 0] > 0
    )
    finished, first = inference.initialize({"a": INPUTS, "b": INPUTS[:, 0]})
    assert not finished.numpy().any() and first["b"].shape == (2, 3)
    assert inference.sample_ids_shape == [2, 3] and inference.sample_ids_dtype == tf.int64


@pytest.mark.parametrize(
    "end_fn, message",
    [
        (lambda ids: ids > 19, r"end_fn must return .* \[N\] bool. Received: shape \(2, 1\) bool"),
        (lambda ids: ids[:, 0], r"Received: shape \(2,\) float32"),
    ],
)
def test_an_end_that_is_not_one_bool_for_each_row_is_refused(end_fn, message):
    inference = InferenceSampler(tf.identity, [1], tf.float32, end_fn)
    with pytest.raises(ValueError, match=message):
        decode(Plus(1, 1), inference, np.zeros([2, 1], np.float32), 2, "eager", steps=3)


def test_an_end_that_is_a_scalar_holds_for_all_rows():
    inference = InferenceSampler(tf.identity, [1], tf.float32, lambda ids: False)
    _, _, lengths = decode(Plus(1, 1), inference, np.zeros([2, 1], np.float32), 2, "graph", steps=3)
    assert lengths.tolist() == [3, 3]


# -- custom


def halves(inputs, scale=1.0):
    """Two inputs for each row; rows that begin with zero are finished."""
    return tf.equal(inputs[:, 0], 0), {"a": scale * inputs, "b": -inputs}


def both(time, outputs, state):
    return tf.cast(outputs, tf.int64)[:, :2]


def onwards(time, outputs, state, sample_ids):
    return sample_ids[:, 0] > 5, {"a": outputs, "b": tf.zeros_like(outputs)}, state


class Sum(Plus):
    """The same of two inputs."""

    def __call__(self, inputs, state, training=None):
        return super().__call__(inputs["a"] + inputs["b"], state)


@modes
def test_three_functions_are_a_sampler_of_nested_inputs(mode):
    custom = CustomSampler(halves, both, onwards, sample_ids_shape=[2], sample_ids_dtype=tf.int64)
    start = np.array([[1.0, 2, 3], [0, 2, 3], [4, 4, 4]], np.float32)
    outputs, ids, lengths = decode(
        Sum(3, 1), custom, start, 3, mode, steps=5, scale=tf.constant(3.0)
    )
    assert lengths.tolist() == [4, 0, 1] and ids.dtype == np.int64
    for b, length in enumerate(lengths):
        expected = 2 * start[b] + 1 + np.arange(length)[:, None]
        np.testing.assert_array_equal(outputs[b, :length], expected)
        np.testing.assert_array_equal(ids[b, :length], expected[:, :2])


def test_the_ids_of_a_custom_sampler_are_int32_scalars_if_nothing_else_is_reported():
    custom = CustomSampler(halves, both, onwards)
    assert custom.sample_ids_shape == [] and custom.sample_ids_dtype == tf.int32


@pytest.mark.parametrize("position", range(3))
def test_anything_that_cannot_be_called_is_no_part_of_a_sampler(position):
    functions = [halves, both, onwards]
    functions[position] = None
    with pytest.raises(ValueError, match="must be callable"):
        CustomSampler(*functions)
    functions = [tf.identity, tf.identity, tf.identity]
    functions[position] = "identity"
    with pytest.raises(ValueError, match="must be callable"):
        InferenceSampler(functions[0], [], tf.int32, *functions[1:])


# -- what every sampler owes


@keras.saving.register_keras_serializable("tests")
def rows_of_four(ids):
    return tf.one_hot(ids, 4)


@keras.saving.register_keras_serializable("tests")
def above_three(ids):
    return ids[:, 0] > 3


@keras.saving.register_keras_serializable("tests")
def double(x):
    return 2 * x


@keras.saving.register_keras_serializable("tests")
def start_custom(inputs):
    return tf.fill([tf.shape(inputs)[0]], False), inputs


@keras.saving.register_keras_serializable("tests")
def sample_custom(time, outputs, state):
    return tf.argmax(outputs, -1)


@keras.saving.register_keras_serializable("tests")
def go_on(time, outputs, state, sample_ids):
    return sample_ids > 3, rows_of_four(sample_ids), state


TOKENS = {"start_tokens": [1, 3, 0], "end_token": 2}
EVERY = {
    "training": (lambda: TrainingSampler(time_major=True), [6, 3, 4], {}),
    "scheduled_embedding": (
        lambda: ScheduledEmbeddingTrainingSampler(0.3, rows_of_four, False, 5, np.int64(6)),
        [3, 6, 4],
        {},
    ),
    "scheduled_output": (
        lambda: ScheduledOutputTrainingSampler(tf.Variable([0.3, 0, 1]), False, 5, double),
        [3, 6, 4],
        {},
    ),
    "greedy": (lambda: GreedyEmbeddingSampler(rows_of_four), [3, 4], TOKENS),
    "sample": (lambda: SampleEmbeddingSampler(rows_of_four, tf.constant(0.5), 5), [3, 4], TOKENS),
    "inference": (
        lambda: InferenceSampler(double, [4], tf.float32, above_three, double),
        [3, 4],
        {},
    ),
    "custom": (
        lambda: CustomSampler(start_custom, sample_custom, go_on, [], tf.int64),
        [3, 4],
        {},
    ),
}
every = pytest.mark.parametrize("name", EVERY)


@every
def test_a_decoder_comes_back_from_its_config_with_its_sampler(name):
    make, shape, arguments = EVERY[name]
    kernel = keras.initializers.RandomNormal(stddev=1.0, seed=3)
    cell = keras.layers.SimpleRNNCell(4, kernel_initializer=kernel, recurrent_initializer="zeros")
    decoder = BasicDecoder(cell, make(), maximum_iterations=6)
    saved = json.loads(json.dumps(keras.saving.serialize_keras_object(decoder)))
    copy = keras.saving.deserialize_keras_object(saved)
    assert type(copy.sampler) is type(decoder.sampler)
    assert copy.sampler.get_config() == decoder.sampler.get_config()
    inputs, found = normal(*shape), []
    for one in (decoder, copy):
        tf.random.set_seed(8)
        outputs, _, lengths = one(inputs, initial_state=tf.zeros([3, 4]), **arguments)
        found.append([outputs.rnn_output.numpy(), outputs.sample_id.numpy(), lengths.numpy()])
    for a, b in zip(*found):
        np.testing.assert_array_equal(a, b)


@every
def test_a_batch_size_is_that_of_the_last_initialize_and_of_none_before(name):
    make, shape, arguments = EVERY[name]
    made, batch_axis = make(), shape.index(3)
    with pytest.raises(ValueError, match="before initialize"):
        _ = made.batch_size
    for batch in (3, 5, 1):
        rows = {"start_tokens": [1] * batch, "end_token": 2} if arguments else {}
        made.initialize(normal(*shape[:batch_axis], batch, *shape[batch_axis + 1 :]), **rows)
        assert int(made.batch_size) == batch


@pytest.mark.parametrize("kind", SCHEDULED)
def test_batch_and_length_may_be_unknown_in_a_graph(kind):
    scheduled = kind(0.5)
    arguments = {"embedding": np.eye(4, dtype="float32")} if kind is SCHEDULED[0] else {}
    decoder = BasicDecoder(Plus(4), scheduled)

    @tf.function(input_signature=[tf.TensorSpec([None, None, 4])])
    def run(x):
        outputs, _, _ = decoder(x, initial_state=tf.zeros([tf.shape(x)[0], 1]), **arguments)
        return outputs

    for batch, steps in ((3, 5), (1, 2), (4, 1)):
        inputs = normal(batch, steps, 4)
        outputs = run(inputs)
        assert outputs.rnn_output.shape == (batch, steps, 4)
        assert outputs.sample_id.shape == (batch, steps)
        if arguments:
            expected = mixed(inputs, outputs.sample_id.numpy(), np.eye(4))
            np.testing.assert_array_equal(outputs.rnn_output, expected)


# -- fit


class Speller(keras.Model):
    """A decoder that reads now and then what it has spelt itself."""

    def __init__(self, probability, vocabulary, steps):
        super().__init__()
        self.embedding = keras.layers.Embedding(vocabulary, 8)
        scheduled = ScheduledEmbeddingTrainingSampler(probability, self.embedding)
        self.decoder = BasicDecoder(
            keras.layers.GRUCell(16),
            scheduled,
            keras.layers.Dense(vocabulary),
            maximum_iterations=steps,
        )

    def call(self, tokens):
        state = tf.zeros([tf.shape(tokens)[0], 16])
        return self.decoder(self.embedding(tokens), initial_state=state)[0].rnn_output


@pytest.mark.parametrize("jit", [False, *full(True)])
@pytest.mark.full
def test_a_model_learns_while_a_callback_raises_the_probability(jit):
    probability = tf.Variable(0.0, trainable=False)
    model = Speller(probability, vocabulary=6, steps=4)
    model.compile(keras.optimizers.Adam(0.03), loss=SequenceLoss(), jit_compile=jit)
    start = np.random.randint(6, size=(32, 1))
    tokens = (start + np.arange(4)) % 6
    raise_it = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: probability.assign(epoch / 19)
    )
    history = model.fit(tokens, (tokens + 1) % 6, 16, 20, verbose=0, callbacks=[raise_it])
    assert history.history["loss"][-1] < 0.3 * history.history["loss"][0]
    # At probability one only the first token is read: the rest it has spelt.
    assert float(probability) == 1
    spelt = model.predict(np.repeat(start, 4, 1), verbose=0).argmax(-1)
    assert (spelt == (tokens + 1) % 6).mean() > 0.9
