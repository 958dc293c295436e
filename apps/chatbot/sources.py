"""What the model reads of a line: one rule for training, eval, infer and export."""

import tensorflow as tf

from keras_attention import text
from keras_attention.data import BETWEEN_TURNS
from keras_attention.text.surface import SPACE


def without_blanks(lines: tf.Tensor) -> tf.Tensor:
    """The characters of couplets: blanks between them, as many files have, are no characters.

    string [B] -> string [B].

    >>> without_blanks(tf.constant(["晚 风\u3000摇树 "])).numpy()[0].decode()
    '晚风摇树'
    """
    return tf.strings.regex_replace(lines, SPACE, "")


def fit_context(
    tokenizer: text.Tokenizer, sources: tf.Tensor, context_turns: int, max_length: int
) -> tf.Tensor:
    """Sources without their oldest turns, until what is left has at most `max_length` tokens.

    The last turn stays, however long it is. string [B] -> string [B], turns joined by
    `BETWEEN_TURNS`.

    >>> characters = text.Characters.train(["abc" + BETWEEN_TURNS])
    >>> sources = tf.constant(["a␞bb␞c", "abc␞aabbcc"])
    >>> [line.decode() for line in fit_context(characters, sources, 2, 4).numpy()]
    ['bb␞c', 'aabbcc']
    """
    for _ in range(context_turns):
        too_long = tokenizer.encode(sources).row_lengths() > max_length
        shorter = tf.strings.regex_replace(sources, f"^[^{BETWEEN_TURNS}]*{BETWEEN_TURNS}", "")
        sources = tf.where(too_long, shorter, sources)
    return sources
