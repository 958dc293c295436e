"""Pointing at the source: as the output itself, or to copy from it what no vocabulary holds."""

from typing import Any

import keras
import tensorflow as tf

from keras_attention.backend.saving import deserialize, serialize
from keras_attention.functional import Memory, additive, copy_mixture, softmax
from keras_attention.functional.dtypes import widen
from keras_attention.functional.masks import zero_masked
from keras_attention.layers._base import Layer
from keras_attention.layers._shapes import check_shapes
from keras_attention.layers.memory_attention import MemoryAttention


@keras.saving.register_keras_serializable("keras_attention")
class PointerHead(MemoryAttention, Layer):
    """An attention whose scores are the answer: a step of the source (Vinyals et al., 2015).

        u_j = v . tanh(W_1 e_j + W_2 d_i)        p(C_i = j) = softmax_j(u_j)

    Nothing is mixed and nothing is forbidden: a hull closes where it began. For a tour that visits
    every slot once, `taken` says which are gone (`functional.taken_before` for known answers). An
    end of variable answers is one slot more in the memory.

    Args:
        units: width of the tanh layer.

    Call: `(query [B, T, D], memory [B, S, D'], memory_mask=None, taken=None)` -> logits [B, T, S],
    float32 or wider under any policy: for `SparseCategoricalCrossentropy(from_logits=True)`, with
    the index as the label.
        memory_mask: [B, S], boolean, True = may be chosen; None: the Keras mask of the memory.
        taken: [B, S] or [B, T, S], boolean, True = may not be chosen again.
    What may not be chosen has half of the lowest number, finite and of probability 0; where
    nothing may be chosen all have. As the attention of an RNN decoder, the context is the memory
    summed by p (the "glimpse" of Bello et al., 2017).

    Raises ValueError for units below 1, or a `taken` of another rank.

    >>> logits = PointerHead(8)(tf.ones([1, 1, 2]), tf.ones([1, 2, 3]), taken=[[True, False]])
    >>> tf.nn.softmax(logits).numpy().tolist()
    [[[0.0, 1.0]]]
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        if units < 1:
            raise ValueError(f"units must be at least 1. Received: units={units}")
        self.units = units
        self.supports_masking = True
        self.keys = keras.layers.Dense(units, use_bias=False, dtype=self.dtype_policy)  # W_1
        self.query = keras.layers.Dense(units, use_bias=False, dtype=self.dtype_policy)  # W_2

    def build(self, query_shape, memory_shape: Any = None) -> None:
        """Two projections and v."""
        check_shapes(query=("B T D", query_shape), memory=("B S D'", memory_shape))
        self.query.build((None, None, query_shape[-1]))
        self.keys.build((None, None, memory_shape[-1]))
        self.v = self.add_weight(shape=(self.units,), name="v")
        self.built = True

    def call(self, query, memory, memory_mask=None, taken=None) -> tf.Tensor:
        """See the class."""
        check_shapes(
            query=("B T D", query),
            memory=("B S D'", memory),
            memory_mask=("B? S", memory_mask),
            taken=_axes(taken),
        )
        memory = zero_masked(memory, memory_mask)
        logits = additive(self.query(query), self.keys(memory), self.v)
        allowed = tf.ones(tf.shape(logits)[:1], tf.bool)[:, None, None]
        if memory_mask is not None:
            allowed &= tf.cast(memory_mask, tf.bool)[:, None]
        if taken is not None:
            allowed &= ~_per_step(tf.cast(taken, tf.bool))
        return tf.where(allowed, logits, logits.dtype.min / 2)

    def project_memory(self, memory, mask=None) -> Memory:
        """W_1 e once per source, what is masked set to 0.  [B, S, D'], [B, S] -> `Memory`."""
        check_shapes(memory=("B S D'", memory), memory_mask=("B? S", mask))
        if mask is None:
            mask = getattr(memory, "_keras_mask", None)
        memory = tf.cast(zero_masked(memory, mask), self.compute_dtype)
        mask = tf.ones(tf.shape(memory)[:2], tf.bool) if mask is None else tf.cast(mask, tf.bool)
        return Memory(self.keys(memory), memory, mask)

    def attend(self, query, memory: Memory, state=(), training=None):
        """One step of K hypotheses.  -> context [B, K, D'], p [B, K, S], state."""
        logits = additive(self.query(query), memory.keys, self.v)
        weights = softmax(logits, memory.mask[:, None])
        return tf.matmul(tf.cast(weights, memory.values.dtype), memory.values), weights, state

    @property
    def memory_width(self) -> int | None:
        """D' that W_1 is built for."""
        return self.keys.kernel.shape[0] if self.keys.built else None

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units}


