"""Decoding: one loop, beam search, sampling strategies and logits processors, for any model.

A model has `encode(source) -> (memory, state)`, a `cell`, an embedding, a projection, and the ids
of its start, end and padding: see `Model`. This package works with RNNs and Transformers. It does
not depend on the names of tfa.seq2seq, which are in `keras_attention.seq2seq`.
"""

from keras_attention.decoding import processors, strategies
from keras_attention.decoding.beams import gather_tree, gather_tree_from_array, tile_batch
from keras_attention.decoding.generate import Model, SearchResult, alternatives, generate
from keras_attention.decoding.loop import Decoder, dynamic_decode
from keras_attention.decoding.processors import (
    LogitsProcessor,
    SearchInfo,
    allowed_at,
    allowed_tokens,
    ban,
    ban_phrases,
    combine,
    encoder_no_repeat_ngram,
    encoder_repetition_penalty,
    epsilon_cutoff,
    eta_cutoff,
    exact_length,
    exponential_decay_length_penalty,
    force,
    length_between,
    max_new_tokens,
    min_new_tokens,
    min_p,
    must_contain,
    no_repeat_ngram,
    prefix,
    relative_length,
    repetition_pattern,
    repetition_penalty,
    sequence_bias,
    suppress_at_begin,
    temperature,
    top_k,
    top_p,
    typical,
)
from keras_attention.decoding.projector import projector
from keras_attention.decoding.scores import token_log_probs
from keras_attention.decoding.strategies import (
    Strategy,
    beam,
    diverse_beam,
    sample,
    stochastic_beam,
)
from keras_attention.decoding.stream import Stream, stream

__all__ = [
    "Decoder",
    "LogitsProcessor",
    "Model",
    "SearchInfo",
    "SearchResult",
    "Strategy",
    "Stream",
    "allowed_at",
    "allowed_tokens",
    "alternatives",
    "ban",
    "ban_phrases",
    "beam",
    "combine",
    "diverse_beam",
    "dynamic_decode",
    "encoder_no_repeat_ngram",
    "encoder_repetition_penalty",
    "epsilon_cutoff",
    "eta_cutoff",
    "exact_length",
    "exponential_decay_length_penalty",
    "force",
    "gather_tree",
    "gather_tree_from_array",
    "generate",
    "length_between",
    "max_new_tokens",
    "min_new_tokens",
    "min_p",
    "must_contain",
    "no_repeat_ngram",
    "prefix",
    "processors",
    "projector",
    "relative_length",
    "repetition_pattern",
    "repetition_penalty",
    "sample",
    "sequence_bias",
    "stochastic_beam",
    "strategies",
    "stream",
    "suppress_at_begin",
    "temperature",
    "tile_batch",
    "token_log_probs",
    "top_k",
    "top_p",
    "typical",
]
