"""Masks: boolean, True = visible, combined with `&`.

B batch, T queries, S memory slots; i is the position of a query, j that of a slot. A mask of
positions is [1, T, S]: `causal(T) & padding(lengths, S)[:, None]` is [B, T, S]. Lengths may be
tensors.
"""

from typing import Any

import tensorflow as tf

from keras_attention.functional.ids import check_whole_numbers


def as_lengths(lengths: Any, name: str = "lengths") -> tf.Tensor:
    """Lengths as integers.  [...] -> [...] int32, or the integer dtype that they have.

    Floats of whole numbers are accepted, too, because Keras builds a model with float inputs.
    Raises ValueError for a number that is not whole (in a graph InvalidArgumentError; XLA cannot
    raise it), and for values that are not numbers.

    >>> as_lengths([2.0, 0.0]).numpy().tolist()
    [2, 0]
    >>> as_lengths([2.5], "sequence_length")
    Traceback (most recent call last):
    ...
    ValueError: sequence_length must be integers, or floats that are whole numbers. Received: [2.5]
    """
    lengths = tf.convert_to_tensor(lengths, name=name)
    if lengths.dtype.is_integer:
        return lengths
    rule = f"{name} must be integers, or floats that are whole numbers."
    if not lengths.dtype.is_floating:
        raise ValueError(f"{rule} Received: {lengths.dtype.name}")
    return tf.cast(check_whole_numbers(lengths, rule), tf.int32)


def padding(lengths: tf.Tensor, steps: int | tf.Tensor | None = None) -> tf.Tensor:
    """The real steps of right-padded rows.  lengths [B] -> [B, S] bool.

    `steps` is S; without it, S is the longest length. Raises ValueError as `as_lengths`.

    >>> padding([2, 0], 3).numpy().astype(int).tolist()
    [[1, 1, 0], [0, 0, 0]]
    """
    return tf.sequence_mask(as_lengths(lengths), steps)


def zero_masked(x: tf.Tensor, mask: Any = None) -> tf.Tensor:
    """`x` where the mask is True, zeros elsewhere.  [B, ..., D], [B, ...].

    Values are selected, not multiplied: padding of NaN or infinity gives zeros and zero gradients,
    too. None is no mask.

    >>> zero_masked(tf.constant([[[1.0], [float('nan')]]]), [[True, False]]).numpy().tolist()
    [[[1.0], [0.0]]]
    """
    if mask is None:
        return x
    return tf.where(tf.cast(mask, tf.bool)[..., None], x, tf.zeros([], x.dtype))


def finite_padding(x: tf.Tensor, mask: Any = None) -> tf.Tensor:
    """Replace values that are not finite by zeros where the mask is False.  [B, ..., D], [B, ...].

    For steps that are queries: finite ones keep their output whatever the mask is, and NaN in
    padding affects neither other steps nor the gradients of weights.

    >>> x = tf.constant([[[1.0], [float("nan")], [3.0]]])
    >>> finite_padding(x, [[True, False, False]])[0, :, 0].numpy().tolist()
    [1.0, 0.0, 3.0]
    """
    if mask is None:
        return x
    keep = tf.cast(mask, tf.bool)[..., None] | tf.math.is_finite(x)
    return tf.where(keep, x, tf.zeros([], x.dtype))


def steps_mask(mask: Any) -> Any:
    """The mask if it is one of steps, [B, S]; None if it is one of pairs, or None.

    >>> steps_mask(tf.ones([2, 3, 3], tf.bool)) is None
    True
    """
    return mask if mask is not None and len(mask.shape) == 2 else None


def visible_slots(mask: Any) -> Any:
    """The slots that at least one query can see.  [..., T, S] -> [..., S], None stays None.

    >>> visible_slots(tf.constant([[[True, False, False], [True, True, False]]])).numpy().tolist()
    [[True, True, False]]
    """
    if mask is None:
        return None
    mask = tf.cast(mask, tf.bool)
    return mask if mask.shape.rank == 1 else tf.reduce_any(mask, -2)


def steps_before(queries: int | tf.Tensor, slots: int | tf.Tensor) -> int | tf.Tensor:
    """S - T: the number of slots before the first of T queries, which are the last T of S steps.

    The convention of every `causal=True` and of relative positions, for T = 2 and S = 4:

        query 0 (step 2)   1 1 1 0
        query 1 (step 3)   1 1 1 1

    Raises ValueError for S < T where both are known.

    >>> steps_before(2, 4)
    2
    """
    if isinstance(queries, int) and isinstance(slots, int) and slots < queries:
        raise ValueError(
            "The T queries are the last T steps of the S slots of the memory, so S must be at "
            f"least T. Received: T={queries}, S={slots}"
        )
    return slots - queries


def causal(length: Any, offset: Any = 0) -> tf.Tensor:
    """j <= i: no later slots (Vaswani et al., 2017, 3.2.3).  T -> [1, T, offset + T].

    `offset` slots are before the first query, as in a decoder with a cache of keys.

    >>> causal(2, offset=1)[0].numpy().astype(int).tolist()
    [[1, 1, 0], [1, 1, 1]]
    """
    return _slots_after_queries(length, offset) <= 0