def _axes(taken):
    if taken is None:
        return "", None
    shape = tf.convert_to_tensor(taken).shape
    if shape.rank not in (2, 3):
        raise ValueError(f"taken must be [B, S] or [B, T, S]. Received: taken of shape {shape}")
    return ("B? S" if shape.rank == 2 else "B? T? S"), shape


def _per_step(taken):
    return taken[:, None] if taken.shape.rank == 2 else taken


@keras.saving.register_keras_serializable("keras_attention")
class CopyHead(Layer):
    """Generate a word of the vocabulary, or copy the one that is looked at.

        p_gen = 1 - sigmoid(W_u x + b_u)
        p(y) = p_gen softmax(output_layer(x))_y + (1 - p_gen) sum of attention where the source is y

    (Paulus et al., 2017, section 2.3; See et al., 2017, eq. 8 and 9.) In the former x is [h_t;
    context; decoder context], and u = 1 means to copy.

    Args:
        output_layer: layer [B, T, D] -> logits [B, T, V].
        copy_slots: how many words beside the vocabulary a source may name: ids V .. V +
            copy_slots - 1, numbered for each source apart.

    Call: `(inputs [B, T, D], attention [B, T, S], source_ids [B, S])` -> probabilities
    [B, T, V + copy_slots] that sum to 1, and p_gen [B, T, 1], which may be supervised too. Both
    float32 or wider under any policy. Padding has no attention, so its id does not matter.

    >>> head = CopyHead(keras.layers.Dense(10), copy_slots=2)
    >>> looks = tf.constant([[[1.0, 0.0, 0.0]]])
    >>> probabilities, p_gen = head(tf.ones([1, 1, 4]), looks, tf.constant([[11, 3, 0]]))
    >>> probabilities.shape, bool(tf.abs(probabilities[0, 0, 11] - (1 - p_gen)) < 1e-6)
    (TensorShape([1, 1, 12]), True)
    """

    def __init__(self, output_layer: Any, copy_slots: int = 0, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(output_layer, keras.layers.Layer):
            raise ValueError(
                "output_layer must be a layer from [B, T, D] to logits [B, T, V], such as "
                f"keras.layers.Dense(V). Received: output_layer={output_layer!r}"
            )
        if copy_slots < 0:
            raise ValueError(f"copy_slots must be at least 0. Received: copy_slots={copy_slots}")
        self.output_layer, self.copy_slots = output_layer, copy_slots
        self.supports_masking = True
        self.switch = keras.layers.Dense(1, dtype=self.dtype_policy)

    def build(self, inputs_shape, attention_shape=None, source_ids_shape=None) -> None:
        """The switch, and the output layer if it is not."""
        check_shapes(
            inputs=("B T D", inputs_shape),
            attention=("B T S", attention_shape),
            source_ids=("B S", source_ids_shape),
        )
        if not self.output_layer.built:
            self.output_layer.build(inputs_shape)
        self.switch.build(inputs_shape)
        self.built = True

    def call(self, inputs, attention, source_ids) -> tuple[tf.Tensor, tf.Tensor]:
        """See the class."""
        check_shapes(
            inputs=("B T D", inputs),
            attention=("B T S", attention),
            source_ids=("B S", source_ids),
        )
        generated = tf.nn.softmax(widen(self.output_layer(inputs)))
        p_gen = tf.sigmoid(-widen(self.switch(inputs)))
        mixture = copy_mixture(generated, attention, source_ids, p_gen, self.copy_slots)
        return mixture, p_gen

    def get_config(self) -> dict:
        saved = serialize(self.output_layer)
        return {**super().get_config(), "output_layer": saved, "copy_slots": self.copy_slots}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "output_layer": deserialize(config["output_layer"])})
