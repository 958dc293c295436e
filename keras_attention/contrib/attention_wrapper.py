"""tf.contrib.seq2seq's mechanisms, bound to their memory, and the wrapper that uses them."""

import collections
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_attention import seq2seq
from keras_attention.backend.keras import no_autograph, open_for_layers
from keras_attention.backend.states import describe
from keras_attention.functional import Memory
from keras_attention.seq2seq import AttentionMechanism
from keras_attention.seq2seq.bound_attention import Binding


class _Contrib(AttentionMechanism):
    """The interface of contrib's mechanisms: a call with two arguments, and two functions.

    A subclass may define `__call__(query, state) -> (alignments, next_state)`. It can use contrib's
    `_keys` and `_values` (both can be set), `_num_units` and `_probability_fn`.
    """

    def _set_contrib(self, score_mask_value=None, custom_key_value_fn=None):
        self._never, self._key_value_fn = score_mask_value, custom_key_value_fn

    def __setattr__(self, name, value):
        """Subclasses create layers after `super().__init__`, which has built the others."""
        if isinstance(value, keras.layers.Layer):
            with open_for_layers(self):
                super().__setattr__(name, value)
        else:
            super().__setattr__(name, value)

    @property
    def _num_units(self) -> int:
        return self.units

    @property
    def _keys(self) -> tf.Tensor:
        return self.keys

    @_keys.setter
    def _keys(self, keys: tf.Tensor) -> None:
        self._bound = Binding(self.bound_memory._replace(keys=keys), 1)

    @property
    def _values(self) -> tf.Tensor:
        return self.values

    @_values.setter
    def _values(self, values: tf.Tensor) -> None:
        self._bound = Binding(self.bound_memory._replace(values=values), 1)

    def _probability_fn(self, score: tf.Tensor, previous_alignments: tf.Tensor) -> tf.Tensor:
        """The alignments [N, S] for scores [N, S] of the bound memory, which masks them."""
        mask = self.bound_memory.mask[:, None]
        return self._normalize(score[:, None], mask, previous_alignments)[0][:, 0]

    @no_autograph
    def __call__(self, query, state=None, **kwargs):
        """`mechanism(query, state)` as in contrib, or `mechanism([query, state])` as in ours."""
        inputs = query if isinstance(query, (list, tuple)) or kwargs else [query, state]
        return super().__call__(inputs, **kwargs)

    def attend_rows(self, query, memory, state, beam_width, training=None):
        """A subclass may have its own `__call__(query, state)`, which sees the bound memory."""
        with self.bound_to(memory, beam_width):
            alignments, state = self(query, state)
            return self.read(alignments), alignments, state

    def project_memory(self, memory, mask=None):
        projected = super().project_memory(memory, mask)
        if self._key_value_fn is None:
            return projected
        keys, values = self._key_value_fn(projected.keys, projected.values)
        return Memory(keys, values, projected.mask)

    def _normalize(self, scores, mask, state):
        if self._never is not None:
            scores = tf.where(mask, scores, tf.cast(self._never, scores.dtype))
            mask = tf.ones_like(mask)
        return super()._normalize(scores, mask, state)


def _normalizer(probability_fn):
    """contrib's function of scores [N, S], where -inf is masked, as one of ours."""
    if probability_fn is None:
        return "softmax"

    def normalize(scores, mask):
        """[N, 1, S], [N, 1, S] bool -> [N, 1, S]."""
        scores = tf.where(mask, scores, tf.constant(-float("inf"), scores.dtype))
        return probability_fn(scores[:, 0])[:, None]

    return normalize


class LuongAttention(_Contrib, seq2seq.LuongAttention):
    """score = g * q·(W m) over one memory [B, S, D]; `g` only with `scale`.

    Args:
        num_units: width of the query, to which the memory is projected.
        memory: [B, S, D]; for beam search apply `tile_batch`. None: see `setup_memory`.
        memory_sequence_length: [B], lengths > 0.
        scale: learn the factor g.
        probability_fn: scores [B, S] -> weights [B, S], default `tf.nn.softmax`.
        score_mask_value: the score of slots beyond the length, default -inf.
        dtype, name: of the layer.
        custom_key_value_fn: `(keys, values) -> (keys, values)` after the projection.

    Calling `mechanism(query [B, num_units], state)` returns `(alignments [B, S], next_state)`. A
    mechanism owns its projection: for another memory, call `setup_memory(memory, lengths)` on the
    same object, or create it within `make_template`.
    Source: Luong, Pham, Manning, 2015, eq. 8 (their "general").

    >>> mechanism = LuongAttention(4, tf.ones([2, 3, 5]), [3, 1])
    >>> alignments, _ = mechanism(tf.ones([2, 4]), None)
    >>> [[round(float(weight), 2) for weight in row] for row in alignments]
    [[0.33, 0.33, 0.33], [1.0, 0.0, 0.0]]
    """

    def __init__(
        self,
        num_units: int,
        memory: Any,
        memory_sequence_length: Any = None,
        scale: bool = False,
        probability_fn: Callable | None = None,
        score_mask_value: float | None = None,
        dtype: Any = None,
        custom_key_value_fn: Callable | None = None,
        name: str = "LuongAttention",
    ):
        self._set_contrib(score_mask_value, custom_key_value_fn)
        super().__init__(
            num_units,
            memory,
            memory_sequence_length,
            scale,
            _normalizer(probability_fn),
            dtype=dtype,
            name=name,
        )


