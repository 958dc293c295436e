"""The attentions of an `AttentionWrapper`: one, or several side by side."""

import contextlib
from typing import Any

import keras
import tensorflow as tf

from keras_attention.backend.keras import build, output_width
from keras_attention.seq2seq._memory import as_memory, check_not_symbolic, is_raw
from keras_attention.seq2seq.bound_attention import bound


class AttentionGroup:
    """One or more attentions with the same query, and their optional attention layers.

    Lists here have one entry per attention. `pack` and `unpack` go from such a list to what users
    see, and back: a tuple with several attentions, the entry itself with a single one.

    Args:
        cell: the cell whose output is the query.
        attentions: an attention or a list of them.
        sizes: widths of the attention layers, one for each attention, or None.
        layers: the attention layers themselves, or None.
    """

    def __init__(self, cell: Any, attentions: Any, sizes: Any = None, layers: Any = None):
        self._cell = cell
        self.is_multi = isinstance(attentions, (list, tuple))
        self.mechanisms = [bound(given) for given in self.unpack(attentions)]
        self.layers = self._attention_layers(sizes, layers)

    def _attention_layers(self, sizes, layers) -> list | None:
        if sizes is not None and layers is not None:
            raise ValueError(
                "Only one of attention_layer_size and attention_layer should be set. Received: "
                f"attention_layer_size={sizes}, attention_layer={layers}"
            )
        argument = "attention_layer_size" if layers is None else "attention_layer"
        given = sizes if layers is None else layers
        if given is None:
            return None
        given = list(given) if isinstance(given, (list, tuple)) else [given]
        if len(given) != len(self.mechanisms):
            raise ValueError(
                f"If provided, {argument} must contain exactly one entry per attention_mechanism. "
                f"Received: {len(given)} entries, {len(self.mechanisms)} mechanisms"
            )
        if layers is not None:
            return given
        return [
            keras.layers.Dense(
                size, use_bias=False, name="attention_layer", dtype=mechanism.dtype_policy
            )
            for size, mechanism in zip(given, self.mechanisms)
        ]

    def pack(self, items: Any) -> Any:
        """One entry per attention -> a tuple, or the only entry."""
        return tuple(items) if self.is_multi else items[0]

    def unpack(self, items: Any) -> list:
        """The inverse of `pack`."""
        return list(items) if self.is_multi else [items]

    @property
    def attentions(self) -> list:
        """The attentions as they were given."""
        return [getattr(mechanism, "attention", mechanism) for mechanism in self.mechanisms]

    # -- memory

    def _parts(self, memory) -> list:
        """What was passed for each attention: one raw memory is for all of them."""
        if memory is None or is_raw(memory):
            return [memory] * len(self.mechanisms)
        return self.unpack(memory)

    def memories(self, memory: Any, lengths: Any = None, mask: Any = None) -> list:
        """The `Memory` of each attention: as passed, projected now, or bound if None is passed."""
        memories = []
        for mechanism, part in zip(self.mechanisms, self._parts(memory)):
            if part is not None and is_raw(part):
                check_not_symbolic(part, lengths, mask)
                part = tf.convert_to_tensor(part)
                if part.shape.rank == 3:  # the mechanism refuses any other
                    self._build_attention(mechanism, part.shape[-1])
            memories.append(mechanism.memory_of_call(part, lengths, mask))
        return memories

    def bound_to(self, memory, lengths=None, mask=None) -> contextlib.AbstractContextManager:
        """Context manager: inside it, calls of this thread without `memory=` use this memory."""
        bindings = contextlib.ExitStack()
        if memory is not None:
            for mechanism, known in zip(self.mechanisms, self.memories(memory, lengths, mask)):
                bindings.enter_context(mechanism.bound_to(known))
        return bindings

    # -- widths

    def memory_widths(self, memory: Any) -> list:
        """D' of each memory, be it raw, projected or (None) bound; None where it is not known."""

        def width(mechanism, part):
            if part is not None and is_raw(part):
                return part.shape[-1]
            if part is not None and mechanism.memory_width is None:
                return as_memory(part).values.shape[-1]  # projected by another layer
            return mechanism.memory_width

        return [width(*pair) for pair in zip(self.mechanisms, self._parts(memory))]

    def context_widths(self, memory_widths: list) -> list:
        """D'' of each context, None where the memory's width is not known."""
        return [
            None if width is None else mechanism.context_width(output_width(self._cell), width)
            for mechanism, width in zip(self.mechanisms, memory_widths)
        ]

    def attention_width(self, memory_widths: list) -> int | None:
        """A, of the attention layers' outputs or of the contexts together; None if not known."""
        widths: list[Any] = self.context_widths(memory_widths)
        if self.layers is not None:
            widths = [
                getattr(layer, "units", None)  # a Dense layer knows, whatever its input
                if width is None
                else layer.compute_output_shape((None, output_width(self._cell) + width))[-1]
                for layer, width in zip(self.layers, widths)
            ]
        return None if None in widths else int(sum(widths))

    # -- weights and steps

    def build(self, memory_widths: list) -> None:
        """Build every attention and its layer."""
        for mechanism, width in zip(self.mechanisms, memory_widths):
            self._build_attention(mechanism, width)
        for layer, width in zip(self.layers or (), self.context_widths(memory_widths)):
            build(layer, (None, output_width(self._cell) + width))

    def _build_attention(self, mechanism, memory_width) -> None:
        query = (None, output_width(self._cell))
        mechanism.build_parts(query, (None, None, memory_width))

    def attend(self, query, memories, states, beam_width, training, attention_fn=None) -> tuple:
        """One step: query [N, D] -> lists of attentions [N, A], alignments [N, S], next states."""
        answers = []
        layers = self.layers or [None] * len(self.mechanisms)
        for mechanism, memory, state, layer in zip(self.mechanisms, memories, states, layers):
            if attention_fn is not None:
                with mechanism.bound_to(memory, beam_width):
                    answers.append(attention_fn(mechanism, query, state, layer))
                continue
            context, *rest = mechanism.attend_rows(query, memory, state, beam_width, training)
            attention = context if layer is None else layer(tf.concat([query, context], 1))
            answers.append((attention, *rest))
        return tuple(zip(*answers))
