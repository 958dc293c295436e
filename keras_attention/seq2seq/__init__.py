"""The names of tf.contrib.seq2seq and tfa.seq2seq, alive on Keras 3, and the decoding loop."""

from keras_attention.seq2seq import (
    attention_wrapper,
    basic_decoder,
    beam_search_decoder,
    controls,
    decoder,
    loss,
    sampler,
)
from keras_attention.seq2seq.attention_rnn import AttentionRNN
from keras_attention.seq2seq.attention_wrapper import (
    AttentionMechanism,
    AttentionWrapper,
    AttentionWrapperState,
    BahdanauAttention,
    BahdanauMonotonicAttention,
    LuongAttention,
    LuongMonotonicAttention,
    hardmax,
    monotonic_attention,
    safe_cumprod,
)
from keras_attention.seq2seq.basic_decoder import BasicDecoder, BasicDecoderOutput
from keras_attention.seq2seq.beam_search_decoder import (
    AlignedBeamSearchDecoderOutput,
    BeamSearchDecoder,
    BeamSearchDecoderOutput,
    BeamSearchDecoderState,
    FinalBeamSearchDecoderOutput,
)
from keras_attention.seq2seq.beam_search_ops import (
    gather_tree,
    gather_tree_from_array,
    tile_batch,
)
from keras_attention.seq2seq.controls import Control, exact_length
from keras_attention.seq2seq.decoder import BaseDecoder, Decoder, dynamic_decode
from keras_attention.seq2seq.generate import SearchResult, generate
from keras_attention.seq2seq.loss import SequenceLoss, sequence_loss
from keras_attention.seq2seq.sampler import (
    CustomSampler,
    GreedyEmbeddingSampler,
    InferenceSampler,
    SampleEmbeddingSampler,
    Sampler,
    ScheduledEmbeddingTrainingSampler,
    ScheduledOutputTrainingSampler,
    TrainingSampler,
)

__all__ = [
    "AlignedBeamSearchDecoderOutput",
    "AttentionMechanism",
    "AttentionRNN",
    "AttentionWrapper",
    "AttentionWrapperState",
    "BahdanauAttention",
    "BahdanauMonotonicAttention",
    "BaseDecoder",
    "BasicDecoder",
    "BasicDecoderOutput",
    "BeamSearchDecoder",
    "BeamSearchDecoderOutput",
    "BeamSearchDecoderState",
    "Control",
    "CustomSampler",
    "Decoder",
    "FinalBeamSearchDecoderOutput",
    "GreedyEmbeddingSampler",
    "InferenceSampler",
    "LuongAttention",
    "LuongMonotonicAttention",
    "SampleEmbeddingSampler",
    "Sampler",
    "ScheduledEmbeddingTrainingSampler",
    "ScheduledOutputTrainingSampler",
    "SearchResult",
    "SequenceLoss",
    "TrainingSampler",
    "attention_wrapper",
    "basic_decoder",
    "beam_search_decoder",
    "controls",
    "decoder",
    "dynamic_decode",
    "exact_length",
    "gather_tree",
    "gather_tree_from_array",
    "generate",
    "hardmax",
    "loss",
    "monotonic_attention",
    "safe_cumprod",
    "sampler",
    "sequence_loss",
    "tile_batch",
]
