"""Token ids must be integers; nothing else is rounded to an id."""

from typing import Any

import tensorflow as tf


def as_ids(ids: Any, name: str = "ids", shape: str | None = None, pad_id: int = 0) -> tf.Tensor:
    """Ids as an integer tensor.  [...] -> [...] int32, or int64 as it was.

    Float32 and float64 of whole numbers are accepted, too, because `fit` may pass them. A
    `tf.RaggedTensor`, such as `Tokenizer.encode` returns, is padded with `pad_id` on the right.

    Raises ValueError for a number that is not whole or beyond int32 (in a graph
    InvalidArgumentError; XLA cannot raise it), for dtypes that cannot represent every id (float16,
    bfloat16) or are not numbers, and for another rank than that of `shape`, for instance "B S".

    >>> as_ids([[5.0, 6.0]]).numpy().tolist()
    [[5, 6]]
    >>> as_ids(["hello"], "source", "B S")
    Traceback (most recent call last):
    ...
    ValueError: source must be integer ids. Received: strings. Encode text first, for instance with
    `tokenizer.encode(text)` of keras_attention.text.
    """
    if isinstance(ids, tf.RaggedTensor):
        ids = ids.to_tensor(pad_id)
    if not tf.is_tensor(ids):
        try:
            ids = tf.convert_to_tensor(ids)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{name} must be integer ids in rows of equal length: pad the shorter ones with "
                f"the pad id {pad_id} on the right. Received: {ids!r}"
            ) from error
    if ids.dtype == tf.string:
        raise ValueError(
            f"{name} must be integer ids. Received: strings. Encode text first, for instance with "
            "`tokenizer.encode(text)` of keras_attention.text."
        )
    if not (ids.dtype.is_integer or ids.dtype in (tf.float32, tf.float64)):
        hint = ""
        if ids.dtype.is_floating:
            hint = (
                ", which cannot represent every id. Keras casts the floats of a model under a "
                "mixed policy to it: pass integers."
            )
        raise ValueError(f"{name} must be integer ids. Received: {ids.dtype.name}{hint}")
    axes = shape.split() if shape else None
    if axes is not None and ids.shape.rank not in (None, len(axes)):
        hint = " Write [ids] for a batch of one." if ids.shape.rank == len(axes) - 1 else ""
        raise ValueError(
            f"{name} must be ids [{', '.join(axes)}]. Received: shape {tuple(ids.shape)}.{hint}"
        )
    if ids.dtype.is_floating:
        rule = f"{name} must be integer ids, or floats that are whole numbers."
        ids = check_whole_numbers(ids, rule)
    if ids.dtype in (tf.int32, tf.int64):
        return ids
    return tf.cast(ids, tf.int64 if ids.dtype in (tf.uint32, tf.uint64) else tf.int32)


def check_whole_numbers(numbers: tf.Tensor, rule: str) -> tf.Tensor:
    """The numbers, after checking that they are whole.

    Raises ValueError with the rule, in a graph InvalidArgumentError; XLA cannot raise it.
    """
    whole = tf.reduce_all((numbers == tf.floor(numbers)) & (tf.abs(numbers) < 2.0**31))
    known = tf.get_static_value(whole)
    if known is not None and not known:
        raise ValueError(f"{rule} Received: {tf.get_static_value(numbers)}")
    check = None if known is not None else tf.debugging.Assert(whole, [rule, "Received:", numbers])
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(numbers)
