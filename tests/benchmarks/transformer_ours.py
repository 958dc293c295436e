"""The tasks of the Transformer's comparisons, written as a user of keras_attention would."""

import tensorflow as tf
from worker import descend, serve

from keras_attention.training import TokenCrossentropy
from models import Transformer


def build(settings, arrays):
    """The model with the weights that all sides load."""
    policy = {"bfloat16": "mixed_bfloat16"}.get(settings["dtype"], settings["dtype"])
    model = Transformer(
        len(arrays["embedding"]),
        layers=settings["layers"],
        width=settings["width"],
        heads=settings["heads"],
        ff_width=settings["hidden"],
        dropout=0.0,
        position_layout="concatenated",
        dtype=policy,
    )
    model.build()
    model.embedding.set_weights([arrays["embedding"]])
    for role, stack in (("encoder", model.encoder), ("decoder", model.decoder)):
        for i, block in enumerate(stack.blocks):
            parts = {"self": (block.self_attention, block.self_residual)}
            if role == "decoder":
                parts["cross"] = (block.cross_attention, block.cross_residual)
            for part, (attention, residual) in parts.items():
                name = f"{role}_{i}_{part}"
                for kind in ("query", "key", "value"):
                    getattr(attention, kind).set_weights([arrays[f"{name}_{kind}"]])
                attention.output_layer.set_weights([arrays[f"{name}_output"]])
                load_norm(residual, name, arrays)
            name = f"{role}_{i}_feed_forward"
            for layer, way in (
                (block.feed_forward.hidden, "in"),
                (block.feed_forward.output_layer, "out"),
            ):
                layer.set_weights([arrays[f"{name}_{way}"], arrays[f"{name}_{way}_bias"]])
            load_norm(block.feed_forward_residual, name, arrays)
    return model


def load_norm(residual, name, arrays):
    """Scale and shift."""
    residual.normalize.set_weights([arrays[f"{name}_gamma"], arrays[f"{name}_beta"]])


def beam(settings, arrays):
    model, source = build(settings, arrays), tf.constant(arrays["source"])

    @tf.function(jit_compile=settings["jit"])
    def search(source):
        found = model.generate(
            source, beam_width=settings["beam_width"], max_length=settings["steps"]
        )
        return found.ids, found.scores

    return lambda: search(source)


def train(settings, arrays):
    model = build(settings, arrays)
    data = [tf.constant(arrays[name]) for name in ("source", "target_in", "target_out")]
    variables = [weight.value for weight in model.trainable_weights]
    loss_of = TokenCrossentropy()

    @tf.function(jit_compile=settings["jit"])
    def step(source, target_in, target_out):
        with tf.GradientTape() as tape:
            logits = model((source, target_in), training=True)
            logits = model((source, target_in), training=True)
            loss = loss_of(target_out, logits, target_out != 0)
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, variables)]
        descend(variables, gradients, settings["rate"])
        return loss

    return lambda: step(*data)


if __name__ == "__main__":
    serve({"beam": beam, "train": train})
