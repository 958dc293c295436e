"""Words: one id per word, punctuation mark or CJK character."""

from collections import Counter
from collections.abc import Iterable
from itertools import islice

import numpy as np
import tensorflow as tf

from keras_attention.text.surface import EASTERN, WIDE, join, replace_unknown, split
from keras_attention.text.tokenizer import FileTokenizer
from keras_attention.text.vocabulary import SPECIAL_TOKENS, UNKNOWN, clean, ranked, tables


class Words(FileTokenizer):
    """One id per word, punctuation mark or CJK character, as `split` finds them; for small corpora.

    What decoding does not restore: upper case, runs of white space and spaces that `join` sets
    differently. A word outside of the vocabulary is UNKNOWN and decodes to "<unk>", which no text
    is split into: `replace_unknown` replaces it by a source word. `token_lengths` is known for CJK
    characters and the punctuation among them (1, plus their combining marks), because these are
    joined without spaces. It uses core TensorFlow ops only, so its SavedModels load anywhere.

    Args:
        vocabulary_file: UTF-8, one word per line; line n (from 0) is id n + 4. Read once.

    Raises:
        ValueError: the file is missing, or a line changes by `split` and lower-casing.

    >>> words = Words.train(["The cat sat.", "the dog!"])
    >>> words.encode(["The  bird sat."]).to_list()
    [[4, 3, 9, 6]]
    >>> words.decode(words.encode(["The CAT sat ."])).numpy().tolist()
    [b'the cat sat.']
    """

    KIND, FILE = "word", "words.txt"

    split = staticmethod(split)
    join = staticmethod(join)
    replace_unknown = staticmethod(replace_unknown)

    def _parse(self, content, file):
        words = _parse(content, file)
        self._id_of, self._word_of = tables(words, UNKNOWN, SPECIAL_TOKENS[UNKNOWN])
        joined_tightly = tf.strings.regex_full_match(words, f"{EASTERN}|{WIDE}").numpy()
        lengths = tf.strings.length(words, unit="UTF8_CHAR").numpy()
        return np.where(joined_tightly, lengths, -1)

    @classmethod
    def train(
        cls, lines: Iterable[str], vocab_size: int | None = None, min_count: int = 1
    ) -> "Words":
        """The words of `lines` seen at least `min_count` times, or the most frequent of them.

        Words of equal frequency are in code point order.
        """
        # Counted by the ops that encode: another splitter would differ in some cases.
        counts, lines = Counter(), clean(lines)
        while chunk := list(islice(lines, 1024)):
            counts.update(_fold(chunk).flat_values.numpy().tolist())
        by_word = Counter({word.decode(): count for word, count in counts.items()})
        words = ranked(by_word, vocab_size, min_count)
        return cls._of_content("".join(f"{word}\n" for word in words).encode())

    def _encode(self, text):
        return tf.ragged.map_flat_values(
            lambda words: tf.cast(self._id_of.lookup(words), tf.int32), _fold(text)
        )

    def _pieces(self, ids):
        return self._word_of.lookup(tf.cast(ids, tf.int64))

    def _spell(self, ids):
        return join(self.tokens(ids))


def _fold(text):
    # Lower-cased after the split, which removes NULs: tf.strings.lower drops what follows one.
    return tf.ragged.map_flat_values(tf.strings.lower, split(text), encoding="utf-8")


def _parse(content: bytes, file: str) -> list[str]:
    try:
        words = content.decode().split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} must be UTF-8: {error}") from error
    if len(words) < 2 or words.pop() != "" or len(set(words)) != len(words):
        raise ValueError(f"{file} must hold one word per line, each once, every line ended.")
    for word, folded in zip(words, _fold(words).to_list(), strict=True):
        if folded != [word.encode()]:
            raise ValueError(
                f"{file} holds {word!r}, which no text is split into: it becomes {folded}. "
                "The special ids are implied; words are lower-cased and hold no spaces."
            )
    return words
