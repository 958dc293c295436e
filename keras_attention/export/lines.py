"""Which lines a model can answer, as part of the graph."""

import tensorflow as tf

from keras_attention import text as texts

__all__ = ["readable"]

# The white space of Python's str.isspace.
_BLANK = r"[\s\v\x1c-\x1f\x{85}\p{Z}]*"


def readable(text: tf.Tensor, tokenizer: texts.Tokenizer) -> tf.Tensor:
    r"""Whether lines are UTF-8, not blank, and contain a token of the tokenizer.

    string [B] -> bool [B].

    >>> tokenizer = texts.Characters.train(["abc"])
    >>> lines = tf.constant(["cab!", "", " \u3000", "xyz", b"abc\xff"])
    >>> readable(lines, tokenizer).numpy().tolist()
    [True, False, False, False, False]
    """
    # The transcoder drops bytes that are not UTF-8.
    valid = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="ignore") == text
    known = tf.reduce_any(tokenizer.encode(text) != texts.UNKNOWN, 1)
    return valid & known & ~tf.strings.regex_full_match(text, _BLANK)
