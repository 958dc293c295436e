"""The argument `memory`: a tensor that is not projected yet, or the `Memory` that it became."""

from typing import Any

import tensorflow as tf

from keras_attention.backend.keras import KerasTensor
from keras_attention.functional import Memory
from keras_attention.functional.masks import as_lengths


def is_raw(memory: Any) -> bool:
    """Whether a memory is a tensor [B, S, D] that is not projected yet."""
    return not isinstance(memory, (list, tuple))


def as_memory(memory: Any) -> Memory:
    """A projected memory. Keras may have made a plain list or tuple of it."""
    if len(memory) != 3 or not all(map(is_raw, memory)):
        raise ValueError(
            "memory must be a tensor [B, S, D], or the result of prepare_memory. Received: "
            f"{type(memory).__name__} of {len(memory)}"
        )
    return Memory(*memory)


def refuse_both(lengths: Any, mask: Any) -> None:
    """ValueError where a memory is given lengths and a mask."""
    if lengths is not None and mask is not None:
        raise ValueError(
            "memory_sequence_length and memory_mask cannot be used at the same time: both mark the "
            "padding. Pass one of them. Received: both"
        )


def resolve_memory_mask(arguments: dict) -> dict:
    """The arguments of a call, with the Keras mask of a raw memory if no other is given."""
    memory = arguments.get("memory")
    lengths, mask = (arguments.get(f"memory_{name}") for name in ("sequence_length", "mask"))
    refuse_both(lengths, mask)
    if memory is None and not (lengths is None and mask is None):
        raise ValueError(
            "memory_sequence_length and memory_mask belong to a memory that is passed with them "
            "as memory=. Received: no memory. A bound one has its own: see setup_memory."
        )
    implicit = getattr(memory, "_keras_mask", None) if tf.is_tensor(memory) else None
    if implicit is None or lengths is not None or mask is not None:
        return arguments
    return {**arguments, "memory_mask": implicit}


def check_not_symbolic(memory: Any, lengths: Any, mask: Any) -> None:
    """ValueError for a tensor of a functional model, which has no values to project."""
    if any_symbolic(memory, lengths, mask):
        raise ValueError(
            "prepare_memory computes, and cannot take a tensor of a functional model that is "
            "being made. Pass that tensor itself: mechanism([query, state], memory=memory, "
            "memory_sequence_length=lengths), or memory=memory at the call of AttentionRNN or "
            "BasicDecoder; or bind it by setup_memory(memory, lengths). Received: "
            f"memory={memory}"
        )


def any_symbolic(*tensors: Any) -> bool:
    """Whether one of them is a tensor of a functional model."""
    return any(isinstance(tensor, KerasTensor) for tensor in tensors)


def length_mask(lengths: Any, memory: tf.Tensor) -> tf.Tensor:
    """`memory_sequence_length` [B] as the mask [B, S] of a memory [B, S, D].

    ValueError for lengths that are not [B] whole numbers; InvalidArgumentError at run time for
    lengths below 1 or beyond S.
    """
    lengths = as_lengths(lengths, "memory_sequence_length")
    known, batch = lengths.shape, memory.shape[:1]
    if known.rank is not None and (known.rank != 1 or not known.is_compatible_with(batch)):
        raise ValueError(
            "memory_sequence_length must hold one length for each row of the memory. Received: "
            f"memory_sequence_length of shape {known}, memory of shape {memory.shape}"
        )
    steps = tf.shape(memory)[1]
    checks = [
        tf.debugging.assert_positive(
            lengths,
            message="All values in memory_sequence_length must be greater than zero. Use "
            "memory_mask for a memory with empty rows.",
        ),
        tf.debugging.assert_less_equal(
            lengths,
            tf.cast(steps, lengths.dtype),
            message="memory_sequence_length must not be longer than the memory [B, S, D]. "
            "Is the memory time major?",
        ),
        tf.debugging.assert_equal(
            tf.size(lengths),
            tf.shape(memory)[0],
            message="memory_sequence_length must hold one length for each row of memory.",
        ),
    ]
    with tf.control_dependencies([check for check in checks if check is not None]):
        return tf.sequence_mask(tf.identity(lengths), steps)


def check_batch_size(rows: Any, memories: list) -> None:
    """InvalidArgumentError unless N rows are a multiple of the batch size of every memory."""
    for memory in memories:
        tf.debugging.assert_equal(
            tf.math.floormod(rows, tf.maximum(tf.shape(memory.mask)[0], 1)),
            0,
            message="Non-matching batch sizes between the memory (encoder output) and the "
            "requested batch size, which must be that of the memory, or beam_width times it "
            "for a beam search.",
        )


def check_rows(x: tf.Tensor, memory: Memory, beam_width: Any) -> None:
    """ValueError where x has not K rows for each source."""
    rows, sources = x.shape[0], memory.keys.shape[0]
    beams = tf.get_static_value(beam_width)
    if None not in (rows, sources, beams) and rows != sources * beams:
        raise ValueError(
            "The query must have beam_width rows for each row of the memory. Received: query "
            f"with {rows} rows, memory with {sources}, beam_width={beam_width}. In a beam search "
            "pass memory= as it is, without tile_batch; only a memory that is bound by "
            "setup_memory is tiled."
        )


def by_source(x: tf.Tensor, memory: Memory, beam_width: Any) -> tf.Tensor:
    """The K rows of each source side by side.  [B*K, ...] -> [B, K, ...]."""
    check_rows(x, memory, beam_width)
    batch = memory.keys.shape[0] or tf.shape(memory.keys)[0]
    return _grouped(x, [batch, beam_width], 1)


def by_row(x: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """One row for each hypothesis, as many as `like` [B*K, ...] has.  [B, K, ...] -> [B*K, ...]."""
    rows = _grouped(x, [like.shape[0] or tf.shape(like)[0]], 2)
    rows.set_shape([like.shape[0], *x.shape[2:]])
    return rows


def _grouped(x, first, axes):
    """x with its first axes replaced by others."""
    rest = x.shape[axes:]
    if rest.is_fully_defined():
        return tf.reshape(x, [*first, *rest])
    return tf.reshape(x, tf.concat([first, tf.shape(x)[axes:]], 0))
