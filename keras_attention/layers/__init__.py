"""Keras layers that own weights, one family a file."""

from keras_attention.layers.attention import Attention
from keras_attention.layers.bridge import Bridge
from keras_attention.layers.directional import DirectionalAttention, DiSAN, Source2Token
from keras_attention.layers.gated_mlp import GatedMLPBlock, SpatialGatingUnit
from keras_attention.layers.glimpse import GlimpseNetwork
from keras_attention.layers.hard import Choice, HardAttention, ReinforceLoss
from keras_attention.layers.hierarchical import HierarchicalAttention
from keras_attention.layers.intra import LSTMNCell, LSTMNState
from keras_attention.layers.intra_decoder import (
    IntraDecoderAttention,
    IntraDecoderCell,
    IntraDecoderState,
)
from keras_attention.layers.local import LocalMonotonicAttention, LocalPredictiveAttention
from keras_attention.layers.memory import NTMCell, NTMState
from keras_attention.layers.mixing import MixerBlock
from keras_attention.layers.non_local import (
    ConcatenationNonLocal,
    DotProductNonLocal,
    EmbeddedGaussianNonLocal,
    GaussianNonLocal,
    NonLocal,
)
from keras_attention.layers.patches import PatchEmbedding, PatchMerging
from keras_attention.layers.pointer import CopyHead, PointerHead
from keras_attention.layers.pooling import AttentionPooling, StructuredSelfAttention
from keras_attention.layers.sagan import SAGANAttention
from keras_attention.layers.scores import AdditiveScore, BiaffineScore, GeneralScore, LocationScore
from keras_attention.layers.selection import Selection, TokenSelector
from keras_attention.layers.snail import (
    GatedCausalConv,
    SNAILAttentionBlock,
    SNAILDenseBlock,
    SNAILTCBlock,
)
from keras_attention.layers.windows import WindowAttention

__all__ = [
    "AdditiveScore",
    "Attention",
    "AttentionPooling",
    "BiaffineScore",
    "Bridge",
    "Choice",
    "ConcatenationNonLocal",
    "CopyHead",
    "DiSAN",
    "DirectionalAttention",
    "DotProductNonLocal",
    "EmbeddedGaussianNonLocal",
    "GatedCausalConv",
    "GatedMLPBlock",
    "GaussianNonLocal",
    "GeneralScore",
    "GlimpseNetwork",
    "HardAttention",
    "HierarchicalAttention",
    "IntraDecoderAttention",
    "IntraDecoderCell",
    "IntraDecoderState",
    "LSTMNCell",
    "LSTMNState",
    "LocalMonotonicAttention",
    "LocalPredictiveAttention",
    "LocationScore",
    "MixerBlock",
    "NTMCell",
    "NTMState",
    "NonLocal",
    "PatchEmbedding",
    "PatchMerging",
    "PointerHead",
    "ReinforceLoss",
    "SAGANAttention",
    "SNAILAttentionBlock",
    "SNAILDenseBlock",
    "SNAILTCBlock",
    "Selection",
    "Source2Token",
    "SpatialGatingUnit",
    "StructuredSelfAttention",
    "TokenSelector",
    "WindowAttention",
]
