"""Lengths are whole numbers: nothing rounds another one in silence."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.contrib import rnn
from keras_attention.functional import padding
from keras_attention.seq2seq import (
    AttentionRNN,
    AttentionWrapper,
    BasicDecoder,
    LuongAttention,
    ScheduledEmbeddingTrainingSampler,
    ScheduledOutputTrainingSampler,
    TrainingSampler,
    gather_tree,
    gather_tree_from_array,
)
from tests.seq2seq.cells import INPUT, UNITS, normal

STEPS = 3


def sampler(make):
    def decode(lengths):
        given = {"embedding": tf.eye(INPUT)} if make is embedding_sampler else {}
        decoder = BasicDecoder(keras.layers.GRUCell(INPUT), make())
        return decoder(normal(1, STEPS, INPUT), sequence_length=lengths, **given)

    return decode


def embedding_sampler():
    return ScheduledEmbeddingTrainingSampler(0.0)


def attending():
    return AttentionWrapper(keras.layers.GRUCell(UNITS), LuongAttention(UNITS), 5)


def memory():
    return normal(1, STEPS, 6)


TAKERS = {
    "training": sampler(TrainingSampler),
    "scheduled embedding": sampler(embedding_sampler),
    "scheduled output": sampler(lambda: ScheduledOutputTrainingSampler(0.0)),
    "mechanism": lambda n: LuongAttention(UNITS, memory(), memory_sequence_length=n),
    "setup_memory": lambda n: LuongAttention(UNITS).setup_memory(memory(), n),
    "rnn": lambda n: AttentionRNN(attending())(
        normal(1, 2, INPUT), memory=memory(), memory_sequence_length=n
    ),
    "decoder": lambda n: BasicDecoder(attending(), TrainingSampler())(
        normal(1, 2, INPUT), memory=memory(), memory_sequence_length=n
    ),
    "gather_tree": lambda n: gather_tree(
        tf.zeros([STEPS, 1, 1], tf.int32), tf.zeros([STEPS, 1, 1], tf.int32), n, 0
    ),
    "gather_tree_from_array": lambda n: gather_tree_from_array(
        tf.zeros([STEPS, 1, 1, 2]), tf.zeros([STEPS, 1, 1], tf.int32), tf.expand_dims(n, 0)
    ),
    "stack_bidirectional_dynamic_rnn": lambda n: rnn.stack_bidirectional_dynamic_rnn(
        [rnn.GRUCell(UNITS)], [rnn.GRUCell(UNITS)], memory(), dtype=tf.float32, sequence_length=n
    ),
    "padding": lambda n: padding(n, STEPS),
}


@pytest.mark.parametrize("name", TAKERS)
def test_whole_numbers_are_lengths_and_others_are_refused(name):
    take = TAKERS[name]
    for lengths in (np.array([2], np.int64), tf.constant([2], tf.int32), np.array([2.0])):
        take(lengths)
    for lengths in (tf.constant([2.5]), np.array([np.nan]), np.array([True])):
        with pytest.raises(
            ValueError, match=r"length\w* must be integers, or floats that are whole"
        ):
            take(lengths)


def test_no_lengths_at_all_are_taken():
    assert padding([], STEPS).shape == (0, STEPS)


def test_in_a_graph_too():
    mask = tf.function(lambda lengths: padding(lengths, STEPS), autograph=False)
    assert mask(tf.constant([2.0])).numpy().tolist() == [[True, True, False]]
    with pytest.raises(tf.errors.InvalidArgumentError, match="lengths must be integers"):
        mask(tf.constant([2.5]))
