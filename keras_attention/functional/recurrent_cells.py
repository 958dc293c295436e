"""One step of an LSTM and of a GRU, and its gradient, as pure functions for a loop over time.

A cell here reads two things: rows that are known before the loop, multiplied by their kernel there
(`given`), and rows that only the loop knows (`below`): the output of the layer under it, or the
attention that is fed back. The gradient of a step is that of its pre-activations; the gradients of
the weights are products over all steps at once, after the loop (`weight_gradients`).

T steps, B rows, U units, I width of `below`, G the width of all gates. Products are computed in
the dtype of the weights, sums and gates in float32 or wider.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from keras_attention.functional.dtypes import widen


class LSTMWeights(NamedTuple):
    """Weights of an LSTM layer, gates in the order i, f, g, o (Hochreiter & Schmidhuber, 1997).

        i, f, o = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o);  g = tanh(z_g)
        c_t = f c_{t-1} + i g;   h_t = o tanh(c_t);   z = given + bias + below K + h_{t-1} R

    recurrent_kernel R [U, 4U]; kernel K [I, 4U] of what the loop alone knows, or None; bias [4U] or
    None; mask [B, I], a dropout mask on `below`, or None. States are (h [B, U], c [B, U]).

    >>> lstm = LSTMWeights(tf.zeros([2, 8]))
    >>> (h, c), kept = lstm.step(tf.zeros([1, 8]), None, (tf.zeros([1, 2]), tf.ones([1, 2])))
    >>> c.numpy().tolist()
    [[0.5, 0.5]]
    """

    recurrent_kernel: Any
    kernel: Any = None
    bias: Any = None
    mask: Any = None

    def for_steps(self) -> "LSTMWeights":
        """The layer for `step`, once before the loop: one matrix as its recurrent kernel."""
        return self._replace(recurrent_kernel=padded(self._joined()))

    def under(self, rows) -> "LSTMWeights":
        """The layer for these rows of the batch; rows: `recurrence.FirstRows`."""
        return self._replace(mask=rows.of(self.mask))

    def for_gradients(self) -> "LSTMWeights":
        """The layer for `gradient`, once before the loop: one matrix, transposed."""
        return self._replace(recurrent_kernel=padded(tf.transpose(self._joined())))

    def _joined(self):
        """[K; R], [I + U, 4U]."""
        parts = [part for part in (self.kernel, self.recurrent_kernel) if part is not None]
        return tf.concat(parts, 0)

    def step(self, given, below, state):
        """given [B, 4U] or None, below [B, I] or None, (h, c) -> (h, c), (i, f, g, o) [B, U]."""
        h, c = state
        rows = h if below is None else tf.concat([masked(below, self.mask), h], 1)
        z = split(widen(tf.matmul(rows, self.recurrent_kernel)), [4 * c.shape[1]])[0]
        i, f, g, o = tf.split(added(z, given, self.bias), 4, 1)
        i, f, g, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o)
        c = f * c + i * g
        kept = tuple(tf.cast(gate, h.dtype) for gate in (i, f, g, o))
        return (tf.cast(o * tf.tanh(c), h.dtype), c), kept

    def gradient(self, kept, before, after, upstream, width):
        """The gradient of one step.

        kept: of `step`; before, after: the states (h, c) around it; upstream: (dh, dc) of `after`;
        width: I, 0 without `below` -> (dz [B, 4U],), d below [B, I] or None, (dh, dc) of `before`.
        """
        (dh, dc), (_, c_before), (h, c) = upstream, before, after
        i, f, g, o = map(widen, kept)
        bent = tf.tanh(c)
        dc += tf.raw_ops.TanhGrad(y=bent, dy=dh * o)
        dz = [
            tf.raw_ops.SigmoidGrad(y=i, dy=dc * g),
            tf.raw_ops.SigmoidGrad(y=f, dy=dc * c_before),
            tf.raw_ops.TanhGrad(y=g, dy=dc * i),
            tf.raw_ops.SigmoidGrad(y=o, dy=dh * bent),
        ]
        dz = tf.cast(tf.concat(dz, 1), h.dtype)
        rows = widen(tf.matmul(dz, self.recurrent_kernel))
        below, dh = split(rows, [width, c.shape[1]])
        return (dz,), masked(below, self.mask) if width else None, (dh, dc * f)

    def weight_gradients(self, gradients, below, h_before):
        """The gradient of the layer from those of all steps, as `gradient` gives them.

        [T, B, 4U], below under its mask [T, B, I] or None, h_before [T, B, U].
        """
        (dz,) = gradients
        return LSTMWeights(
            product(h_before, dz),
            None if self.kernel is None else product(below, dz),
            None if self.bias is None else tf.cast(summed(dz), self.bias.dtype),
        )


class GRUWeights(NamedTuple):
    """Weights of a GRU layer, gates in the order z, r, h (Cho et al., 2014), reset after the
    product, as in `keras.layers.GRU`.

        z, r = sigmoid(x_z + s_z), sigmoid(x_r + s_r);  n = tanh(x_h + r s_h)
        h_t = z h_{t-1} + (1 - z) n;   x = given + bias + below K,  s = h_{t-1} R + recurrent_bias

    recurrent_kernel R [U, 3U]; kernel K [I, 3U], bias [3U], mask [B, I] as in `LSTMWeights`;
    recurrent_bias [3U] or None. The state is (h [B, U],).

    >>> gru = GRUWeights(tf.zeros([2, 6]))
    >>> (h,), kept = gru.step(tf.zeros([1, 6]), None, (tf.ones([1, 2]),))
    >>> h.numpy().tolist()
    [[0.5, 0.5]]
    """

    recurrent_kernel: Any
    kernel: Any = None
    bias: Any = None
    mask: Any = None
    recurrent_bias: Any = None

    def for_steps(self) -> "GRUWeights":
        """The layer for `step`, once before the loop."""
        return self._laid_out(lambda kernel: kernel)

    def under(self, rows) -> "GRUWeights":
        """The layer for these rows of the batch; rows: `recurrence.FirstRows`."""
        return self._replace(mask=rows.of(self.mask))

    def for_gradients(self) -> "GRUWeights":
        """The layer for `gradient`, once before the loop: its kernels transposed."""
        return self._laid_out(tf.transpose)

    def _laid_out(self, turn):
        """Two products cannot be one, because r multiplies a part of one of them."""
        kernel = None if self.kernel is None else padded(turn(self.kernel))
        return self._replace(kernel=kernel, recurrent_kernel=padded(turn(self.recurrent_kernel)))

    def step(self, given, below, state):
        """given [B, 3U] or None, below [B, I] or None, (h,) -> (h,), (z, r, n, s_h)."""
        (h,) = state
        gates = [3 * h.shape[1]]
        s = split(widen(tf.matmul(h, self.recurrent_kernel)), gates)[0]
        s, x = added(s, self.recurrent_bias), None
        if below is not None:
            x = split(widen(tf.matmul(masked(below, self.mask), self.kernel)), gates)[0]
        x = added(x, given, self.bias)
        (x_z, x_r, x_h), (s_z, s_r, s_h) = tf.split(x, 3, 1), tf.split(s, 3, 1)
        z, r = tf.sigmoid(x_z + s_z), tf.sigmoid(x_r + s_r)
        n = tf.tanh(x_h + r * s_h)
        new = z * widen(h) + (1 - z) * n
        kept = tuple(tf.cast(gate, h.dtype) for gate in (z, r, n, s_h))
        return (tf.cast(new, h.dtype),), kept

    def gradient(self, kept, before, after, upstream, width):
        """As `LSTMWeights.gradient` -> (dx [B, 3U], ds [B, 3U]), d below, (dh,) of `before`."""
        (dh,), (h,) = upstream, before
        z, r, n, s_h = map(widen, kept)
        dn = tf.raw_ops.TanhGrad(y=n, dy=dh * (1 - z))
        dz = tf.raw_ops.SigmoidGrad(y=z, dy=dh * (widen(h) - n))
        dr = tf.raw_ops.SigmoidGrad(y=r, dy=dn * s_h)
        dx = tf.cast(tf.concat([dz, dr, dn], 1), h.dtype)
        ds = tf.cast(tf.concat([dz, dr, dn * r], 1), h.dtype)
        below = None
        if width:
            below = masked(split(widen(tf.matmul(dx, self.kernel)), [width])[0], self.mask)
        before = split(widen(tf.matmul(ds, self.recurrent_kernel)), [h.shape[1]])[0]
        return (dx, ds), below, (dh * z + before,)

    def weight_gradients(self, gradients, below, h_before):
        """As `LSTMWeights.weight_gradients`."""
        dx, ds = gradients
        bias, recurrent_bias = self.bias, self.recurrent_bias
        return GRUWeights(
            product(h_before, ds),
            None if self.kernel is None else product(below, dx),
            None if bias is None else tf.cast(summed(dx), bias.dtype),
            None,
            None if recurrent_bias is None else tf.cast(summed(ds), recurrent_bias.dtype),
        )


def product(rows, gradients):
    """The gradient of a matrix, from all steps at once.  [T, B, I], [T, B, G] -> [I, G].

    >>> product(tf.ones([2, 3, 1]), tf.ones([2, 3, 2])).numpy().tolist()
    [[6.0, 6.0]]
    """
    rows, gradients = (tf.reshape(x, [-1, x.shape[2]]) for x in (rows, gradients))
    return tf.matmul(tf.cast(rows, gradients.dtype), gradients, transpose_a=True)


def summed(gradients):
    """The gradient of a bias, from all steps at once.  [T, B, G] -> [G]."""
    return tf.reduce_sum(widen(gradients), [0, 1])


def added(first, *others):
    """The sum of what is not None, widened."""
    for other in others:
        if other is not None:
            first = widen(other) if first is None else first + widen(other)
    return first


def masked(x, mask):
    """x under a dropout mask, or as it is."""
    return x if mask is None else x * tf.cast(mask, x.dtype)


def padded(matrix):
    """The matrix with 16 columns more if its rows begin at the same place of a cache.

    Rows at a distance of a power of two share few lines of the cache, which makes products of few
    rows slower. `split` cuts the additional columns off.
    """
    return tf.pad(matrix, [[0, 0], [0, 16]]) if matrix.shape[1] % 512 == 0 else matrix


def split(rows, widths) -> list:
    """Columns of these widths, and no others.  [B, N] -> [B, width] each."""
    rest = rows.shape[1] - sum(widths)
    sizes = [width for width in (*widths, rest) if width]
    parts = iter(tf.split(rows, sizes, 1) if len(sizes) > 1 else [rows])
    return [next(parts) if width else None for width in widths]
