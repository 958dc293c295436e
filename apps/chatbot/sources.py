"""The text that the model encodes for a line: one rule for all modes."""

import hashlib
from typing import NamedTuple

import tensorflow as tf

from keras_attention import export, text
from keras_attention.data import BETWEEN_TURNS
from keras_attention.text.surface import SPACE


class Lines(NamedTuple):
    """The prepared text of lines [B].

    Attributes:
        lines: string [B], each without the turns before it, or the blanks of a couplet.
        sources: string [B], the text to encode: with as much context as fits.
        readable: bool [B], which of them are UTF-8 with a known token.
        fit: bool [B], which of them are short enough to be answered.
        lengths: int [B], tokens of each line.
    """

    lines: tf.Tensor
    sources: tf.Tensor
    readable: tf.Tensor
    fit: tf.Tensor
    lengths: tf.Tensor

    @property
    def answered(self) -> tf.Tensor:
        """bool [B]: which lines get an answer."""
        return self.readable & self.fit


def read_lines(lines: tf.Tensor, tokenizer: text.Tokenizer, settings: dict) -> Lines:
    """The rule for which lines can be answered, and how much context is read with them.

    A line must be UTF-8, with a known token. A couplet's first line must have at most `max_length`
    characters, because its second line is as long. With `context_turns` the previous turns are
    tab-separated before the line. string [B] -> `Lines`.

    >>> characters = text.Characters.train(["abc" + BETWEEN_TURNS])
    >>> settings = {"task": "chat", "context_turns": 1, "max_length": 4}
    >>> read = read_lines(tf.constant(["a\\tb\\tc", "abc\\tabc", "b\\tz"]), characters, settings)
    >>> [source.decode() for source in read.sources.numpy()], read.answered.numpy().tolist()
    (['b␞c', 'abc', 'b␞z'], [True, True, False])
    """
    context, limit = settings["context_turns"], settings["max_length"]
    sources, fit = lines, tf.ones_like(lines, tf.bool)
    if settings["task"] == "couplet":
        sources = lines = without_blanks(lines)
        fit = tf.strings.length(lines, "UTF8_CHAR") <= limit
    elif context:
        sources = tf.strings.regex_replace(_turns(lines, context), "\t", BETWEEN_TURNS)
        sources = fit_context(tokenizer, sources, context, limit)
        lines = _turns(lines, 0)
    lengths = tokenizer.encode(lines).row_lengths()
    return Lines(lines, sources, export.readable(lines, tokenizer), fit, lengths)


def without_blanks(lines: tf.Tensor) -> tf.Tensor:
    """Remove the blanks between the characters of couplets, as in many files.

    string [B] -> string [B].

    >>> without_blanks(tf.constant(["晚 风\u3000摇树 "])).numpy()[0].decode()
    '晚风摇树'
    """
    return tf.strings.regex_replace(lines, SPACE, "")


def fit_context(
    tokenizer: text.Tokenizer, sources: tf.Tensor, context_turns: int, max_length: int
) -> tf.Tensor:
    """Remove the oldest turns of sources until they have at most `max_length` tokens.

    The last turn is kept, whatever its length. string [B] -> string [B], turns joined by
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


class SourceTokenizer:
    """Encodes sources with as much context as fits, as `fit_context` leaves it.

    Args:
        tokenizer, context_turns, max_length: as of `fit_context`.

    Attributes:
        vocab_size: of the tokenizer.
        fingerprint: the same for equal ones, and only for them.
    """

    def __init__(self, tokenizer: text.Tokenizer, context_turns: int, max_length: int):
        self._tokenizer, self._turns, self._most = tokenizer, context_turns, max_length
        self.vocab_size = tokenizer.vocab_size
        self.fingerprint = tokenizer.fingerprint
        if context_turns:
            about = f"{tokenizer.fingerprint} {context_turns} {max_length}"
            self.fingerprint = hashlib.sha256(about.encode()).hexdigest()

    def encode(self, sources) -> tf.RaggedTensor:
        """String [B] -> ids, int32 ragged [B, None]."""
        sources = tf.constant(sources, tf.string)
        return self._tokenizer.encode(
            fit_context(self._tokenizer, sources, self._turns, self._most)
        )


def _turns(lines, count):
    """The last turn of each line with the `count` before it, separated by tabs."""
    last = rf"((?:[^\t]*\t){{0,{count}}}[^\t]*)"
    return tf.strings.regex_replace(lines, rf"(?s)^(?:.*?\t)??{last}$", r"\1")
