"""Samplers: what the next input is, and when a row has ended.

`sampler_base` says what a sampler is. Those of `sampler_training` read what they are given, those
of `sampler_inference` what was decoded, and `sampler_draws` holds the dice.
"""

from keras_attention.decoding.loop import transpose_batch_time
from keras_attention.seq2seq.sampler_base import Sampler
from keras_attention.seq2seq.sampler_draws import bernoulli_sample, categorical_sample
from keras_attention.seq2seq.sampler_inference import (
    CustomSampler,
    GreedyEmbeddingSampler,
    InferenceSampler,
    SampleEmbeddingSampler,
)
from keras_attention.seq2seq.sampler_training import (
    ScheduledEmbeddingTrainingSampler,
    ScheduledOutputTrainingSampler,
    TrainingSampler,
)
from keras_attention.seq2seq.sampler_training import (
    _check_sequence_is_right_padded as _check_sequence_is_right_padded,
)

__all__ = [
    "CustomSampler",
    "GreedyEmbeddingSampler",
    "InferenceSampler",
    "SampleEmbeddingSampler",
    "Sampler",
    "ScheduledEmbeddingTrainingSampler",
    "ScheduledOutputTrainingSampler",
    "TrainingSampler",
    "bernoulli_sample",
    "categorical_sample",
    "transpose_batch_time",
]
