"""Encode a glimpse of an image and its location (Mnih et al., 2014)."""

import keras
import tensorflow as tf

from keras_attention.functional.glimpse import glimpse
from keras_attention.layers._base import Layer
from keras_attention.layers._shapes import check_shapes


@keras.saving.register_keras_serializable("keras_attention")
class GlimpseNetwork(Layer):
    """A glimpse and its location in one vector: relu(W_s relu(W rho(x, l)) + W_l relu(W' l)).

    (Mnih et al., 2014, section 4.)  rho is the glimpse sensor, `functional.glimpse`.

    Args:
        size, scales: of the sensor: G, and the number of patches.
        units: width of the output.
        hidden: width of the two hidden layers.

    Call: `(image [B, Y, X, C], location [B, 2])`, (y, x) in [-1, 1] -> [B, units]. There is no
    gradient to the location through rho, but there is through W': use `tf.stop_gradient` if the
    location was sampled.

    Raises ValueError for sizes below 1.

    >>> GlimpseNetwork(size=8, scales=3)(tf.zeros([2, 60, 60, 1]), tf.zeros([2, 2])).shape
    TensorShape([2, 256])
    """

    def __init__(self, size: int, scales: int = 1, units: int = 256, hidden: int = 128, **kwargs):
        kwargs.setdefault("autocast", False)  # locations in an image of 224 pixels need float32
        super().__init__(**kwargs)
        if min(size, scales, units, hidden) < 1:
            raise ValueError(
                "size, scales, units and hidden must be at least 1. Received: "
                f"size={size}, scales={scales}, units={units}, hidden={hidden}"
            )
        self.size, self.scales, self.units, self.hidden = size, scales, units, hidden

        def dense(width, name, activation=None):
            return keras.layers.Dense(width, activation, dtype=self.dtype_policy, name=name)

        self.see, self.place = dense(hidden, "see", "relu"), dense(hidden, "place", "relu")
        self.what, self.where = dense(units, "what"), dense(units, "where")

    def build(self, image_shape, location_shape=None) -> None:
        """Four dense layers."""
        self._channels = image_shape[-1]
        self.see.build((None, self.scales * self.size**2 * self._channels))
        self.place.build((None, 2))
        self.what.build((None, self.hidden))
        self.where.build((None, self.hidden))
        self.built = True

    def call(self, image, location):
        """See the class."""
        check_shapes(image=("B Y X C", image), location=("B 2", location))
        image = tf.cast(image, self.compute_dtype)
        patches = glimpse(image, location, self.size, self.scales)
        flat = tf.reshape(patches, [-1, self.scales * self.size**2 * self._channels])
        where = self.where(self.place(tf.cast(location, self.compute_dtype)))
        return tf.nn.relu(self.what(self.see(flat)) + where)

    def get_build_config(self):
        return {"channels": self._channels} if self.built else {}

    def build_from_config(self, config):
        if config:
            self.build((None, None, None, config["channels"]))

    def get_config(self):
        names = "size scales units hidden".split()
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
