"""Operations on beams: tile, gather, trace back.

The N = B*K rows of a search are ordered by source: row b*K + k is hypothesis k of source b.
"""

from typing import Any

import tensorflow as tf

from keras_attention.functional.masks import as_lengths


def tile_batch(t: Any, multiplier: int, name: str | None = None) -> Any:
    """Repeat every row of a nest of tensors: [a, b] -> [a, a, b, b].  [B, ...] -> [B*K, ...].

    Raises ValueError for a scalar.

    >>> tile_batch(tf.constant([1, 2]), 2).numpy().tolist()
    [1, 1, 2, 2]
    """

    def tile(x):
        x = tf.convert_to_tensor(x)
        if x.shape.rank == 0:
            raise ValueError(f"t must have a batch dimension. Received: a scalar, {x}")
        tiled = tf.repeat(x, multiplier, axis=0)
        known = tf.get_static_value(multiplier)
        batch = None if x.shape[0] is None or known is None else x.shape[0] * int(known)
        tiled.set_shape([batch, *x.shape[1:]])
        return tiled

    with tf.name_scope(name or "tile_batch"):
        return tf.nest.map_structure(tile, t)


def gather_beams(x: tf.Tensor, beams: tf.Tensor) -> tf.Tensor:
    """Each hypothesis takes the row of its parent.  [B, K, ...], [B, K'] -> [B, K', ...]."""
    gathered = tf.gather(x, beams, batch_dims=1)
    gathered.set_shape(beams.shape[:2].concatenate(x.shape[2:]))
    return gathered


def trace_back(parent_ids: tf.Tensor, last: Any, places: Any = None) -> tf.Tensor:
    """The index of each final beam at every step.  [T, B, K], [B, n] -> [T, B, n].

    `last` [B, n]: the index of the last real step, at which hypothesis n had the index `places`
    [B, n]; default: n itself. After it the index stays the same. [B, 1] is the same for all.
    """
    steps = tf.shape(parent_ids)[0]
    own: tf.Tensor = tf.broadcast_to(tf.range(tf.shape(parent_ids)[2]), tf.shape(parent_ids)[1:])
    # With one extra step, the identity: an array without entries cannot be stacked.
    parent_ids = tf.concat([parent_ids, own[None]], 0)
    places = own if places is None else places
    beams = tf.TensorArray(tf.int32, size=steps + 1, element_shape=places.shape)

    def back(time, came_from, beams):
        came_from = tf.where(time >= last, places, came_from)
        beams = beams.write(time, came_from)
        return time - 1, tf.gather(parent_ids[time], came_from, batch_dims=1), beams

    _, _, beams = tf.while_loop(
        lambda time, *_: time >= 0,
        back,
        (steps, places, beams),
        maximum_iterations=parent_ids.shape[0] or steps + 1,
    )
    return beams.stack()[:-1]


def _checked_parents(parent_ids: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """Parents that are safe to follow: those outside of the valid steps may have any value."""
    beam_width = tf.shape(parent_ids)[2]
    inside = (parent_ids >= 0) & (parent_ids < beam_width)
    invalid = ~inside & valid
    rule = "gather_tree found an invalid parent id: within the sequence lengths, parent ids must be"
    check = tf.debugging.Assert(
        ~tf.reduce_any(invalid),
        [
            f"{rule} in [0, K). Are parent_ids [T, B, K], time major? Received: shape",
            tf.shape(parent_ids),
            "parent id",
            tf.reduce_max(tf.where(invalid, parent_ids, tf.int32.min)),
        ],
    )
    with tf.control_dependencies([] if check is None else [check]):
        return tf.where(inside, parent_ids, 0)


def gather_tree(
    step_ids: Any, parent_ids: Any, max_sequence_lengths: Any, end_token: Any
) -> tf.Tensor:
    """Follow the parent ids from the last step back, to get whole hypotheses.

    step_ids, parent_ids [T, B, K] int32, max_sequence_lengths [B] -> [T, B, K]; after its first
    end token, and beyond the length, a hypothesis is filled with `end_token`.

    Raises InvalidArgumentError for a parent id outside [0, K) within the length.

    >>> ids = [[[1, 2, 3]], [[4, 5, 6]], [[7, 8, 9]]]  # [T=3, B=1, K=3]
    >>> parents = [[[0, 0, 0]], [[0, 1, 1]], [[2, 1, 2]]]
    >>> gather_tree(ids, parents, [3], 10).numpy()[:, 0].tolist()
    [[2, 2, 2], [6, 5, 6], [7, 8, 9]]
    """
    step_ids = tf.convert_to_tensor(step_ids, tf.int32)
    parent_ids = tf.convert_to_tensor(parent_ids, tf.int32)
    end_token = tf.cast(end_token, tf.int32)
    steps = tf.shape(step_ids)[0]
    lengths = as_lengths(max_sequence_lengths, "max_sequence_lengths")
    lengths = tf.minimum(tf.cast(lengths, tf.int32), steps)
    time = tf.range(steps)[:, None, None]  # [T, 1, 1]
    real = time < lengths[None, :, None]  # [T, B, 1]
    parent_ids = _checked_parents(parent_ids, real & (time > 0))
    beams = trace_back(parent_ids, lengths[:, None] - 1)
    ids = tf.where(real, tf.gather(step_ids, beams, batch_dims=2), end_token)
    ended = tf.cumsum(tf.cast(ids == end_token, tf.int32), exclusive=True) > 0
    ids = tf.where(ended, end_token, ids)
    ids.set_shape(step_ids.shape)
    return ids


def gather_tree_from_array(t: Any, parent_ids: Any, sequence_length: Any) -> tf.Tensor:
    """Reorder values recorded at every step, so that beam k has the history of hypothesis k.

    t [T, B, K, ...] or [T, B*K, ...], parent_ids [T, B, K], sequence_length [B, K] -> like t.
    Steps beyond a hypothesis' length keep their index.

    >>> alignments = tf.constant([[[[1.0], [2.0]]], [[[3.0], [4.0]]]])  # [T=2, B=1, K=2, S=1]
    >>> gather_tree_from_array(alignments, [[[0, 1]], [[1, 1]]], [[2, 2]])[..., 0].numpy().tolist()
    [[[2.0, 2.0]], [[3.0, 4.0]]]
    """
    t = tf.convert_to_tensor(t)
    parent_ids = tf.convert_to_tensor(parent_ids, tf.int32)
    lengths = tf.cast(as_lengths(sequence_length, "sequence_length"), tf.int32)
    shape = tf.shape(t)
    steps = tf.shape(parent_ids)[0]
    time = tf.range(steps)[:, None, None]
    longest = tf.minimum(tf.reduce_max(lengths, axis=1), steps)
    parent_ids = _checked_parents(parent_ids, (time < longest[None, :, None]) & (time > 0))
    beams = trace_back(parent_ids, longest[:, None] - 1)
    own = tf.zeros_like(beams) + tf.range(tf.shape(beams)[2])
    beams = tf.where(time < lengths[None], beams, own)
    flat = tf.reshape(t, tf.concat([tf.shape(parent_ids), [-1]], 0))  # [T, B, K, X]
    ordered = tf.reshape(tf.gather(flat, beams, batch_dims=2), shape)
    ordered.set_shape(t.shape)
    return ordered
