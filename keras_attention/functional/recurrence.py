"""The attentional recurrence: all steps of a stack of cells, with a gradient written by hand.

Automatic differentiation of such a loop keeps every intermediate tensor of every step, and adds a
product of few rows to the gradient of each weight at each step. Here the forward loop keeps gates,
states, attention weights, queries and contexts; the backward loop gives the gradients of
pre-activations only, and each weight's gradient is one product over the T * B rows of all steps.

T steps, B rows, U units of a layer, A width of the attention, S memory slots.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from keras_attention.functional.dtypes import widen
from keras_attention.functional.packing import Packing, pack, packing_of
from keras_attention.functional.recurrent_attention import ACTIVATIONS, RecurrentAttention
from keras_attention.functional.recurrent_cells import GRUWeights, LSTMWeights, added, masked


class Recurrence(NamedTuple):
    """What all steps gave, and the state after the last one.

    >>> out = recurrence(tf.zeros([3, 1, 6]), [GRUWeights(tf.zeros([2, 6]))], [(tf.ones([1, 2]),)])
    >>> out.hidden.shape, out.attention is None
    (TensorShape([3, 1, 2]), True)
    """

    hidden: Any  # [T, B, U] of the last layer
    attention: Any  # [T, B, A], None without attention
    weights: Any  # [T, B, S], None without attention
    states: Any  # of each layer, (h, c) or (h,)
    fed: Any  # [B, A], None without attention


def recurrence(
    given: Any,
    layers: Sequence[LSTMWeights | GRUWeights],
    states: Any,
    attention: RecurrentAttention | None = None,
    fed: Any = None,
    memory_mask: Any = None,
    active: Any = None,
    activation: str = "linear",
    rows: Any = None,
) -> Recurrence:
    """Run a stack of LSTM and GRU layers, and attention above it, over T steps.

        h^1_t = cell_1(given_t + K a_{t-1}, h^1_{t-1})     K a_{t-1}: input feeding, if K is there
        h^l_t = cell_l(K_l h^{l-1}_t, h^l_{t-1})
        a_t   = attention(h^L_t, memory)

    Args:
        given: [T, B, G], the inputs of all steps times the kernel of the first layer, plus its
            bias; G is 4U of an LSTM, 3U of a GRU.
        layers: `LSTMWeights` or `GRUWeights`, from the first to the last. A `kernel` of the first
            is that of the attention that is fed back.
        states: of each layer, (h, c) or (h,), [B, U].
        attention: a memory and its weights, or None.
        fed: a_0 [B, A]; needed with `attention`.
        memory_mask: [B, S] bool, True = visible, or None.
        active: [T, B] bool; in a row and step where it is False state and attention stay as they
            are. None: everywhere True.
        activation: of the attention's layer: "linear", "tanh", "sigmoid" or "relu".
        rows: [T] int: only the first n_t rows are computed in step t, the others stay as they are,
            then and later; None: all. Sort rows by their last active step.

    Returns:
        `Recurrence`. Hidden states and attentions have the dtype of the states' h; c and the
        attention weights are float32 or wider.

    Raises:
        ValueError: no layers, states that do not fit, attention without `fed`, an unknown
            activation.

    A second derivative goes through single steps, differentiated by TensorFlow.

    >>> out = recurrence(tf.zeros([3, 1, 8]), [LSTMWeights(tf.zeros([2, 8]))],
    ...                  [(tf.zeros([1, 2]), tf.ones([1, 2]))])
    >>> out.hidden.shape, out.states[0][1].numpy().tolist()
    (TensorShape([3, 1, 2]), [[0.125, 0.125]])
    """
    _check(layers, states, attention, fed, activation)
    steps = given.shape[0]
    empty = not steps  # or of unknown length: a loop keeps nothing of no steps, so it makes one
    if empty:
        steps = tf.shape(given)[0]
        missing = tf.maximum(1 - steps, 0)
        given = tf.pad(given, [[0, missing], [0, 0], [0, 0]])
        active = None if active is None else tf.pad(active, [[0, missing], [0, 0]])
        rows = None if rows is None else tf.pad(rows, [[0, missing]])
    states = [(h, *map(widen, rest)) for h, *rest in states]
    parts = (given, list(layers), states, attention, fed)
    leaves = [leaf for leaf in tf.nest.flatten(parts) if leaf is not None]
    found = _differentiable(parts, Masks(memory_mask, active, rows), activation)(*leaves)
    rest = iter(found)
    hidden = next(rest)
    looked = [None, None] if attention is None else [next(rest), next(rest)]
    last = tf.nest.map_structure(lambda _: next(rest), parts[2])
    after = next(rest) if attention is not None else None
    if empty:
        hidden, looked = hidden[:steps], [None if x is None else x[:steps] for x in looked]
        last, after = tf.nest.map_structure(
            lambda new, old: None if new is None else tf.where(steps > 0, new, old),
            (last, after),
            (parts[2], fed if attention is not None else None),
        )
    return Recurrence(hidden, looked[0], looked[1], last, after)


def _check(layers, states, attention, fed, activation) -> None:
    """ValueError for parts that do not fit."""
    if not layers or len(layers) != len(states):
        raise ValueError(
            "recurrence needs one state for each of its layers, and at least one layer. Received: "
            f"{len(layers)} layers, {len(states)} states"
        )
    for layer, state in zip(layers, states):
        units = layer.recurrent_kernel.shape[0]
        count = 2 if isinstance(layer, LSTMWeights) else 1
        if len(state) != count or any(x.shape[-1] != units for x in state):
            raise ValueError(
                f"The state of {type(layer).__name__} of {units} units must be {count} x [B, "
                f"{units}]. Received: shapes {[tuple(x.shape) for x in state]}"
            )
    if attention is not None and fed is None:
        raise ValueError(
            "recurrence with attention needs fed, the attention before the first step (zeros). "
            "Received: fed=None"
        )
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"activation must be one of {list(ACTIVATIONS)}. Received: activation={activation!r}"
        )


class Masks(NamedTuple):
    """What each step sees and computes; see `recurrence`."""

    memory: Any  # [B, S] or None
    active: Any  # [T, B] or None
    rows: Any  # [T] or None


def _differentiable(parts, masks, activation):
    """A function of the leaves of `parts` that are not None, with its gradient."""

    def forward(leaves):
        rest = iter(leaves)
        filled = [None if leaf is None else next(rest) for leaf in tf.nest.flatten(parts)]
        given, layers, states, attention, fed = tf.nest.pack_sequence_as(parts, filled)
        loop = _Loop(layers, attention, masks, activation)
        kept = loop.forward(given, states, fed)
        outputs = [kept.states[-1][0][1:]]
        outputs += [] if attention is None else [kept.fed[1:], kept.looked[0]]
        outputs += [x[-1] for x in tf.nest.flatten(kept.states)]
        outputs += [] if attention is None else [kept.fed[-1]]
        return outputs, loop, kept

    def of_leaves(grads, leaves):
        pairs = zip(tf.nest.flatten(parts), tf.nest.flatten(grads))
        grads = [grad for leaf, grad in pairs if leaf is not None]
        zeros = (tf.zeros_like(leaf) for leaf in leaves)  # dropout masks have no gradient
        return [
            zero if grad is None else tf.cast(grad, zero.dtype) for grad, zero in zip(grads, zeros)
        ]

    @tf.custom_gradient
    def run(*leaves):
        outputs, loop, kept = forward(leaves)

        def gradient(*upstream):
            @tf.custom_gradient
            def first(*tensors):
                def second(*upstream):
                    return _second(lambda x: forward(x)[0], tensors, len(leaves), upstream)

                return of_leaves(loop.backward(kept, tensors[len(leaves) :]), leaves), second

            # The gradient of a gather is IndexedSlices.
            return first(*leaves, *map(tf.convert_to_tensor, upstream))

        return outputs, gradient

    return run


def _second(function, tensors, count, upstream):
    """The gradient of a gradient, by TensorFlow's own differentiation of single steps.

    tensors: the arguments of `function`, `count` of them, and the upstream gradients of its
    outputs; upstream: those of the gradient of the arguments.
    """
    with tf.GradientTape() as outer:
        outer.watch(tensors)
        arguments, upstream_first = tensors[:count], tensors[count:]
        with tf.GradientTape() as inner:
            inner.watch(arguments)
            outputs = function(arguments)
        grads = inner.gradient(
            outputs, arguments, output_gradients=upstream_first, unconnected_gradients="zero"
        )
    return outer.gradient(grads, tensors, output_gradients=upstream, unconnected_gradients="zero")


class _Kept(NamedTuple):
    """What the forward loop keeps."""

    states: Any  # of each layer, before each step and after the last, [T + 1, B, U]
    fed: Any  # the attention, likewise [T + 1, B, A]; () without
    gates: Any  # of each layer and step, four [T, B, U]
    looked: Any  # (weights [T, B, S], (queries, contexts)), or ()


class _Loop(NamedTuple):
    """The loop over time, forward and backward."""

    layers: Any
    attention: Any
    masks: Masks
    activation: str

    def forward(self, given, states, fed) -> _Kept:
        """All steps."""
        layers = [layer.for_steps() for layer in self.layers]
        memory = None if self.attention is None else self.attention.for_steps()
        h, wide = states[0][0].dtype, given.dtype if given.dtype.size > 4 else tf.float32
        feeds, batch = self.layers[0].kernel is not None, tf.shape(given)[1]

        def step(t, carry):
            first = self._first_rows(t, batch)
            (states, fed), active = first.of(carry), self._active(t, first)
            after, gates, below, inputs = [], [], fed if feeds else None, first.of(given[t])
            for layer, state in zip(layers, states):
                new, kept = layer.under(first).step(inputs, below, state)
                after.append(_where(active, new, state))
                gates.append(kept)
                below, inputs = after[-1][0], None
            looked = ()
            if memory is not None:
                visible = first.of(self.masks.memory)
                new, weights, kept = memory.under(first).step(below, visible, self.activation)
                (fed,) = _where(active, (new,), (fed,))
                looked = (weights, kept)
            return first.into((after, fed), carry), first.padded((gates, looked))

        types = ([(h,) * 4 for _ in layers], () if memory is None else (wide, (h, h)))
        carry = (states, () if memory is None else fed)
        carries, kept = scan(step, carry, given.shape[0] or tf.shape(given)[0], types)
        return _Kept(*carries, *kept)

    def backward(self, kept, upstream):
        """The gradients of what `forward` was given, and of the layers and the attention."""
        layers = [layer.for_gradients() for layer in self.layers]
        memory = None if self.attention is None else self.attention.for_gradients()
        feeds = self.layers[0].kernel is not None
        widths = [kept.fed.shape[2] if feeds else 0]
        widths += [layer_states[0].shape[2] for layer_states in kept.states[:-1]]
        units = kept.states[-1][0].shape[2]
        given = self._upstream(kept, upstream)
        sums: Any = ()
        if memory is not None and memory.v is not None:
            sums = (tf.zeros_like(memory.keys), tf.zeros_like(memory.v))
        after_states, after_fed = _without_first((kept.states, kept.fed))
        batch = tf.shape(given.hidden)[1]

        def step(t, carry):
            first = self._first_rows(t, batch)
            active = self._active(t, first)
            dstates, dfed, sums = carry
            *lower, (dtop, *dcell) = dstates
            dstates = [*lower, (dtop + given.hidden[t], *dcell)]
            dfed = dfed if memory is None else dfed + given.attention[t]
            before, after, fed, gates, looked = first.of(
                tf.nest.map_structure(
                    lambda x: x[t],
                    (kept.states, after_states, after_fed, kept.gates, kept.looked),
                )
            )
            dnew = [list(state) for state in first.of(dstates)]
            dlooked, dnewfed = (), first.of(dfed)
            if memory is not None:
                through, (dnewfed,) = _split(active, (dnewfed,))
                (weights, asked), dalign = looked, first.of(given.weights[t])
                dh, dlooked, more = memory.under(first).gradient(
                    asked, fed, weights, through[0], dalign, self.activation, units
                )
                dnew[-1][0] += dh
                if more:
                    dkeys, dv = sums
                    sums = (first.into(first.of(dkeys) + more[0], dkeys), dv + more[1])
            dgates: list[Any] = [()] * len(layers)
            for i in reversed(range(len(layers))):
                through, stays = _split(active, dnew[i])
                dgates[i], below, dbefore = (
                    layers[i]
                    .under(first)
                    .gradient(gates[i], before[i], after[i], through, widths[i])
                )
                dnew[i] = [added(*pair) for pair in zip(dbefore, stays)]
                if i:
                    dnew[i - 1][0] += below
                elif feeds:
                    dnewfed = added(below, dnewfed)
            if memory is not None and dnewfed is None:
                dnewfed = tf.zeros_like(first.of(dfed))
            dnew = [tuple(state) for state in dnew]
            dstates, dfed = first.into((dnew, dnewfed), (dstates, dfed))
            return (dstates, dfed, sums), first.padded((dgates, dlooked))

        counts = [1 if isinstance(layer, LSTMWeights) else 2 for layer in layers]
        h, wide = kept.states[0][0].dtype, given.hidden.dtype
        types = ([(h,) * n for n in counts], () if memory is None else (h, h, wide, wide))
        carry = (given.states, given.fed, sums)
        steps = given.hidden.shape[0] or tf.shape(given.hidden)[0]
        carry, (dgates, dlooked) = scan(step, carry, steps, types, backwards=True)
        dstates, dfed, sums = carry
        layer_grads, dmemory = self._weight_gradients(kept, dgates, dlooked, sums)
        return dgates[0][0], layer_grads, dstates, dmemory, None if memory is None else dfed

    def _upstream(self, kept, upstream) -> Recurrence:
        """The upstream gradients of the outputs of a recurrence, float32 or wider."""
        rest = iter(map(widen, upstream))
        hidden, attention, weights = next(rest), None, None
        if self.attention is not None:
            attention, weights = next(rest), next(rest)
            if self.masks.active is not None:  # what `rows` leaves out is not read
                shown = self.masks.active[:, :, None]
                weights = tf.where(shown, weights, tf.zeros_like(weights))
        states = tf.nest.map_structure(lambda _: next(rest), kept.states)
        return Recurrence(hidden, attention, weights, states, next(rest, ()))

    def _weight_gradients(self, kept, dgates, dlooked, sums):
        """The gradients of the layers and of the attention, one product of all steps for each."""
        feeds = self.layers[0].kernel is not None
        below = [kept.fed[:-1] if feeds else None]
        below += [h[1:] for h, *_ in kept.states[:-1]]
        below = [
            None if x is None else masked(x, layer.mask) for x, layer in zip(below, self.layers)
        ]
        pack = self._real_rows(tf.shape(dgates[0][0])[1])
        layers = [
            layer.weight_gradients(*pack((dgates[i], below[i], kept.states[i][0][:-1])))
            for i, layer in enumerate(self.layers)
        ]
        if self.attention is None:
            return layers, None
        weights, asked = kept.looked
        top = kept.states[-1][0][1:]
        return layers, self.attention.weight_gradients(top, asked, weights, dlooked, sums, pack)

    def _first_rows(self, t, batch):
        """The rows that step t computes, of B."""
        return FirstRows() if self.masks.rows is None else FirstRows(self.masks.rows[t], batch)

    def _active(self, t, first):
        """[n, 1] of the computed rows, or None."""
        return None if self.masks.active is None else first.of(self.masks.active[t])[:, None]

    def _real_rows(self, batch):
        """A function from nests of [T, B, D] to the computed rows, [1, M, D] of M <= T * B."""
        if self.masks.rows is None:
            return lambda nest: nest
        packing = computed(self.masks.rows, batch)

        def real(x):
            return None if x is None else pack(x, packing)[None]

        return lambda nest: tf.nest.map_structure(real, nest)


def computed(rows, batch) -> Packing:
    """The rows that the steps compute.  rows [T], B -> of [T, B] places.

    >>> computed(tf.constant([2, 1]), 2).places.numpy().tolist()
    [0, 1, 2]
    """
    return packing_of(tf.range(batch) < rows[:, None])


class FirstRows(NamedTuple):
    """The first n of B rows, which a step computes; all, by default."""

    count: Any = None
    batch: Any = None

    def of(self, nest):
        """These rows of tensors [B, ...]; other leaves as they are."""
        if self.count is None:
            return nest
        return tf.nest.map_structure(
            lambda x: x[: self.count] if tf.is_tensor(x) and x.shape.rank else x, nest
        )

    def into(self, nest, whole):
        """The tensors [B, ...] with these rows replaced by those of [n, ...]."""
        if self.count is None:
            return nest
        return tf.nest.map_structure(
            lambda x, old: tf.concat([x, old[self.count :]], 0), nest, whole
        )

    def padded(self, nest):
        """[n, ...] -> [B, ...], zeros below."""
        if self.count is None:
            return nest
        missing = self.batch - self.count
        return tf.nest.map_structure(
            lambda x: tf.pad(x, [[0, missing]] + [[0, 0]] * (x.shape.rank - 1)), nest
        )


def scan(step, carry, steps, types, backwards: bool = False):
    """Repeat `step(t, carry) -> (carry, kept)` for t = 0, ..., T - 1, or from T - 1 to 0.

    types: the dtypes of `kept`, a nest -> forward, the carries before each step and after the last,
    [T + 1, ...] each; backwards, the last carry alone; and all that was kept, [T, ...] each.

    >>> carries, kept = scan(lambda t, x: (x + t, 2 * x), tf.constant(0), 3, tf.int32)
    >>> carries.numpy().tolist(), kept.numpy().tolist()
    ([0, 0, 1, 3], [0, 0, 2])
    """
    arrays = [tf.TensorArray(dtype, size=steps) for dtype in tf.nest.flatten(types)]
    shapes = []
    record = [] if backwards else tf.nest.flatten(carry)
    records = [tf.TensorArray(x.dtype, size=steps + 1).write(0, x) for x in record]

    def body(count, carry, arrays, records):
        t = steps - 1 - count if backwards else count
        after, kept = step(t, carry)
        after, kept = tf.nest.flatten(after), tf.nest.flatten(kept)
        for old, new in zip(tf.nest.flatten(carry), after):
            new.set_shape(old.shape)
        shapes[:] = [x.shape for x in kept]
        arrays = [array.write(t, x) for array, x in zip(arrays, kept)]
        records = [array.write(t + 1, x) for array, x in zip(records, after)]
        return count + 1, tf.nest.pack_sequence_as(carry, after), arrays, records

    _, last, arrays, records = tf.while_loop(
        lambda count, *_: count < steps,
        body,
        (tf.constant(0), carry, arrays, records),
        maximum_iterations=steps,
    )
    size = tf.get_static_value(steps)
    kept = [tf.ensure_shape(a.stack(), [size, *shape]) for a, shape in zip(arrays, shapes)]
    if not backwards:
        size = None if size is None else size + 1
        carries = [tf.ensure_shape(a.stack(), [size, *x.shape]) for a, x in zip(records, record)]
        last = tf.nest.pack_sequence_as(carry, carries)
    return last, tf.nest.pack_sequence_as(types, kept)


def _where(active, new, old):
    """New states in the active rows.  [B, 1] bool or None, tuples of [B, ...]."""
    if active is None:
        return tuple(new)
    return tuple(tf.where(active, x, y) for x, y in zip(new, old))


def _split(active, gradients):
    """The gradients of the new and of the old states of `_where`, these None without `active`."""
    if active is None:
        return tuple(gradients), (None,) * len(gradients)
    pairs = [(x, tf.zeros_like(x)) for x in gradients]
    new = tuple(tf.where(active, x, zero) for x, zero in pairs)
    return new, tuple(tf.where(active, zero, x) for x, zero in pairs)


def _without_first(nest):
    """Of [T + 1, ...] the last T."""
    return tf.nest.map_structure(lambda x: x[1:], nest)
