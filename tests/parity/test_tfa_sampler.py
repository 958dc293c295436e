"""Beside tensorflow_addons: `BasicDecoder` with every sampler decodes the same."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.parity.tfa_pairs import (
    LIBRARIES,
    OURS,
    THEIRS,
    assert_same,
    name_case,
    run,
    tensor,
)

B, T, WIDTH, UNITS, V, START, END = 3, 4, 5, 6, 7, 1, 2
LENGTHS = np.array([4, 0, 2], np.int32)
MASK = np.arange(T) < LENGTHS[:, None]
SEQUENCE = tensor("sequence", B, T, WIDTH)
TABLE = tensor("embedding", V, WIDTH)
TOKENS = {"start_tokens": tf.fill([B], START), "end_token": tf.constant(END)}


def time_major(x):
    return tf.transpose(x, [1, 0, *range(2, len(x.shape))])


def embed(ids):
    return tf.gather(TABLE, ids)


def custom(library):
    """Feed back the output, until its first number is positive; ids are vectors."""
    return library.CustomSampler(
        initialize_fn=lambda inputs, scale: (tf.reduce_all(inputs < -9, -1), inputs * scale),
        sample_fn=lambda time, outputs, state: tf.cast(outputs[:, :2] > 0, tf.int64),
        next_inputs_fn=lambda time, outputs, state, sample_ids: (
            tf.equal(sample_ids[:, 0], 1),
            outputs * tf.cast(time + 1, tf.float32),
            state + 1,
        ),
        sample_ids_shape=[2],
        sample_ids_dtype=tf.int64,
    )


def training(**settings):
    return lambda library: library.TrainingSampler(**settings)


def embedding(probability, **settings):
    return lambda library: library.ScheduledEmbeddingTrainingSampler(probability, **settings)


def output(probability, **settings):
    return lambda library: library.ScheduledOutputTrainingSampler(probability, **settings)


def greedy(**settings):
    return lambda library: library.GreedyEmbeddingSampler(**settings)


def sampling(**settings):
    return lambda library: library.SampleEmbeddingSampler(**settings)


def inference(**settings):
    return lambda library: library.InferenceSampler(
        tf.nn.softmax, [WIDTH], tf.float32, lambda ids: ids[:, 0] > 0.3, **settings
    )


# name -> (library -> sampler, the decoder's input and what else it is called with, output width)
SAMPLERS = {
    "training": (training(), SEQUENCE, {}, V),
    "training-lengths": (training(), SEQUENCE, {"sequence_length": LENGTHS}, V),
    "training-mask": (training(), SEQUENCE, {"mask": tf.constant(MASK)}, V),
    "training-time_major-lengths": (
        training(time_major=True),
        time_major(SEQUENCE),
        {"sequence_length": LENGTHS},
        V,
    ),
    "training-time_major-mask": (
        training(time_major=True),
        time_major(SEQUENCE),
        {"mask": tf.constant(MASK.T)},
        V,
    ),
    "embedding-0": (embedding(0.0), SEQUENCE, {"embedding": TABLE, "sequence_length": LENGTHS}, V),
    "embedding-1": (embedding(1.0, seed=3), SEQUENCE, {"embedding": TABLE}, V),
    "embedding-half": (
        embedding(0.5, embedding_fn=embed, seed=3, scheduling_seed=4),
        SEQUENCE,
        {"sequence_length": LENGTHS},
        V,
    ),
    "embedding-half-time_major": (
        embedding(tf.Variable(0.5), time_major=True, seed=3, scheduling_seed=4),
        time_major(SEQUENCE),
        {"embedding": TABLE, "mask": tf.constant(MASK.T)},
        V,
    ),
    "output-0": (output(0.0), SEQUENCE, {"sequence_length": LENGTHS}, WIDTH),
    "output-1": (output(1.0), SEQUENCE, {}, WIDTH),
    "output-half": (output(0.5, seed=3), SEQUENCE, {"sequence_length": LENGTHS}, WIDTH),
    "output-half-fn": (
        output(0.5, seed=3, next_inputs_fn=lambda x: tf.nn.softmax(x)[:, :WIDTH]),
        SEQUENCE,
        {"mask": tf.constant(MASK)},
        V,
    ),
    "output-half-auxiliary": (
        output(0.5, seed=3),
        SEQUENCE,
        {"auxiliary_inputs": tensor("auxiliary", B, T, 2)},
        WIDTH,
    ),
    "output-1-auxiliary-fn-time_major": (
        output(1.0, time_major=True, next_inputs_fn=tf.tanh),
        time_major(SEQUENCE),
        {"auxiliary_inputs": tensor("auxiliary", T, B, 2), "sequence_length": LENGTHS},
        WIDTH,
    ),
    "greedy": (greedy(), TABLE, TOKENS, V),
    "greedy-fn": (greedy(embedding_fn=embed), TABLE, TOKENS, V),
    "sample": (sampling(seed=3), TABLE, TOKENS, V),
    "sample-cold": (sampling(softmax_temperature=0.3, seed=3), TABLE, TOKENS, V),
    "sample-fn": (sampling(embedding_fn=embed, seed=4), TABLE, TOKENS, V),
    "inference": (inference(), SEQUENCE[:, 0], {}, WIDTH),
    "inference-fn": (inference(next_inputs_fn=lambda ids: 2 * ids), SEQUENCE[:, 0], {}, WIDTH),
    "custom": (custom, SEQUENCE[:, 0], {"scale": tf.constant(2.0)}, WIDTH),
}


def decoded(name, options):
    """A decoding with a sampler from the table."""
    sampler, _, call, width = SAMPLERS[name]

    def make(library):
        cell, head = keras.layers.GRUCell(UNITS), keras.layers.Dense(width)
        decoder = library.BasicDecoder(
            cell, sampler(library), **{"output_layer": head, "maximum_iterations": T, **options}
        )

        def answer(first):
            outputs, state, lengths = decoder(
                first, initial_state=tensor("begin", B, UNITS), **call
            )
            assert type(outputs) is library.BasicDecoderOutput
            return {"outputs": outputs, "state": state, "lengths": lengths}

        return answer, {"cell": cell, "head": head}

    return make


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_decodes_the_same(name):
    assert_same(decoded(name, {}), SAMPLERS[name][1])


@pytest.mark.parametrize(
    "options",
    [
        {"impute_finished": True},
        {"output_time_major": True},
        {"maximum_iterations": 2},
        {"maximum_iterations": tf.constant(3), "impute_finished": True, "output_time_major": True},
        {"parallel_iterations": 1, "swap_memory": True, "name": "decoding"},
    ],
    ids=lambda x: "-".join(x),
)
@pytest.mark.parametrize("name", ["training-lengths", "greedy", "custom"])
def test_every_option_does_the_same(name, options):
    assert_same(decoded(name, options), SAMPLERS[name][1])


@pytest.mark.parametrize("name", [name for name in SAMPLERS if "half" not in name])
def test_the_steps_of_a_sampler_called_by_hand_are_the_same(name):
    sampler_of, first, call, width = SAMPLERS[name]
    outputs = tensor("outputs", B, width)

    def make(library):
        sampler = sampler_of(library)
        with pytest.raises(ValueError, match="batch_size accessed before initialize was called"):
            sampler.batch_size  # noqa: B018

        def answer(state):
            begin = sampler.initialize(first, **call)
            ids = sampler.sample(time=tf.constant(0), outputs=outputs, state=state)
            after = sampler.next_inputs(tf.constant(0), outputs, state, ids)
            sizes = [sampler.sample_ids_shape.as_list(), sampler.sample_ids_dtype.name]
            return begin, ids, after, sizes, sampler.batch_size

        return answer, {}

    assert_same(make, tensor("state", B, UNITS), slopes=False)


# -- where theirs fails


def test_no_steps_at_all_give_ids_of_no_steps_where_the_original_forget_the_batch():
    nothing = {"sequence_length": 0 * LENGTHS}

    def make(library):
        decoder = library.BasicDecoder(keras.layers.GRUCell(UNITS), library.TrainingSampler())
        return (lambda begin: decoder(SEQUENCE, initial_state=begin, **nothing)), {}

    begin = tensor("begin", B, UNITS)
    (theirs, _), (ours, _) = (run(library, make, (begin,), slopes=False) for library in LIBRARIES)
    ids = "tuple[0].sample_id"
    assert theirs[ids].shape == (0,)
    assert ours[ids].shape == (B, 0)
    for path in set(theirs) - {ids}:
        np.testing.assert_array_equal(ours[path], theirs[path])


def test_a_probability_for_each_row_applies_to_that_row_where_the_original_shares_it():
    probability = tf.constant([1.0, 0.0, 1.0])
    logits = tensor("logits", B, V)
    theirs, ours = (
        library.ScheduledEmbeddingTrainingSampler(probability, embed) for library in LIBRARIES
    )
    for sampler in (theirs, ours):
        sampler.initialize(SEQUENCE)
    assert theirs.sample(0, logits, None).shape == [B, B]  # which no decoder can use
    ids = ours.sample(0, logits, None).numpy()
    np.testing.assert_array_equal(ids >= 0, [True, False, True])
    _, inputs, _ = ours.next_inputs(tf.constant(0), logits, None, tf.constant(ids))
    np.testing.assert_array_equal(inputs[1], SEQUENCE[1, 1])
    np.testing.assert_array_equal(inputs[::2], embed(ids[::2]))
    theirs, ours = (library.ScheduledOutputTrainingSampler(probability) for library in LIBRARIES)
    for sampler in (theirs, ours):
        sampler.initialize(SEQUENCE)
    assert theirs.sample(0, logits, None).shape == [B, B]
    np.testing.assert_array_equal(ours.sample(0, logits, None), [1, 0, 1])


@pytest.mark.parametrize("name", ["GreedyEmbeddingSampler", "SampleEmbeddingSampler"])
def test_a_second_embedding_is_looked_up_where_the_original_keeps_the_first(name):
    for library, factor in ((THEIRS, 1), (OURS, 2)):
        sampler = getattr(library, name)()
        _, first = sampler.initialize(TABLE, **TOKENS)
        _, second = sampler.initialize(2 * TABLE, **TOKENS)
        np.testing.assert_array_equal(second, factor * first)
    for library, factor in ((THEIRS, 1), (OURS, 2)):
        sampler = library.ScheduledEmbeddingTrainingSampler(1.0)
        found = []
        for table in (TABLE, 2 * TABLE):
            sampler.initialize(SEQUENCE, embedding=table)
            found.append(sampler.next_inputs(tf.constant(0), None, None, tf.constant([1, 2, 3]))[1])
        np.testing.assert_array_equal(found[1], factor * found[0])


def test_a_custom_sampler_knows_the_batch_it_has_where_the_original_knows_the_first():
    for library, rows in ((THEIRS, B), (OURS, 1)):
        sampler = custom(library)
        sampler.initialize(SEQUENCE[:, 0], scale=1.0)
        sampler.initialize(SEQUENCE[:1, 0], scale=1.0)
        assert int(sampler.batch_size) == rows


# -- bad input


def at_probability(library):
    library.ScheduledEmbeddingTrainingSampler([[0.5]])


def at_output_probability(library):
    library.ScheduledOutputTrainingSampler([[0.5]])


def at_no_embedding(library):
    library.ScheduledEmbeddingTrainingSampler(0.5).initialize(SEQUENCE)


def at_lengths(library):
    library.TrainingSampler().initialize(SEQUENCE, sequence_length=tf.constant(3))


def at_both(library):
    library.TrainingSampler().initialize(SEQUENCE, sequence_length=LENGTHS, mask=tf.constant(MASK))


def at_mask_rank(library):
    library.TrainingSampler().initialize(SEQUENCE, mask=tf.constant([True]))


def at_mask_type(library):
    library.TrainingSampler().initialize(SEQUENCE, mask=tf.ones([B, T]))


def at_mask_padding(library):
    library.TrainingSampler().initialize(SEQUENCE, mask=tf.constant(MASK[:, ::-1]))


def at_start(library):
    library.GreedyEmbeddingSampler().initialize(TABLE, start_tokens=START, end_token=END)


def at_end(library):
    library.GreedyEmbeddingSampler().initialize(TABLE, start_tokens=[START], end_token=[END])


def at_outputs(library):
    library.GreedyEmbeddingSampler().sample(0, (tf.ones([B, V]),), None)


def at_sampled_outputs(library):
    library.SampleEmbeddingSampler().sample(0, (tf.ones([B, V]),), None)


def at_abstract(library):
    library.Sampler()


@pytest.mark.parametrize(
    "mistake, error, words",
    [
        (at_probability, ValueError, "sampling_probability must be either a scalar or a vector"),
        (at_output_probability, ValueError, "sampling_probability must be either a scalar or a"),
        (at_no_embedding, ValueError, "embedding is required as a"),
        (at_lengths, ValueError, "Expected sequence_length to be vector"),
        (at_both, ValueError, "sequence_length and mask can't be provided at the same time"),
        (at_mask_rank, ValueError, "2D tensor"),
        (at_mask_type, ValueError, "Expected mask to be a boolean tensor"),
        (at_mask_padding, tf.errors.InvalidArgumentError, "right padded"),
        (at_start, ValueError, "start_tokens must be a vector"),
        (at_end, ValueError, "end_token must be a scalar"),
        (at_outputs, TypeError, "Expected outputs to be a single Tensor"),
        (at_sampled_outputs, TypeError, "Expected outputs to be a single Tensor"),
        (at_abstract, TypeError, "abstract"),
    ],
    ids=name_case,
)
def test_mistakes_are_reported_with_the_same_error(mistake, error, words):
    for library in LIBRARIES:
        with pytest.raises(error, match=words):
            mistake(library)