class BahdanauAttention(_Contrib, seq2seq.BahdanauAttention):
    """score = v·tanh(W_q q + W_m m), or g v/|v| · tanh(W_q q + W_m m + b) with `normalize`.

    The other arguments are those of `LuongAttention`; `num_units` is the width of the sum.
    Source: Bahdanau, Cho, Bengio, 2015, A.1.2; normalised form: Salimans & Kingma, 2016.

    >>> mechanism = BahdanauAttention(4, tf.ones([2, 3, 5]), normalize=True)
    >>> mechanism(tf.ones([2, 7]), None)[0].shape
    TensorShape([2, 3])
    """

    def __init__(
        self,
        num_units: int,
        memory: Any,
        memory_sequence_length: Any = None,
        normalize: bool = False,
        probability_fn: Callable | None = None,
        score_mask_value: float | None = None,
        dtype: Any = None,
        custom_key_value_fn: Callable | None = None,
        name: str = "BahdanauAttention",
    ):
        self._set_contrib(score_mask_value, custom_key_value_fn)
        super().__init__(
            num_units,
            memory,
            memory_sequence_length,
            normalize,
            _normalizer(probability_fn),
            dtype=dtype,
            name=name,
        )


class LuongMonotonicAttention(_Contrib, seq2seq.LuongMonotonicAttention):
    """A pointer that stops with p = sigmoid(Luong's score + r + noise) and never goes back.

    `sigmoid_noise`, `sigmoid_noise_seed`, `score_bias_init` and `mode` are those of
    `keras_attention.seq2seq.BahdanauMonotonicAttention`, the others those of `LuongAttention`.
    Source: Raffel et al., 2017.
    """

    def __init__(
        self,
        num_units: int,
        memory: Any,
        memory_sequence_length: Any = None,
        scale: bool = False,
        score_mask_value: float | None = None,
        sigmoid_noise: Any = 0.0,
        sigmoid_noise_seed: int | None = None,
        score_bias_init: float = 0.0,
        mode: str = "parallel",
        dtype: Any = None,
        name: str = "LuongMonotonicAttention",
    ):
        self._set_contrib(score_mask_value)
        super().__init__(
            num_units,
            memory,
            memory_sequence_length,
            scale=scale,
            sigmoid_noise=sigmoid_noise,
            sigmoid_noise_seed=sigmoid_noise_seed,
            score_bias_init=score_bias_init,
            mode=mode,
            dtype=dtype,
            name=name,
        )


class BahdanauMonotonicAttention(_Contrib, seq2seq.BahdanauMonotonicAttention):
    """A pointer that stops with p = sigmoid(Bahdanau's score + r + noise) and never goes back.

    The arguments are those of `LuongMonotonicAttention` and `BahdanauAttention`.
    """

    def __init__(
        self,
        num_units: int,
        memory: Any,
        memory_sequence_length: Any = None,
        normalize: bool = False,
        score_mask_value: float | None = None,
        sigmoid_noise: Any = 0.0,
        sigmoid_noise_seed: int | None = None,
        score_bias_init: float = 0.0,
        mode: str = "parallel",
        dtype: Any = None,
        name: str = "BahdanauMonotonicAttention",
    ):
        self._set_contrib(score_mask_value)
        super().__init__(
            num_units,
            memory,
            memory_sequence_length,
            normalize=normalize,
            sigmoid_noise=sigmoid_noise,
            sigmoid_noise_seed=sigmoid_noise_seed,
            score_bias_init=score_bias_init,
            mode=mode,
            dtype=dtype,
            name=name,
        )


