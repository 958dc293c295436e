"""The Transformer of OpenNMT-tf: its encoder, its decoder and its beam search."""

import opennmt
import tensorflow as tf
from worker import descend, serve


class Positions(opennmt.layers.PositionEncoder):
    """The sinusoids that all sides load."""

    table = None

    def _encode(self, positions, depth):
        return tf.gather(self.table, tf.convert_to_tensor(positions) - 1)  # counted from one


class Model:
    """Encoder and decoder around one embedding."""

    def __init__(self, settings, arrays):
        Positions.table = tf.constant(arrays["positions"])
        sizes = {
            "num_layers": settings["layers"],
            "num_units": settings["width"],
            "num_heads": settings["heads"],
            "ffn_inner_dim": settings["hidden"],
            "dropout": 0.0,
            "attention_dropout": 0.0,
            "ffn_dropout": 0.0,
            "mha_bias": False,
            "position_encoder_class": Positions,
            "pre_norm": False,
        }
        self.embedding = tf.Variable(arrays["embedding"])
        self.encoder = opennmt.encoders.SelfAttentionEncoder(**sizes)
        self.decoder = opennmt.decoders.SelfAttentionDecoder(**sizes, output_layer_bias=False)
        self.decoder.initialize(vocab_size=len(arrays["embedding"]))
        self.decoder.reuse_embeddings(self.embedding)
        ids = tf.ones([1, 1], tf.int32)
        self.logits(ids, ids)  # makes the weights
        for role, layers in (("encoder", self.encoder.layers), ("decoder", self.decoder.layers)):
            for i, layer in enumerate(layers):
                parts = {"self": layer.self_attention}
                if role == "decoder":
                    parts["cross"] = layer.attention[0]
                for part, wrapper in parts.items():
                    self._load(wrapper, f"{role}_{i}_{part}", settings, arrays)
                self._load(layer.ffn, f"{role}_{i}_feed_forward", settings, arrays)

    def _load(self, wrapper, name, settings, arrays):
        layer = wrapper.layer
        if name.endswith("feed_forward"):
            for dense, way in ((layer.inner, "in"), (layer.outer, "out")):
                dense.set_weights([arrays[f"{name}_{way}"], arrays[f"{name}_{way}_bias"]])
        else:
            for dense, kind in (
                (layer.linear_queries, "query"),
                (layer.linear_keys, "key"),
                (layer.linear_values, "value"),
                (layer.linear_output, "output"),
            ):
                dense.set_weights([arrays[f"{name}_{kind}"]])
        wrapper.output_layer_norm.set_weights([arrays[f"{name}_gamma"], arrays[f"{name}_beta"]])
        wrapper.output_layer_norm.epsilon = settings["epsilon"]

    @property
    def variables(self):
        weights = [*self.encoder.trainable_variables, *self.decoder.trainable_variables]
        return [self.embedding, *(w for w in weights if w is not self.embedding)]

    def encode(self, source):
        lengths = tf.math.count_nonzero(source, 1, dtype=tf.int32)
        encoded, _, _ = self.encoder(tf.nn.embedding_lookup(self.embedding, source), lengths)
        return encoded, lengths

    def logits(self, source, target_in, training=None):
        encoded, lengths = self.encode(source)
        state = self.decoder.initial_state(memory=encoded, memory_sequence_length=lengths)
        logits, _, _ = self.decoder(
            tf.nn.embedding_lookup(self.embedding, target_in),
            tf.math.count_nonzero(target_in, 1, dtype=tf.int32),
            state=state,
            training=training,
        )
        return logits


def beam(settings, arrays):
    model, width = Model(settings, arrays), settings["beam_width"]
    data = tf.constant(arrays["source"])

    @tf.function  # with autograph: its own source needs it
    def search(source):
        encoded, lengths = model.encode(source)
        state = model.decoder.initial_state(
            memory=tf.repeat(encoded, width, 0), memory_sequence_length=tf.repeat(lengths, width)
        )
        found = model.decoder.dynamic_decode(
            model.embedding,
            tf.fill([source.shape[0]], settings["start_id"]),
            end_id=settings["end_id"],
            initial_state=state,
            decoding_strategy=opennmt.utils.BeamSearch(width),
            maximum_iterations=settings["steps"],
        )
        return found.ids, found.log_probs

    return lambda: search(data)


def train(settings, arrays):
    model = Model(settings, arrays)
    data = [tf.constant(arrays[name]) for name in ("source", "target_in", "target_out")]

    @tf.function
    def step(source, target_in, target_out):
        with tf.GradientTape() as tape:
            logits = model.logits(source, target_in, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(target_out, logits)
            weights = tf.cast(target_out != 0, losses.dtype)
            loss = tf.reduce_sum(losses * weights) / tf.reduce_sum(weights)
        gradients = tape.gradient(loss, model.variables)
        gradients[0] = tf.convert_to_tensor(gradients[0])  # of the output as well, so dense
        descend(model.variables, gradients, settings["rate"])
        return loss

    return lambda: step(*data)


if __name__ == "__main__":
    serve({"beam": beam, "train": train})