def directional(length: Any, forward: bool = True) -> tf.Tensor:
    """j < i, or j > i: one side only, without i (Shen et al., 2018, DiSAN).  -> [1, T, T].

    The first query forward, and the last one backward, may have no visible slot.

    >>> directional(2)[0].numpy().astype(int).tolist()
    [[0, 0], [1, 0]]
    """
    distance = _slots_after_queries(length)
    return distance < 0 if forward else distance > 0


def window(length: Any, radius: Any, offset: Any = 0) -> tf.Tensor:
    """|i - j| <= radius: restricted attention, r = 2 radius + 1 (Vaswani et al., 2017, section 4).

    T -> [1, T, offset + T]. From radius T - 1 on, all T queries see all T slots. Raises
    ValueError for a radius below 0.

    >>> window(3, 1)[0].numpy().astype(int).tolist()
    [[1, 1, 0], [1, 1, 1], [0, 1, 1]]
    """
    _at_least(0, radius=radius)
    return tf.abs(_slots_after_queries(length, offset)) <= radius


def atrous(length: Any, rate: Any, offset: Any = 0) -> tf.Tensor:
    """(i - j) mod rate = 0: every rate-th position.  T -> [1, T, offset + T].

    Its union with `window` is sparse attention (Su, 2019, kexue.fm). Raises ValueError for a rate
    below 1.

    >>> atrous(4, 2)[0, 1].numpy().astype(int).tolist()
    [0, 1, 0, 1]
    """
    _at_least(1, rate=rate)
    return _slots_after_queries(length, offset) % rate == 0


def block(length: Any, size: Any, offset: Any = 0) -> tf.Tensor:
    """floor(i / size) = floor(j / size): its own block only.  T -> [1, T, offset + T].

    Raises ValueError for a size below 1.

    >>> block(3, 2)[0].numpy().astype(int).tolist()
    [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    """
    _at_least(1, size=size)
    queries, slots = _places(length, offset)
    return (queries // size)[:, None] == (slots // size)[None, None]


def strided(length: Any, stride: Any, hop: int | None = None, offset: Any = 0) -> tf.Tensor:
    """The last `stride` positions, and every stride-th before (Child et al., 2019, section 4.3).

    T -> [1, T, offset + T]. Hop 1 is i - stride <= j <= i, hop 2 is j <= i with (i - j) mod
    stride = 0, None their union. Two hops reach all earlier positions. Raises ValueError for a
    stride below 1, or another hop.

    >>> strided(5, 2)[0, 4].numpy().astype(int).tolist()
    [1, 0, 1, 1, 1]
    """
    hops = window(length, stride, offset), atrous(length, stride, offset)
    return causal(length, offset) & _hop(hops, hop)


def fixed(
    length: Any, stride: Any, summary: Any = 1, hop: int | None = None, offset: Any = 0
) -> tf.Tensor:
    """Its own block, and the last `summary` positions of each (Child et al., 2019, section 4.3).

    T -> [1, T, offset + T], always j <= i. Hop 1 is floor(i / stride) = floor(j / stride), hop 2
    is j mod stride >= stride - summary, None their union. Raises ValueError for a stride or a
    summary below 1, or another hop.

    >>> fixed(5, 2)[0, 4].numpy().astype(int).tolist()
    [0, 1, 0, 1, 1]
    """
    _at_least(1, summary=summary)
    own = block(length, stride, offset)
    summaries = _places(length, offset)[1] % stride >= stride - summary
    return causal(length, offset) & _hop((own, summaries[None, None]), hop)


def chosen(queries: tf.Tensor, slots: tf.Tensor) -> tf.Tensor:
    """Both tokens were selected, and are not the same (Shen et al., 2018, ReSAN).

    bool [B, S], [B, S] -> [B, S, S].

    >>> chosen(tf.constant([[True, True]]), tf.constant([[True, False]])).numpy().tolist()
    [[[False, False], [True, False]]]
    """
    pairs = queries[:, :, None] & slots[:, None, :]
    return pairs & (_slots_after_queries(tf.shape(queries)[1]) != 0)


def _places(length, offset=0):
    """The positions of the queries and of the slots.  [T], [offset + T]."""
    return tf.range(length) + offset, tf.range(length + offset)


def _slots_after_queries(length, offset=0):
    """j - i.  [1, T, offset + T]."""
    queries, slots = _places(length, offset)
    return slots[None, None] - queries[:, None]


def _hop(hops, hop):
    if hop not in (None, 1, 2):
        raise ValueError(f"hop must be 1, 2, or None for their union. Received: hop={hop!r}")
    return hops[0] | hops[1] if hop is None else hops[hop - 1]


def _at_least(lowest, **sizes):
    """Check numbers; graph tensors are not known yet."""
    for name, size in sizes.items():
        known = tf.get_static_value(size) if tf.is_tensor(size) else size
        if known is not None and known < lowest:
            raise ValueError(f"{name} must be at least {lowest}. Received: {name}={size}")
