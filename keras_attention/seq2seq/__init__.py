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
from keras_attention.seq2seq.attention_wrapper import AttentionWrapper, AttentionWrapperState
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
from keras_attention.seq2seq.loss import sequence_loss
from keras_attention.seq2seq.mechanisms import (
    AttentionMechanism,
    BahdanauAttention,
    LuongAttention,
)
from keras_attention.seq2seq.sampler import GreedyEmbeddingSampler, Sampler, TrainingSampler

__all__ = [
    "AlignedBeamSearchDecoderOutput",
    "AttentionMechanism",
    "AttentionWrapper",
    "AttentionWrapperState",
    "BahdanauAttention",
    "BaseDecoder",
    "BasicDecoder",
    "BasicDecoderOutput",
    "BeamSearchDecoder",
    "BeamSearchDecoderOutput",
    "BeamSearchDecoderState",
    "Control",
    "Decoder",
    "FinalBeamSearchDecoderOutput",
    "GreedyEmbeddingSampler",
    "LuongAttention",
    "Sampler",
    "SearchResult",
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
    "loss",
    "sampler",
    "sequence_loss",
    "tile_batch",
]
