"""Tools for training: clipping, checkpoints, many workers, metrics, for any Keras model."""

from keras_attention.training import distribute
from keras_attention.training.accumulation import AccumulateGradients
from keras_attention.training.averaging import average_checkpoints, average_weights
from keras_attention.training.checkpoint import TrainingCheckpoint
from keras_attention.training.clipping import clip_by_global_norm, global_norm
from keras_attention.training.clipping_optimizer import ClipByGlobalNorm
from keras_attention.training.embeddings import read_embeddings
from keras_attention.training.guided_alignment import (
    GuidedAlignment,
    WithAlignments,
    guided_alignment,
)
from keras_attention.training.loss_scale import LossScaleOptimizer
from keras_attention.training.metrics import (
    Perplexity,
    TokenAccuracy,
    TokenCrossentropy,
    token_objective,
)
from keras_attention.training.moving_average import OverwriteWithAverage
from keras_attention.training.resume import Resume
from keras_attention.training.schedules import InverseSquareRoot
from keras_attention.training.summaries import Summaries

__all__ = [
    "AccumulateGradients",
    "ClipByGlobalNorm",
    "GuidedAlignment",
    "InverseSquareRoot",
    "LossScaleOptimizer",
    "OverwriteWithAverage",
    "Perplexity",
    "Resume",
    "Summaries",
    "TokenAccuracy",
    "TokenCrossentropy",
    "TrainingCheckpoint",
    "WithAlignments",
    "average_checkpoints",
    "average_weights",
    "clip_by_global_norm",
    "distribute",
    "global_norm",
    "guided_alignment",
    "read_embeddings",
    "token_objective",
]
