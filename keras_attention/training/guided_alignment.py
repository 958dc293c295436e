"""Guided alignment: train attention towards known alignments (Chen et al., 2016).

The source step of each target step, from a word aligner or from the task itself, is a second target
beside the tokens:

    model = Transformer(vocab_size, ..., alignment_head=0)      # or RNNSeq2Seq(vocab_size, ...)
    guided = WithAlignments(model)
    guided.compile(
        "adam",
        loss={"logits": TokenCrossentropy(), "alignments": GuidedAlignment()},
        loss_weights={"logits": 1.0, "alignments": 0.5},
    )
    guided.fit((source, target_in), {"logits": target_out, "alignments": reference},
               sample_weight={"logits": weights, "alignments": weights})
    model.generate(source)

Both train the same weights; `model` is the one to save.
"""

import copy
from typing import Any

import keras
import tensorflow as tf

from keras_attention.functional.dtypes import widen
from keras_attention.functional.shapes import check_same_sizes, check_shapes
from keras_attention.training.token_means import token_mean, token_weights

# The minimum of the log's argument: an alignment with a weight of 0 gets a finite loss.
_LEAST = 1e-30


def guided_alignment(reference: Any, alignments: Any) -> tf.Tensor:
    """-sum_s A_ts log a_ts of each target step (Chen et al., 2016, eq. 8), A_t scaled to sum to 1.

    reference A [..., T, S], not negative; alignments a [..., T, S], weights over S -> [..., T],
    float32 or wider; 0 where no alignment is given (A_t is all zeros).

    >>> guided_alignment([[[0.0, 2.0], [0.0, 0.0]]], [[[0.75, 0.25], [0.5, 0.5]]]).numpy().round(4)
    array([[1.3863, 0.    ]], dtype=float32)
    """
    alignments = widen(tf.convert_to_tensor(alignments))
    reference = tf.cast(reference, alignments.dtype)
    wanted = tf.math.divide_no_nan(reference, tf.reduce_sum(reference, -1, keepdims=True))
    surprise = -tf.math.log(tf.maximum(alignments, tf.cast(_LEAST, alignments.dtype)))
    return tf.reduce_sum(wanted * surprise, -1)


@keras.saving.register_keras_serializable("keras_attention")
class GuidedAlignment(keras.losses.Loss):
    """The mean of `guided_alignment` over the target steps with a known alignment.

    Call: `(reference [B, T, S], alignments [B, T, S], sample_weight=None)` -> scalar. Steps are not
    counted if their row of the reference is all zeros, if `sample_weight` ([B, T], or [B, 1] for
    one number per sentence) is 0, or if the Keras mask of the alignments hides them; without any
    step the loss is 0. Over the replicas of `tf.distribute` it is the mean over all their steps.
    Raises ValueError for shapes that do not fit.

    >>> reference = [[[0.0, 1.0], [0.0, 0.0]]]
    >>> round(float(GuidedAlignment()(reference, [[[0.75, 0.25], [0.5, 0.5]]])), 4)
    1.3863
    """

    def __init__(self, name="guided_alignment", **kwargs):
        kwargs.setdefault("reduction", "mean_with_sample_weight")
        super().__init__(name=name, **kwargs)

    def __call__(self, y_true, y_pred, sample_weight=None):
        """See the class. Keras' own `__call__` would cast to floatx."""
        mask = getattr(y_pred, "_keras_mask", None)
        with tf.name_scope(self.name):
            reference, alignments = tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred)
            check_shapes(reference=("B T S", reference), alignments=("B T S", alignments))
            words = "The reference must be [B, T, S], like the alignments."
            with tf.control_dependencies(check_same_sizes(reference, alignments, 3, words)):
                given = tf.reduce_any(reference > 0, -1)  # [B, T]
            weights, shown = token_weights(given, sample_weight, mask)
            weights = tf.where(given, weights, tf.zeros_like(weights))
            # Steps that are not counted get a fixed alignment, because they may hold NaN.
            counted = tf.not_equal(weights, 0)[..., None]
            alignments = tf.where(counted, alignments, tf.ones_like(alignments))
            reference = tf.where(counted, reference, tf.zeros_like(reference))
            losses = guided_alignment(reference, alignments)
            return token_mean(losses, weights, shown, self.reduction)

    def call(self, y_true, y_pred):
        """[B, T]."""
        return guided_alignment(y_true, y_pred)


@keras.saving.register_keras_serializable("keras_attention")
class WithAlignments(keras.Model):
    """A model that also returns its alignments, so that `fit` can train them.

    Call: `guided((source, target_in))` -> {"logits": [B, T, V], "alignments": [B, T, S]}.

    Args: `model`, which has `encode(source, training=) -> (memory, state)` and `decode(target_in,
    memory, state, training=, return_alignments=True) -> (logits, alignments)`: an `RNNSeq2Seq`
    with attention, or a `Transformer` with its alignment_layer and alignment_head. Its weights are
    trained; it is the model to save and to search with.
    """

    def __init__(self, model: keras.Model, **kwargs):
        super().__init__(**kwargs)
        self.model = model

    def build(self, input_shape=None) -> None:
        """The model's weights."""
        if not self.model.built:
            self.model.build(input_shape)
        self.built = True

    def call(self, inputs, training=None):
        """See the class."""
        source, target_in = inputs
        memory, state = self.model.encode(source, training=training)
        logits, alignments = self.model.decode(
            target_in, memory, state, training=training, return_alignments=True
        )
        return {"logits": logits, "alignments": alignments}

    def get_config(self):
        model = keras.saving.serialize_keras_object(self.model)
        return {**super().get_config(), "model": model}

    @classmethod
    def from_config(cls, config):
        # A copy: what Keras makes things of loses entries.
        model = keras.saving.deserialize_keras_object(copy.deepcopy(config["model"]))
        return cls(**{**config, "model": model})
