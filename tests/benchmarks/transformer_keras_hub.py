"""The Transformer of keras-hub: its layers with their caches, its beam sampler, under XLA.

`stacked` is how its own sequence-to-sequence models decode: the caches of all layers in one tensor,
and that of the encoder's keys and values moves with the beams. The other way is kinder to it: a
tensor for each layer, and nothing moves that is the same in all beams.
"""

import keras
import keras_hub
import tensorflow as tf
from worker import descend, serve


class Model:
    """Encoder and decoder layers around one embedding."""

    def __init__(self, settings, arrays):
        self.width, self.heads = settings["width"], settings["heads"]
        shape = (None, None, self.width)
        sizes = {
            "intermediate_dim": settings["hidden"],
            "num_heads": self.heads,
            "layer_norm_epsilon": settings["epsilon"],
        }
        count = range(settings["layers"])
        self.embedding = keras_hub.layers.ReversibleEmbedding(
            *arrays["embedding"].shape, tie_weights=True
        )
        self.embedding.build((None, None))
        self.embedding.set_weights([arrays["embedding"]])
        self.positions = tf.constant(arrays["positions"])
        self.encoder = [keras_hub.layers.TransformerEncoder(**sizes) for _ in count]
        self.decoder = [keras_hub.layers.TransformerDecoder(**sizes) for _ in count]
        for i in count:
            self.encoder[i].build(shape)
            self.decoder[i].build(shape, shape)
            for layer, role, parts in (
                (self.encoder[i], "encoder", {"self": "self"}),
                (self.decoder[i], "decoder", {"self": "self", "cross": "cross"}),
            ):
                for part in parts:
                    self._load_attention(layer, f"{role}_{i}_{part}", part, arrays)
                self._load_feed_forward(layer, f"{role}_{i}_feed_forward", arrays)

    def _load_attention(self, layer, name, part, arrays):
        heads = (self.width, self.heads, self.width // self.heads)
        attention = getattr(layer, f"_{part}_attention_layer")
        for kind in ("query", "key", "value"):
            dense = getattr(attention, f"_{kind}_dense")
            dense.kernel.assign(arrays[f"{name}_{kind}"].reshape(heads))
            dense.bias.assign(tf.zeros(heads[1:]))
        attention._output_dense.kernel.assign(
            arrays[f"{name}_output"].reshape(*heads[1:], self.width)
        )
        attention._output_dense.bias.assign(tf.zeros([self.width]))
        norm = getattr(layer, f"_{part}_attention_layer_norm")
        norm.set_weights([arrays[f"{name}_gamma"], arrays[f"{name}_beta"]])

    def _load_feed_forward(self, layer, name, arrays):
        for dense, part in (
            (layer._feedforward_intermediate_dense, "in"),
            (layer._feedforward_output_dense, "out"),
        ):
            dense.set_weights([arrays[f"{name}_{part}"], arrays[f"{name}_{part}_bias"]])
        norm = layer._feedforward_layer_norm
        norm.set_weights([arrays[f"{name}_gamma"], arrays[f"{name}_beta"]])

    @property
    def variables(self):
        """All that the others have too: no biases in attention."""
        layers = [self.embedding, *self.encoder, *self.decoder]
        weights = [weight for layer in layers for weight in layer.trainable_weights]
        return [w.value for w in weights if not ("attention" in w.path and w.path.endswith("bias"))]

    def embed(self, ids, start=0):
        steps = tf.shape(ids)[1]
        return self.embedding(ids) * self.width**0.5 + tf.gather(
            self.positions, start + tf.range(steps)
        )

    def encode(self, source, mask=None):
        x = self.embed(source)
        for layer in self.encoder:
            x = layer(x, padding_mask=mask)
        return x

    def decode(self, target_in, encoded, source_mask, target_mask):
        x = self.embed(target_in)
        for layer in self.decoder:
            x = layer(
                x,
                encoded,
                decoder_padding_mask=target_mask,
                encoder_padding_mask=source_mask,
            )
        return self.embedding(x, reverse=True)


def beam(settings, arrays):
    model, width, steps = Model(settings, arrays), settings["beam_width"], settings["steps"]
    source = tf.constant(arrays["source"])
    batch = source.shape[0]
    sampler = keras_hub.samplers.BeamSampler(num_beams=width, return_all_beams=True)

    @tf.function(jit_compile=settings["jit"])
    def search(source):
        encoded, crossed = model.encode(source), []
        for layer in model.decoder:  # what its cache would hold, computed once
            cross = layer._cross_attention_layer
            crossed.append(tf.stack([cross._key_dense(encoded), cross._value_dense(encoded)], 1))
        slots = tf.zeros([batch, 2, steps, model.heads, model.width // model.heads])
        caches = [slots for _ in model.decoder]
        if settings["stacked"]:
            caches = tf.stack(caches, 1), encoded, tf.stack(crossed, 1)
        else:
            fixed = tf.nest.map_structure(lambda x: tf.repeat(x, width, 0), (encoded, crossed))

        def step(prompt, caches, index):
            token = keras.ops.slice(prompt, [0, index - 1], [batch * width, 1])
            x, moved = model.embed(token, index - 1), []
            if settings["stacked"]:
                stack, encoded, crossed = caches
                selves, crossed = tf.unstack(stack, axis=1), tf.unstack(crossed, axis=1)
            else:
                selves, (encoded, crossed) = caches, fixed
            for layer, cache, cross in zip(model.decoder, selves, crossed):
                x, cache, _ = layer(
                    x,
                    encoded,
                    self_attention_cache=cache,
                    self_attention_cache_update_index=index - 1,
                    cross_attention_cache=cross,
                )
                moved.append(cache)
            if settings["stacked"]:
                moved = (tf.stack(moved, 1), *caches[1:])
            return model.embedding(x, reverse=True)[:, 0], x[:, 0], moved

        start = tf.fill([batch, 1], settings["start_id"])
        prompt = tf.concat([start, tf.zeros([batch, steps], tf.int32)], 1)
        found, scores = sampler(step, prompt, cache=caches, index=1)
        return found[..., 1:], scores

    return lambda: search(source)


def train(settings, arrays):
    model = Model(settings, arrays)
    names = ("source", "target_in", "target_out")

    @tf.function(jit_compile=settings["jit"])
    def step(source, target_in, target_out):
        with tf.GradientTape() as tape:
            encoded = model.encode(source, source != 0)
            logits = model.decode(target_in, encoded, source != 0, target_in != 0)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(target_out, logits)
            weights = tf.cast(target_out != 0, losses.dtype)
            loss = tf.reduce_sum(losses * weights) / tf.reduce_sum(weights)
        descend(model.variables, tape.gradient(loss, model.variables), settings["rate"])
        return loss

    data = [tf.constant(arrays[name]) for name in names]
    return lambda: step(*data)


if __name__ == "__main__":
    serve({"beam": beam, "train": train})
