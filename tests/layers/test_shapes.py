"""What does not fit is said in the letters of the docs, before anything is computed."""

import keras
import numpy as np
import pytest

from keras_attention.layers import (
    CopyHead,
    DirectionalAttention,
    IntraDecoderAttention,
    LSTMNCell,
    NTMCell,
    PointerHead,
    Source2Token,
    StructuredSelfAttention,
)


@pytest.mark.parametrize(
    "layer",
    [
        DirectionalAttention(3),
        Source2Token(),
        StructuredSelfAttention(2, 3),
        IntraDecoderAttention(),
    ],
    ids=lambda layer: layer.name,
)
def test_a_sequence_has_three_axes(layer):
    with pytest.raises(ValueError, match=r"must be \[B, [ST], D'?\]. Received.*shape \(2, 4\)"):
        layer(np.ones((2, 4)))


def test_a_memory_belongs_to_the_batch_of_its_query():
    with pytest.raises(ValueError, match=r"memory must be.*with B = 2, as in query.*\(3, 5, 4\)"):
        PointerHead(3)(np.ones((2, 1, 4)), np.ones((3, 5, 4)))


def test_there_is_one_id_for_every_slot_of_the_attention():
    head = CopyHead(keras.layers.Dense(7))
    with pytest.raises(ValueError, match=r"source_ids must be .*with S = 5, as in attention"):
        head(np.ones((2, 1, 4)), np.ones((2, 1, 5)), np.ones((2, 6), int))


@pytest.mark.parametrize("cell", [LSTMNCell(3, 4), NTMCell(3, keras.layers.GRUCell(4))])
def test_the_width_of_a_step_must_be_known(cell):
    with pytest.raises(ValueError, match=r"inputs must be \[N, D'?\] with a known D"):
        cell.build((None, None))
