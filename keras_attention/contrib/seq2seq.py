"""The 29 names of tf.contrib.seq2seq, with its signatures, over `keras_attention.seq2seq`."""

from typing import Any

import tensorflow as tf

from keras_attention import seq2seq
from keras_attention.contrib.attention_wrapper import (
    AttentionWrapper,
    AttentionWrapperState,
    BahdanauAttention,
    BahdanauMonotonicAttention,
    LuongAttention,
    LuongMonotonicAttention,
)
from keras_attention.contrib.decoder import BasicDecoder, BeamSearchDecoder, dynamic_decode
from keras_attention.contrib.helper import (
    CustomHelper,
    GreedyEmbeddingHelper,
    Helper,
    InferenceHelper,
    SampleEmbeddingHelper,
    ScheduledEmbeddingTrainingHelper,
    ScheduledOutputTrainingHelper,
    TrainingHelper,
)
from keras_attention.seq2seq import (
    AttentionMechanism,
    BasicDecoderOutput,
    BeamSearchDecoderOutput,
    BeamSearchDecoderState,
    Decoder,
    FinalBeamSearchDecoderOutput,
    hardmax,
    monotonic_attention,
    safe_cumprod,
    sequence_loss,
    tile_batch,
)

__all__ = [
    "AttentionMechanism",
    "AttentionWrapper",
    "AttentionWrapperState",
    "BahdanauAttention",
    "BahdanauMonotonicAttention",
    "BasicDecoder",
    "BasicDecoderOutput",
    "BeamSearchDecoder",
    "BeamSearchDecoderOutput",
    "BeamSearchDecoderState",
    "CustomHelper",
    "Decoder",
    "FinalBeamSearchDecoderOutput",
    "GreedyEmbeddingHelper",
    "Helper",
    "InferenceHelper",
    "LuongAttention",
    "LuongMonotonicAttention",
    "SampleEmbeddingHelper",
    "ScheduledEmbeddingTrainingHelper",
    "ScheduledOutputTrainingHelper",
    "TrainingHelper",
    "dynamic_decode",
    "gather_tree",
    "hardmax",
    "monotonic_attention",
    "safe_cumprod",
    "sequence_loss",
    "tile_batch",
]


def gather_tree(
    step_ids: Any, parent_ids: Any, max_sequence_lengths: Any, end_token: Any, name=None
) -> tf.Tensor:
    """`keras_attention.seq2seq.gather_tree` with a name for its ops.  [T, B, K] -> [T, B, K].

    >>> gather_tree([[[1, 2]], [[3, 4]]], [[[0, 0]], [[1, 0]]], [2], 9).numpy()[:, 0].tolist()
    [[2, 1], [3, 4]]
    """
    with tf.name_scope(name or "gather_tree"):
        return seq2seq.gather_tree(step_ids, parent_ids, max_sequence_lengths, end_token)
