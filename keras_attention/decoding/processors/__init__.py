"""Logits processors: small functions that change the log p of the next token, with a state.

Each function here returns a `LogitsProcessor`; `combine` makes one of several, as `generate` does
with all that it receives, in the order of Hugging Face's `generate`: penalties and biases, then
rules and temperature, then `top_k` and the like. After a prompt, lengths, positions, repetitions
and n-grams count its tokens, too; `suppress_at_begin`, `exponential_decay_length_penalty`,
`min_new_tokens` and `max_new_tokens` do not. A processor sets the log p of forbidden tokens to
-inf, and leaves that of allowed tokens unchanged, except for the temperature, the penalties and
`sequence_bias`. Letters: N = B*K rows, the K hypotheses of each of B sources side by side; V tokens
of the vocabulary; T and P positions.

>>> import tensorflow as tf
>>> processor = combine(temperature(0.7), top_k(40), no_repeat_ngram(3), length_between(maximum=30))
>>> state = processor.init(SearchInfo(2, 5, max_length=64, end_id=2, vocab_size=100))
>>> state = processor.advance(state, tf.fill([10], 1))  # the start token of each hypothesis
>>> processor.apply(tf.nn.log_softmax(tf.random.normal([10, 100])), state).shape
TensorShape([10, 100])
"""

from keras_attention.decoding.processors.combined import combine
from keras_attention.decoding.processors.contradictions import check
from keras_attention.decoding.processors.length import (
    exact_length,
    exponential_decay_length_penalty,
    length_between,
    max_new_tokens,
    min_new_tokens,
    relative_length,
)
from keras_attention.decoding.processors.logits_processor import LogitsProcessor, SearchInfo
from keras_attention.decoding.processors.needed import must_contain
from keras_attention.decoding.processors.phrases import (
    ban,
    ban_phrases,
    sequence_bias,
)
from keras_attention.decoding.processors.positions import (
    allowed_at,
    allowed_tokens,
    force,
    prefix,
    suppress_at_begin,
)
from keras_attention.decoding.processors.repetition import (
    no_repeat_ngram,
    repetition_pattern,
    repetition_penalty,
)
from keras_attention.decoding.processors.sampling import (
    epsilon_cutoff,
    eta_cutoff,
    min_p,
    temperature,
    top_k,
    top_p,
    typical,
)
from keras_attention.decoding.processors.source import (
    encoder_no_repeat_ngram,
    encoder_repetition_penalty,
)

__all__ = [
    "LogitsProcessor",
    "SearchInfo",
    "allowed_at",
    "allowed_tokens",
    "ban",
    "ban_phrases",
    "check",
    "combine",
    "encoder_no_repeat_ngram",
    "encoder_repetition_penalty",
    "epsilon_cutoff",
    "eta_cutoff",
    "exact_length",
    "exponential_decay_length_penalty",
    "force",
    "length_between",
    "max_new_tokens",
    "min_new_tokens",
    "min_p",
    "must_contain",
    "no_repeat_ngram",
    "prefix",
    "relative_length",
    "repetition_pattern",
    "repetition_penalty",
    "sequence_bias",
    "suppress_at_begin",
    "temperature",
    "top_k",
    "top_p",
    "typical",
]
