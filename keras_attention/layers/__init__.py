"""Keras layers with weights, one family per file."""

from keras_attention.layers import cores as cores
from keras_attention.layers.attention import Attention
from keras_attention.layers.blocks import ConvolutionalFeedForward, FeedForward, Residual
from keras_attention.layers.bridge import Bridge
from keras_attention.layers.decoder_cell import DecoderState, TransformerCell
from keras_attention.layers.directional import DirectionalAttention, DiSAN, Source2Token
from keras_attention.layers.distance import DistanceBlock, DistanceSAN
from keras_attention.layers.dropout import Dropout
from keras_attention.layers.embeddings import PositionEmbedding, TiedEmbedding
from keras_attention.layers.gated_mlp import GatedMLPBlock, SpatialGatingUnit
from keras_attention.layers.glimpse import GlimpseNetwork
from keras_attention.layers.hard import Choice, HardAttention, ReinforceLoss
from keras_attention.layers.head_variants import (
    DistanceAttention,
    FixedAttention,
    LinearAttention,
    MemoryEfficientAttention,
    RelativeAttention,
    RestrictedAttention,
    StridedAttention,
)
from keras_attention.layers.hierarchical import HierarchicalAttention
from keras_attention.layers.intra import LSTMNCell, LSTMNState
from keras_attention.layers.intra_decoder import (
    IntraDecoderAttention,
    IntraDecoderCell,
    IntraDecoderState,
)
from keras_attention.layers.linear import LinearAttentionCell
from keras_attention.layers.linear_cross_entropy import LinearCrossEntropy
from keras_attention.layers.local import LocalMonotonicAttention, LocalPredictiveAttention
from keras_attention.layers.memory import NTMCell, NTMState
from keras_attention.layers.memory_attention import MemoryAttention
from keras_attention.layers.mixing import MixerBlock
from keras_attention.layers.multi_head import Cache, MultiHeadAttention
from keras_attention.layers.non_local import (
    ConcatenationNonLocal,
    DotProductNonLocal,
    EmbeddedGaussianNonLocal,
    GaussianNonLocal,
    NonLocal,
)
from keras_attention.layers.patches import PatchEmbedding, PatchMerging
from keras_attention.layers.pointer import CopyHead, PointerHead
from keras_attention.layers.pooling import AttentionPooling, StepPooling, StructuredSelfAttention
from keras_attention.layers.sagan import SAGANAttention
from keras_attention.layers.scores import AdditiveScore, BiaffineScore, GeneralScore, LocationScore
from keras_attention.layers.selection import Selection, TokenSelector
from keras_attention.layers.snail import (
    GatedCausalConv,
    SNAILAttentionBlock,
    SNAILDenseBlock,
    SNAILTCBlock,
)
from keras_attention.layers.transformer import StackMemory, TransformerStack
from keras_attention.layers.transformer_block import TransformerBlock
from keras_attention.layers.windows import WindowAttention

__all__ = [
    "AdditiveScore",
    "Attention",
    "AttentionPooling",
    "BiaffineScore",
    "Bridge",
    "Cache",
    "Choice",
    "ConcatenationNonLocal",
    "ConvolutionalFeedForward",
    "CopyHead",
    "DecoderState",
    "DiSAN",
    "DirectionalAttention",
    "DistanceAttention",
    "DistanceBlock",
    "DistanceSAN",
    "DotProductNonLocal",
    "Dropout",
    "EmbeddedGaussianNonLocal",
    "FeedForward",
    "FixedAttention",
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
    "LinearAttention",
    "LinearAttentionCell",
    "LinearCrossEntropy",
    "LocalMonotonicAttention",
    "LocalPredictiveAttention",
    "LocationScore",
    "MemoryAttention",
    "MemoryEfficientAttention",
    "MixerBlock",
    "MultiHeadAttention",
    "NTMCell",
    "NTMState",
    "NonLocal",
    "PatchEmbedding",
    "PatchMerging",
    "PointerHead",
    "PositionEmbedding",
    "ReinforceLoss",
    "RelativeAttention",
    "Residual",
    "RestrictedAttention",
    "SAGANAttention",
    "SNAILAttentionBlock",
    "SNAILDenseBlock",
    "SNAILTCBlock",
    "Selection",
    "Source2Token",
    "SpatialGatingUnit",
    "StackMemory",
    "StepPooling",
    "StridedAttention",
    "StructuredSelfAttention",
    "TiedEmbedding",
    "TokenSelector",
    "TransformerBlock",
    "TransformerCell",
    "TransformerStack",
    "WindowAttention",
]
