"""From the last states of an encoder to the initial states of a decoder."""

from typing import Any

import keras
import tensorflow as tf

from keras_attention.backend.saving import track
from keras_attention.layers._base import Layer

KINDS = ("dense", "pass", "zero")


@keras.saving.register_keras_serializable("keras_attention")
class Bridge(Layer):
    """Convert the last states of an encoder to the initial states of a decoder.

    dense: s_0 = tanh(W [h_forward; h_backward] + b), one W for each of the decoder's states
    (Bahdanau et al., 2015, A.2.2, which uses the backward one only); pass: the states unchanged;
    zero: zeros.

    Call: `bridge(states, begin)`: `states` is a list of last states [N, D] for each encoder layer,
    for a bidirectional layer first the forward and then the backward ones; `begin` is the result of
    `cell.get_initial_state(batch_size=N)`. -> the same nest as `begin`.

    Raises ValueError for an unknown kind, and for states that do not fit, naming both.

    >>> cell = keras.layers.LSTMCell(4)
    >>> forward_and_backward = [[tf.ones([2, 3])] * 4]
    >>> h, c = Bridge("dense")(forward_and_backward, cell.get_initial_state(batch_size=2))
    >>> h.shape, c.shape
    (TensorShape([2, 4]), TensorShape([2, 4]))
    """

    def __init__(self, kind: str = "dense", **kwargs):
        super().__init__(**kwargs)
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}. Received: kind={kind!r}")
        self.kind = kind
        self._projections: list = []

    @tf.autograph.experimental.do_not_convert
    def __call__(self, states, begin, **kwargs):
        if not self.built:  # Keras 2 would pass only the first of the two shapes to `build`
            shapes = tf.nest.map_structure(lambda x: tuple(x.shape), (states, begin))
            with tf.init_scope():
                self.build(*shapes)
        return super().__call__(states, begin, **kwargs)

    def build(self, states_shape, begin_shape=None) -> None:
        """One projection for each of the decoder's states."""
        if self.kind == "dense":
            widths = [shape[-1] for shape in _shapes(begin_shape)]
            joined = [
                sum(shape[-1] for shape in part) for part in _by_slot(states_shape, len(widths))
            ]
            for width, depth in zip(widths, joined):
                projection = keras.layers.Dense(width, "tanh", dtype=self.dtype_policy)
                projection.build((None, depth))
                self._projections.append(projection)
            track(self, "_projections", self._projections)
        self.built = True

    def call(self, states, begin) -> Any:
        """See the class."""
        wanted = tf.nest.flatten(begin)
        if self.kind == "zero":
            return begin
        parts = [tf.concat(slot, -1) for slot in _by_slot(states, len(wanted))]
        if self.kind == "dense":
            parts = [projection(part) for projection, part in zip(self._projections, parts)]
        _check(parts, wanted)
        return tf.nest.pack_sequence_as(begin, parts)

    def get_config(self) -> dict:
        return {**super().get_config(), "kind": self.kind}


def _shapes(nest) -> list:
    """The shapes in a nest whose leaves are shapes: tuples of int and None."""
    if isinstance(nest, (list, tuple)) and all(d is None or isinstance(d, int) for d in nest):
        return [tuple(nest)]
    return [shape for part in nest for shape in _shapes(part)]


def _by_slot(states, slots: int) -> list:
    """The encoder states of each decoder state: h (and c) of each layer, of both directions."""
    flat = [part for layer in states for part in _directions(layer, slots // max(len(states), 1))]
    if len(flat) != slots:
        raise ValueError(
            f"The encoder's states do not fit the decoder's: expected states for {slots} of them. "
            f"Received: {len(states)} layers with {[len(layer) for layer in states]} states. Use "
            "the same kind and number of layers in encoder and decoder, or Bridge('zero')."
        )
    return flat


def _directions(layer, per_layer: int) -> list:
    """[forward h, (c), backward h, (c)] -> [(h, h), (c, c)]; one-way: [(h,), (c,)]."""
    if not per_layer or len(layer) % per_layer:
        return [(state,) for state in layer]
    ways = [layer[begin : begin + per_layer] for begin in range(0, len(layer), per_layer)]
    return list(zip(*ways))


def _check(parts, wanted) -> None:
    for part, place in zip(parts, wanted):
        if part.shape[-1] != place.shape[-1]:
            raise ValueError(
                f"The encoder's state of shape {part.shape} does not fit the decoder's of shape "
                f"{place.shape}. Use Bridge('dense'), or the same width (a bidirectional encoder "
                "has twice the width of its cells)."
            )
