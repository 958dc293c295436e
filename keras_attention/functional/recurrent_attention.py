"""One step of attention in a loop over time, and its gradient, as pure functions.

B rows, S memory slots, U units of the cell that asks, D' width of queries and keys, D of values, A
of the attention. See `recurrent_cells` for what a step keeps.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from keras_attention.functional.dtypes import widen
from keras_attention.functional.normalizers import softmax
from keras_attention.functional.recurrent_cells import added, padded, product, split, summed

# Of y = activation(x): the gradient of x from y and the gradient of y.
ACTIVATIONS = {
    "linear": (lambda x: x, lambda y, dy: dy),
    "tanh": (tf.tanh, lambda y, dy: tf.raw_ops.TanhGrad(y=y, dy=dy)),
    "sigmoid": (tf.sigmoid, lambda y, dy: tf.raw_ops.SigmoidGrad(y=y, dy=dy)),
    "relu": (tf.nn.relu, lambda y, dy: tf.raw_ops.ReluGrad(features=y, gradients=dy)),
}


class RecurrentAttention(NamedTuple):
    """A memory and the weights of attention to it, additive with `v`, multiplicative without.

        q = h W_q;   score_s = v·tanh(k_s + q) or k_s·q;   w = softmax(score)
        context = sum_s w_s m_s;   attention = activation([h; context] W + b), or the context

    keys k [B, S, D'], values m [B, S, D], query_kernel W_q [U, D'] or None (D' = U), v [D'] or
    None, kernel W [U + D, A] or None, bias b [A] or None.
    (Bahdanau et al., 2015, A.1.2; Luong et al., 2015, eq. 5 and 8.)

    >>> memory = RecurrentAttention(tf.zeros([1, 2, 3]), tf.constant([[[1.0], [3.0]]]))
    >>> attention, weights, _ = memory.step(tf.ones([1, 3]), None, "linear")
    >>> attention.numpy().tolist(), weights.numpy().tolist()
    ([[2.0]], [[0.5, 0.5]])
    """

    keys: Any
    values: Any
    query_kernel: Any = None
    v: Any = None
    kernel: Any = None
    bias: Any = None

    def for_steps(self) -> "RecurrentAttention":
        """The attention for `step`, once before the loop: in the dtypes of its sums."""
        return self._replace(keys=widen(self.keys), v=None if self.v is None else widen(self.v))

    def under(self, rows) -> "RecurrentAttention":
        """The attention for these rows of the batch; rows: `recurrence.FirstRows`."""
        return self._replace(keys=rows.of(self.keys), values=rows.of(self.values))

    def for_gradients(self) -> "RecurrentAttention":
        """The attention for `gradient`, once before the loop: its kernels transposed."""
        query, kernel = (
            None if matrix is None else padded(tf.transpose(matrix))
            for matrix in (self.query_kernel, self.kernel)
        )
        return self.for_steps()._replace(query_kernel=query, kernel=kernel)

    def step(self, h, mask, activation):
        """h [B, U], mask [B, S] bool or None -> attention [B, A], weights [B, S], what is kept:
        the query [B, D'] and the context [B, D].
        """
        query = h if self.query_kernel is None else tf.matmul(h, self.query_kernel)
        if self.v is None:
            scores = tf.matmul(widen(query)[:, None], self.keys, transpose_b=True)[:, 0]
        else:
            scores = tf.tensordot(self._hidden(query), self.v, 1)
        weights = softmax(scores, mask)
        context = tf.matmul(tf.cast(weights, self.values.dtype)[:, None], self.values)[:, 0]
        context = tf.cast(context, h.dtype)
        attention = context
        if self.kernel is not None:
            attention = widen(tf.matmul(tf.concat([h, context], 1), self.kernel))
            attention = ACTIVATIONS[activation][0](added(attention, self.bias))
            attention = tf.cast(attention, h.dtype)
        return attention, weights, (query, context)

    def _hidden(self, query):
        """tanh(k + q).  [B, D'] -> [B, S, D']."""
        return tf.tanh(self.keys + widen(query)[:, None])

    def gradient(self, kept, attention, weights, upstream, upstream_weights, activation, units):
        """The gradient of one step; `kept`, `attention`, `weights` are those of `step`.

        upstream [B, A], upstream_weights [B, S], units U -> dh [B, U]; (of the attention before its
        activation, of the query, of the context, of the scores), for all weights after the loop;
        and what is summed in the loop: (dk [B, S, D'], dv [D']), or () without v.
        """
        query, _ = kept
        dtype, outer, dcontext, dh = query.dtype, upstream, upstream, None
        if self.kernel is not None:
            outer = ACTIVATIONS[activation][1](widen(attention), upstream)
            both = widen(tf.matmul(tf.cast(outer, dtype), self.kernel))
            dh, dcontext = split(both, [units, self.values.shape[2]])
        rows = tf.cast(tf.expand_dims(dcontext, 1), self.values.dtype)
        dweights = widen(tf.matmul(rows, self.values, transpose_b=True)[:, 0]) + upstream_weights
        inner = tf.reduce_sum(weights * dweights, 1, keepdims=True)
        dscores = weights * (dweights - inner)
        if self.v is None:
            dquery, sums = tf.matmul(dscores[:, None], self.keys)[:, 0], ()
        else:
            hidden = self._hidden(query)
            dkeys = tf.raw_ops.TanhGrad(y=hidden, dy=dscores[:, :, None] * self.v)
            dquery = tf.reduce_sum(dkeys, 1)
            flat = tf.reshape(hidden, [-1, self.v.shape[0]])
            sums = (dkeys, tf.matmul(tf.reshape(dscores, [1, -1]), flat)[0])
        dquery = tf.cast(dquery, dtype)
        rows = dquery
        if self.query_kernel is not None:
            rows = split(tf.matmul(dquery, self.query_kernel), [units])[0]
        dh = added(dh, rows)
        return dh, (tf.cast(outer, dtype), dquery, dcontext, dscores), sums

    def weight_gradients(self, h, kept, weights, gradients, sums, pack):
        """From all steps, stacked [T, B, ...]: `h`, and what `step` and `gradient` give.

        pack: from nests of [T, B, D] to the rows that count, [1, M, D].
        """
        (query, context), (outer, dquery, dcontext, dscores) = kept, gradients
        dkeys, dv = sums or (_by_row(dscores, query), None)
        dvalues = _by_row(weights, dcontext)
        h, context, outer, dquery = pack((h, context, outer, dquery))
        kernel = None
        if self.kernel is not None:
            kernel = tf.concat([product(h, outer), product(context, outer)], 0)
        return RecurrentAttention(
            dkeys,
            dvalues,
            None if self.query_kernel is None else product(h, dquery),
            dv,
            kernel,
            None if self.bias is None else tf.cast(summed(outer), self.bias.dtype),
        )


def _by_row(weights, rows):
    """sum_t weights_t rows_t for each row and slot.  [T, B, S], [T, B, D] -> [B, S, D]."""
    weights, rows = tf.transpose(weights, [1, 2, 0]), tf.transpose(widen(rows), [1, 0, 2])
    return tf.matmul(weights, rows)
