"""`BaseDecoder`: a decoder that is a Keras layer; calling it runs the loop."""

import inspect
from typing import Any

import keras
import tensorflow as tf

from keras_attention.backend.keras import (
    KerasTensor,
    as_tensors,
    from_containers,
    no_autograph,
    to_containers,
)
from keras_attention.backend.per_thread import HasPerThread
from keras_attention.decoding import histories
from keras_attention.decoding.loop import Decoder, Steps, dynamic_decode
from keras_attention.layers._base import InfersOutputShape
from keras_attention.layers._remat import KeepsActivations
from keras_attention.seq2seq._memory import resolve_memory_mask

__all__ = ["BaseDecoder", "Decoder", "dynamic_decode"]


class BaseDecoder(InfersOutputShape, KeepsActivations, HasPerThread, Steps, keras.layers.Layer):
    """A `Decoder` that is a Keras layer: calling it runs `dynamic_decode`.

    The arguments are those of `dynamic_decode`. `decoder(inputs, initial_state=..., memory=...,
    **kwargs)` passes everything to `initialize`. A functional model supports tensors only, so there
    arrays in the final state, such as `alignment_history` of an `AttentionWrapper`, are stacked.

    `step` needs arguments of `initialize` that its state cannot hold. Decoders here keep them in
    attributes of the thread that called `initialize`, so that threads may share a decoder.
    """

    def __init__(
        self,
        output_time_major: bool = False,
        impute_finished: bool = False,
        maximum_iterations: Any = None,
        parallel_iterations: int = 32,
        swap_memory: bool = False,
        enable_tflite_convertible: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.output_time_major = output_time_major
        self.impute_finished = impute_finished
        self.maximum_iterations = maximum_iterations
        self.parallel_iterations = parallel_iterations
        self.swap_memory = swap_memory
        self.enable_tflite_convertible = enable_tflite_convertible
        self.supports_masking = True  # a mask is accepted, and not forwarded
        # With an accelerator Keras compiles with XLA whatever declares support.
        self.supports_jit = maximum_iterations is not None

    @no_autograph
    def __call__(self, *args, **kwargs):
        first, *names = inspect.signature(self.call).parameters
        arguments = resolve_memory_mask({**dict(zip([first, *names], args)), **kwargs})
        inputs, training = arguments.pop(first, None), arguments.pop("training", None)
        # Stored in the node of a functional model, and so passed again when the model is called.
        stack = arguments.pop("stack_arrays", False) or _any_symbolic(inputs, arguments)
        # Keras needs arguments that consist of tensors: convert lists of lengths, ids and flags.
        state = arguments.pop("initial_state", None)
        given = as_tensors({name: v for name, v in arguments.items() if v is not None})
        if state is not None:
            given["initial_state"] = to_containers(as_tensors(state))
        if stack and "stack_arrays" in names:  # a subclass may define its own `call`
            given["stack_arrays"] = True
        outputs, state, lengths = super().__call__(inputs, training=training, **given)
        return outputs, from_containers(state), lengths

    def build(self, input_shape=None) -> None:
        """No weights: the cell is built at the first step."""
        self.built = True

    def compute_mask(self, inputs, previous_mask=None):
        """Outputs have lengths, and no Keras mask."""
        return None

    def call(self, inputs, initial_state=None, training=None, stack_arrays=False, **kwargs):
        """-> (outputs, final state, sequence lengths): see `dynamic_decode`.

        `stack_arrays`: whether to replace the arrays of the final state by tensors [T, ...].
        """
        if initial_state is not None:
            kwargs["initial_state"] = from_containers(initial_state)
        outputs, state, lengths = dynamic_decode(
            self,
            output_time_major=self.output_time_major,
            impute_finished=self.impute_finished,
            maximum_iterations=self.maximum_iterations,
            parallel_iterations=self.parallel_iterations,
            swap_memory=self.swap_memory,
            training=training,
            enable_tflite_convertible=self.enable_tflite_convertible,
            decoder_init_input=inputs,
            decoder_init_kwargs=kwargs,
        )
        return outputs, histories.stacked(state) if stack_arrays else to_containers(state), lengths

    def initialize(self, inputs, initial_state=None, **kwargs):
        """-> (finished [N] bool, first inputs, initial state)."""
        raise NotImplementedError

    def step(self, time, inputs, state, training=None):
        """-> (outputs, next state, next inputs, finished)."""
        raise NotImplementedError

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "output_time_major": self.output_time_major,
            "impute_finished": self.impute_finished,
            "maximum_iterations": self.maximum_iterations,
            "parallel_iterations": self.parallel_iterations,
            "swap_memory": self.swap_memory,
            "enable_tflite_convertible": self.enable_tflite_convertible,
        }


def _any_symbolic(*nests: Any) -> bool:
    return any(isinstance(leaf, KerasTensor) for leaf in tf.nest.flatten(nests))