class AttentionWrapperState(
    collections.namedtuple(
        "AttentionWrapperState",
        ("cell_state", "attention", "time", "alignments", "alignment_history", "attention_state"),
    )
):
    """`keras_attention.seq2seq.AttentionWrapperState` and contrib's `time`: the number of steps."""

    __slots__ = ()

    def clone(self, **replacements) -> "AttentionWrapperState":
        """A copy with some fields replaced by values of the same structure, shape and type.

        Raises ValueError if containers differ (Keras' `[h, c]` is not an `LSTMStateTuple(c, h)`),
        and if shapes differ, like that of `keras_attention.seq2seq`.
        """
        # It needs the fields and `_replace` of a state, which this one has, too.
        clone: Any = seq2seq.AttentionWrapperState.clone
        return clone(self, **replacements)


class AttentionWrapper(seq2seq.AttentionWrapper):
    """A cell with attention to a memory; see `keras_attention.seq2seq.AttentionWrapper`.

    `wrapper(inputs [N, D], state) -> (output [N, A], state)`, `zero_state(batch_size, dtype)`. The
    memory is that of the mechanism's constructor. For beam search the memory, the batch size of
    `zero_state` and the state are those of all hypotheses: use `tile_batch`.

    >>> from keras_attention.contrib import rnn
    >>> memory = tf.ones([2, 3, 5])
    >>> wrapper = AttentionWrapper(rnn.LSTMCell(4), LuongAttention(4, memory), 6)
    >>> output, state = wrapper(tf.ones([2, 7]), wrapper.zero_state(2, tf.float32))
    >>> output.shape, int(state.time), state.cell_state.c.shape
    (TensorShape([2, 6]), 1, TensorShape([2, 4]))
    """

    def __init__(
        self,
        cell: Any,
        attention_mechanism: Any,
        attention_layer_size: Any = None,
        alignment_history: bool = False,
        cell_input_fn: Callable | None = None,
        output_attention: bool = True,
        initial_cell_state: Any = None,
        name: str | None = None,
        attention_layer: Any = None,
        attention_fn: Callable | None = None,
        dtype: Any = None,
    ):
        super().__init__(
            cell,
            attention_mechanism,
            attention_layer_size,
            alignment_history,
            cell_input_fn,
            output_attention,
            initial_cell_state,
            name,
            attention_layer,
            attention_fn,
            dtype=dtype,
        )

    @property
    def state_size(self) -> AttentionWrapperState:
        return _with_time(super().state_size, tf.TensorShape([]))

    @no_autograph
    def zero_state(self, batch_size: Any, dtype: Any) -> AttentionWrapperState:
        """The state before the first step.

        Raises InvalidArgumentError if the memory has another batch size.
        """
        same = [
            tf.debugging.assert_equal(
                batch_size,
                mechanism.batch_size,
                message="The memory (encoder output) must have the batch size of zero_state. With "
                "a BeamSearchDecoder, tile the memory and its lengths by tile_batch(memory, "
                "beam_width), and pass batch_size * beam_width to zero_state.",
            )
            for mechanism in self._mechanisms
        ]
        with tf.control_dependencies([check for check in same if check is not None]):
            state = super().get_initial_state(batch_size=batch_size, dtype=dtype)
            return _with_time(state, tf.zeros([], tf.int32))

    def get_initial_state(self, inputs=None, batch_size=None, dtype=None):
        """`zero_state`, under Keras' name."""
        if inputs is not None:
            batch_size, dtype = tf.shape(inputs)[0], inputs.dtype
        return self.zero_state(batch_size, dtype or self.compute_dtype)

    @staticmethod
    def _fields_of(state) -> AttentionWrapperState:
        fields = AttentionWrapperState._fields
        if not isinstance(state, (list, tuple)) or len(state) != len(fields):
            raise TypeError(
                "Expected state to be an AttentionWrapperState, such as zero_state(). Received: "
                f"{type(state).__name__}, {describe(state)}"
            )
        return AttentionWrapperState(*state)

    def checked_state(
        self, state: Any, rows: Any = None, beam_width: Any = None
    ) -> seq2seq.AttentionWrapperState:
        """A state that belongs to this wrapper, without its time; see `keras_attention.seq2seq`."""
        if len(state) == len(seq2seq.AttentionWrapperState._fields):
            return super().checked_state(state, rows, beam_width)
        fields = self._fields_of(state)._asdict()
        fields.pop("time")
        return super().checked_state(seq2seq.AttentionWrapperState(**fields), rows, beam_width)

    @no_autograph
    def __call__(self, inputs, state, scope=None, **kwargs):
        """One step. `scope` is accepted as in contrib, and not used: layers own their weights."""
        fields = self._fields_of(state)._asdict()
        time = fields.pop("time")
        output, state = super().__call__(inputs, seq2seq.AttentionWrapperState(**fields), **kwargs)
        return output, _with_time(state, time + 1)


def _with_time(state, time) -> AttentionWrapperState:
    return AttentionWrapperState(time=time, **state._asdict())
