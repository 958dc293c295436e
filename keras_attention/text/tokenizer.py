"""The base class of tokenizers: decode ids, show tokens, save."""

import json
import os
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from keras_attention.functional.ids import as_ids
from keras_attention.text.vocabulary import (
    END,
    PAD,
    SPECIAL_TOKENS,
    START,
    UNKNOWN,
    VERSION,
    as_strings,
    read,
    sha256,
    write,
)


class Tokenizer(tf.Module):
    """Strings to ids and back. Abstract: subclasses define how a token is found and decoded.

    Args:
        content: the content of the vocabulary file that `save` writes.
        token_lengths: of the tokens that are not special.

    Attributes:
        vocab_size: V, including the four special ids.
        token_lengths: int32 [V], how many code points a token adds to the decoded string,
            independent of its neighbours, or -1 if that varies. A string of tokens with known
            lengths decodes to the sum of their lengths.
    """

    KIND: str  # in tokenizer.json
    FILE: str  # the vocabulary beside it

    def __init__(self, content: bytes, token_lengths: Iterable[int]):
        super().__init__()
        self._content = content
        promised = np.fromiter(token_lengths, np.int32)
        self.token_lengths = np.concatenate([np.full(len(SPECIAL_TOKENS), -1, np.int32), promised])

    @property
    def vocab_size(self) -> int:
        return len(self.token_lengths)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its kind and vocabulary: the same for equal tokenizers, and only for them."""
        return sha256(self.KIND.encode() + b"\0" + self._content)

    def encode(self, text: tf.Tensor) -> tf.RaggedTensor:
        """String [B] -> ids, int32 ragged [B, None], without START and END.

        Lone surrogates of a Python string count as U+FFFD, as in `train`. Raises ValueError for
        values that are not text.
        """
        return self._encode(as_strings(text))

    def _encode(self, text: tf.Tensor) -> tf.RaggedTensor:
        raise NotImplementedError

    def decode(self, ids: tf.Tensor) -> tf.Tensor:
        """Ids [B, T] or [B, K, T], dense or ragged -> string [B] or [B, K].

        Everything from the first END on is ignored, and so are PAD and START. An id that is not in
        0 .. V - 1 is read as UNKNOWN. Raises ValueError unless ids are rows of ids.
        """
        ids = as_ids(ids, pad_id=PAD)
        if ids.shape.rank == 0:
            raise ValueError(
                f"ids must be [B, T] or [B, K, T]. Received: one number, {ids}. Write [[id]]."
            )
        shape = tf.shape(ids)
        rows = tf.reshape(self._inside(ids), [tf.reduce_prod(shape[:-1]), shape[-1]])
        ended = tf.cumsum(tf.cast(rows == END, tf.int32), axis=-1) > 0
        spelled = tf.ragged.boolean_mask(rows, ~ended & (rows != PAD) & (rows != START))
        return tf.reshape(self._spell(spelled), shape[:-1])

    def tokens(self, ids: tf.Tensor) -> tf.Tensor:
        """The text of each id, same shape, dense or ragged: labels for the axes of a heat map.

        PAD is "", START "<s>", END "</s>"; UNKNOWN and ids not in 0 .. V - 1 are "<unk>".
        """
        if not isinstance(ids, tf.RaggedTensor):
            ids = as_ids(ids, pad_id=PAD)
        return tf.ragged.map_flat_values(self._show, ids)

    def save(self, directory: str) -> None:
        """Write the vocabulary and `tokenizer.json` into `directory`, for `load`.

        Each file is written atomically; the .json, which is last, contains the hash of the
        vocabulary, so that a mixture of two saves is detected.
        """
        os.makedirs(directory, exist_ok=True)
        about = {"version": VERSION, "kind": self.KIND, "sha256": sha256(self._content)}
        write(os.path.join(directory, self.FILE), self._content)
        write(os.path.join(directory, "tokenizer.json"), json.dumps(about, indent=2).encode())

    def _show(self, ids):
        """Ids -> piece or name, both of any one shape."""
        flat = tf.reshape(self._inside(ids), [-1])
        special = tf.gather(SPECIAL_TOKENS, tf.minimum(flat, UNKNOWN))
        return tf.reshape(tf.where(flat > UNKNOWN, self._pieces(flat), special), tf.shape(ids))

    def _inside(self, ids):
        # Not left to the lookups: some of them crash the process for ids out of range.
        ids = as_ids(ids)  # of at least 32 bits, or V may not fit
        inside = (ids >= 0) & (ids < self.vocab_size)
        return tf.cast(tf.where(inside, ids, UNKNOWN), tf.int32)

    def _pieces(self, ids):
        """Ids [N] in 0 .. V - 1 -> string [N]; the result for special ids is not used."""
        raise NotImplementedError

    def _spell(self, ids):
        """Ragged ids [N, None] without PAD, START, END -> string [N]."""
        raise NotImplementedError


class FileTokenizer(Tokenizer):
    """A tokenizer that is made from its vocabulary file.

    It holds the content of the file, not the path. Copies, pickles, forked processes and
    SavedModels contain it, even if the file changes or is deleted.
    """

    def __init__(self, vocabulary_file: str):
        self._read(read(vocabulary_file), vocabulary_file)

    def _read(self, content: bytes, file: str):
        """Make the lookups from the content of the vocabulary; errors name the file."""
        tf.Module.__init__(self)  # before the lookups are set
        super().__init__(content, self._parse(content, file))

    def _parse(self, content: bytes, file: str) -> Iterable[int]:
        """Make the lookups; return the `token_lengths` of the tokens that are not special."""
        raise NotImplementedError

    def __reduce__(self):
        return self._of_content, (self._content,)

    @classmethod
    def _of_content(cls, content: bytes):
        """The tokenizer of a vocabulary that is not in a file."""
        tokenizer = cls.__new__(cls)
        tokenizer._read(content, f"The {cls.KIND} vocabulary")
        return tokenizer
