"""Characters: one id per code point."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from keras_attention.text.tokenizer import FileTokenizer
from keras_attention.text.vocabulary import UNKNOWN, clean, ranked, tables

REPLACEMENT = 0xFFFD


class Characters(FileTokenizer):
    """One id per Unicode code point; `decode(encode(x)) == x` for characters in the vocabulary.

    A character outside of the vocabulary is UNKNOWN and decodes to U+FFFD, so the number of code
    points is preserved. Invalid UTF-8 is U+FFFD, too.
    Nothing is normalised: an accent written as two code points is two ids. `token_lengths` is 1 for
    every character. It uses core TensorFlow ops only, so its SavedModels load anywhere.

    Args:
        vocabulary_file: one code point *number* in decimal per line, so that line breaks, tabs and
            spaces are characters like any other. Line n (from 0) is id n + 4. Read once.

    Raises:
        ValueError: the file is missing, or does not contain such numbers.

    >>> characters = Characters.train(["上山", "山\\n"])
    >>> characters.encode(["山上", ""]).to_list()
    [[4, 6], []]
    >>> characters.decode([[4, 6, 2, 5], [3, 0, 4, 4]]).numpy().tolist()[0].decode()
    '山上'
    """

    KIND, FILE = "char", "characters.txt"

    def _parse(self, content, file):
        points = np.array(_parse(content, file), np.int64)
        self._id_of, self._code_point_of = tables(points, UNKNOWN, REPLACEMENT)
        return np.ones(len(points), np.int32)

    @classmethod
    def train(
        cls, lines: Iterable[str], vocab_size: int | None = None, min_count: int = 1
    ) -> "Characters":
        """The characters of `lines` seen at least `min_count` times, or the most frequent of them.

        Characters of equal frequency are in code point order. The line break of a line counts.
        """
        counts = Counter()
        for line in clean(lines):
            counts.update(line)
        return cls._of_content(_serialize(map(ord, ranked(counts, vocab_size, min_count))))

    def _encode(self, text):
        code_points = tf.strings.unicode_decode(text, "UTF-8")
        return tf.ragged.map_flat_values(
            lambda points: tf.cast(self._id_of.lookup(tf.cast(points, tf.int64)), tf.int32),
            code_points,
        )

    def _pieces(self, ids):
        return tf.strings.unicode_encode(self._code_points(ids)[:, None], "UTF-8")

    def _spell(self, ids):
        return tf.strings.unicode_encode(ids.with_values(self._code_points(ids.values)), "UTF-8")

    def _code_points(self, ids):
        return tf.cast(self._code_point_of.lookup(tf.cast(ids, tf.int64)), tf.int32)


def _serialize(code_points: Iterable[int]) -> bytes:
    return b"".join(b"%d\n" % point for point in code_points)


def _parse(content: bytes, file: str) -> list[int]:
    try:
        points = [int(line) for line in content.split()]
    except ValueError as error:
        raise ValueError(f"{file} must hold one decimal number per line: {error}") from error
    scalars = (point for point in points if 0 <= point < 0xD800 or 0xE000 <= point <= 0x10FFFF)
    if not points or len(set(scalars)) != len(points) or _serialize(points) != content:
        raise ValueError(
            f"{file} must hold one code point in decimal per line, each once, no surrogates, every "
            f"line ended. Received {len(points)} numbers, beginning {content[:40]!r}."
        )
    return points
