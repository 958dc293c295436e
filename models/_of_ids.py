"""What Keras asks of a model of ids: the shape of its output, and how it is exported."""

from typing import Any

import keras


class OfIds(keras.Model):
    """From ids [B, S], or from several of them, to logits: [B, T, L] for the last ids [B, T].

    A subclass says how many `inputs_count` are, and its `logits_width` L.
    """

    inputs_count = 1
    logits_width: int

    def compute_output_shape(self, input_shape) -> tuple:
        """The shape of the ids, or shapes of all ids -> [B, T, L]; None is an unknown size."""
        last = input_shape if self.inputs_count == 1 else input_shape[-1]
        if len(last) != 2:
            raise ValueError(f"Ids must be [B, T]. Received: shape {tuple(last)}")
        return (*last, self.logits_width)

    def compute_output_spec(self, *args, **kwargs) -> Any:
        """Trace `call`: from `compute_output_shape` Keras would take shapes, but no dtypes."""
        return super(keras.layers.Layer, self).compute_output_spec(*args, **kwargs)

    def export(
        self, filepath, format="tf_saved_model", verbose=None, input_signature=None, **kwargs
    ) -> Any:
        """`keras.Model.export`; its default is one signature of int32 ids of any B and T.

        See `keras_attention.export` for a signature that generates.
        """
        self.build()
        if input_signature is None:
            ids = keras.InputSpec(shape=(None, None), dtype="int32")
            input_signature = [ids if self.inputs_count == 1 else (ids,) * self.inputs_count]
        return super().export(filepath, format, verbose, input_signature, **kwargs)
