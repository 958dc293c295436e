"""Vocabularies: special ids, which tokens get an id, and the files that store them."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

PAD, START, END, UNKNOWN = range(4)
SPECIAL_TOKENS = ("", "<s>", "</s>", "<unk>")  # by id, as `Tokenizer.tokens` shows them
VERSION = 1  # of the format of a saved directory


def clean(lines: Iterable[str]) -> Iterator[str]:
    """The corpus as valid UTF-8: a lone surrogate is replaced by U+FFFD, like invalid bytes."""
    if isinstance(lines, (str, bytes)):
        raise TypeError(
            f"lines must be an iterable of str. Received one {type(lines).__name__}: it would be "
            "read character by character; wrap it in a list."
        )
    for line in lines:
        if not isinstance(line, str):
            raise TypeError(f"Every line must be a str. Received: {line!r}; decode it first.")
        yield without_surrogates(line)


def without_surrogates(text: str) -> str:
    """Replace lone surrogates by U+FFFD, and pairs by the character that they encode."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def as_strings(text: Any) -> tf.Tensor:
    """Text as a string tensor: a tensor, or Python strings or bytes in lists of one shape.

    Raises ValueError for values that are not text.
    """
    if not (tf.is_tensor(text) or isinstance(text, tf.RaggedTensor)):
        try:
            text = tf.convert_to_tensor(tf.nest.map_structure(_cleaned, _listed(text)))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"text must be strings, [B]: a list of str, or a string tensor. Received: {text!r}"
            ) from error
    if text.dtype != tf.string:
        raise ValueError(
            f"text must be strings, [B]. Received: {text.dtype.name}. To turn ids into text call "
            "decode."
        )
    return text


def _cleaned(text):
    return without_surrogates(text) if isinstance(text, str) else text


def _listed(text):
    """NumPy arrays as lists; an empty list is a string tensor, not one of floats."""
    text = text.tolist() if isinstance(text, (np.ndarray, np.generic)) else text
    return tf.constant([], tf.string) if isinstance(text, (list, tuple)) and not text else text


def ranked(counts: Counter, vocab_size: int | None, min_count: int) -> list[str]:
    """The tokens that get an id, most frequent first, ties in code point order."""
    if vocab_size is not None and vocab_size <= len(SPECIAL_TOKENS):
        raise ValueError(
            f"vocab_size counts the {len(SPECIAL_TOKENS)} special ids too and must be larger. "
            f"Received: vocab_size={vocab_size}."
        )
    kept = [token for token, count in counts.items() if count >= min_count]
    kept.sort(key=lambda token: (-counts[token], token))
    if not kept:
        raise ValueError(
            f"No token is left for the vocabulary. Received: {len(counts)} distinct tokens, "
            f"min_count={min_count}; give more lines or a smaller min_count."
        )
    return kept if vocab_size is None else kept[: vocab_size - len(SPECIAL_TOKENS)]


def tables(tokens: Any, unknown_id: int, unknown_token: Any) -> tuple:
    """Two lookups: from N tokens, int64 or strings, to ids, and from ids to tokens.

    Ids start at the first that is not special, int64. A SavedModel contains the tokens themselves.
    """
    tokens = tf.convert_to_tensor(tokens)
    ids = tf.range(tokens.shape[0], dtype=tf.int64) + len(SPECIAL_TOKENS)
    to_id, to_token = _Rows(tokens, ids), _Rows(ids, tokens)
    tables = tf.lookup.StaticHashTable
    return tables(to_id, unknown_id), tables(to_token, tf.constant(unknown_token, tokens.dtype))


class _Rows(tf.lookup.KeyValueTensorInitializer):
    """Rows of a table whose name is their hash.

    TensorFlow shares tables of the same name in a process, and writes the name into a SavedModel.
    With a hash, equal tables may be shared, others never are, and the file has no path or random
    name.
    """

    def __init__(self, keys: tf.Tensor, values: tf.Tensor):
        super().__init__(keys, values)
        rows = b"".join(tf.io.serialize_tensor(part).numpy() for part in (keys, values))
        self._name_of_rows = f"keras_attention_{sha256(rows)}"

    @property
    def _shared_name(self):
        return self._name_of_rows


def saved_file(directory: str, files: dict[str, str]) -> tuple[str, str]:
    """(kind, vocabulary file) of a saved directory, after checking that it is complete.

    `files` is the name of the vocabulary file by kind.
    """
    about_file = os.path.join(directory, "tokenizer.json")
    remedy = "Save the tokenizer again."
    try:
        about = json.loads(read(about_file))
        version, kind, expected = (about[field] for field in ("version", "kind", "sha256"))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{about_file} is damaged or half-written ({error!r}). {remedy}"
        ) from error
    if version != VERSION:
        raise ValueError(
            f"{about_file} must have version {VERSION}. Received: {version!r}. Read it with the "
            "release that wrote it, or train again."
        )
    if kind not in sorted(files):  # a list, because kind may be unhashable
        raise ValueError(
            f"kind in {about_file} must be one of {sorted(files)}. Received: {kind!r}."
        )
    file = os.path.join(directory, files[kind])
    if sha256(read(file)) != expected:
        raise ValueError(
            f"{file} does not match {about_file}: it is half-written, edited, or of another save. "
            f"{remedy}"
        )
    return kind, file


def read(file: str) -> bytes:
    try:
        with open(file, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise ValueError(
            f"{file} cannot be read ({error.strerror}). A saved tokenizer is a directory with "
            "tokenizer.json and its vocabulary file, as save(directory) writes it."
        ) from error


def write(file: str, content: bytes) -> None:
    temporary = f"{file}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
