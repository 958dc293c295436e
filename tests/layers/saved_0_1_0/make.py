"""How release 0.1.0 made the files beside this one: `python -m tests.layers.saved_0_1_0.make`.

Later releases load them: see `tests/layers/test_saved_cores.py`. They are not made again.
"""

import pathlib
import zipfile

import keras
import numpy as np
import tensorflow as tf

from keras_attention import layers
from models import Transformer, TransformerLM

FOLDER = pathlib.Path(__file__).parent


def one_input(layer, **arguments):
    x = keras.Input((None, 4))
    return keras.Model(x, layer(x, **arguments))


def with_memory(layer):
    x, memory = keras.Input((None, 4)), keras.Input((None, 4))
    return keras.Model([x, memory], layer(x, memory=memory))


def stack(attention, causal):
    return one_input(layers.TransformerStack(1, 2, 6, causal=causal, self_attention=attention))


def linear_cell():
    attention = layers.LinearAttention(2, key_width=2)
    return keras.layers.RNN(layers.LinearAttentionCell(attention), return_sequences=True)


MODELS = {  # and the names of their inputs
    "multi_head": (
        lambda: with_memory(layers.MultiHeadAttention(4, 3, 2, num_key_heads=2, output_width=5)),
        ("x", "memory"),
    ),
    "relative": (lambda: one_input(layers.RelativeAttention(2, 2), causal=True), "x"),
    "relative_per_head": (
        lambda: one_input(layers.RelativeAttention(2, 3, False, value_width=3)),
        "x",
    ),
    "distance": (lambda: one_input(layers.DistanceAttention(2, 0.5, None)), "x"),
    "distance_block": (lambda: one_input(layers.DistanceBlock(2, 3, forward=False)), "x"),
    "restricted": (lambda: one_input(layers.RestrictedAttention(2, 2, dropout=0.1)), "x"),
    "strided": (lambda: one_input(layers.StridedAttention(2, 3, hop=2)), "x"),
    "fixed": (lambda: one_input(layers.FixedAttention(2, 3, 2)), "x"),
    "linear": (lambda: one_input(layers.LinearAttention(2, use_bias=False), causal=True), "x"),
    "linear_cell": (lambda: one_input(linear_cell()), "x"),
    "memory_efficient": (
        lambda: with_memory(layers.MemoryEfficientAttention(2, 3)),
        ("x", "memory"),
    ),
    "stack_relative": (lambda: stack(layers.RelativeAttention(2, 2), causal=True), "x"),
    "stack_fixed": (lambda: stack(layers.FixedAttention(2, 2), causal=False), "x"),
    "stack_distance": (lambda: stack(layers.DistanceAttention(2), causal=True), "x"),
    "language_model": (
        lambda: TransformerLM(9, 1, 4, 2, 6, self_attention=layers.StridedAttention(2, 2)),
        "target_in",
    ),
    "transformer": (lambda: Transformer(9, 1, 4, 2, 6), ("source", "target_in")),
}


def inputs_of(name, arrays):
    names = MODELS[name][1]
    return arrays[names] if isinstance(names, str) else [arrays[each] for each in names]


def checkpoint_of(layer):
    return tf.train.Checkpoint(layer=layer)


def main():
    rng = np.random.default_rng(7)
    arrays = {
        "x": rng.normal(size=(2, 7, 4)).astype("float32"),
        "memory": rng.normal(size=(2, 5, 4)).astype("float32"),
        "source": np.array([[5, 6, 7, 2], [4, 8, 2, 0]]),
        "target_in": np.array([[1, 5, 6], [1, 8, 0]]),
    }
    for name, (make, _) in MODELS.items():
        model = make()
        inputs = inputs_of(name, arrays)
        model(inputs)
        for weight in model.trainable_weights:
            weight.assign(rng.normal(size=weight.shape))
        arrays[f"output of {name}"] = np.asarray(model(inputs))
        file = FOLDER / f"{name}.keras"
        model.save(file)
        compress(file)
    layer = layers.RelativeAttention(2, 2)
    layer.build((None, None, 4))
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    arrays["output of the checkpoint"] = np.asarray(layer(arrays["x"]))
    checkpoint_of(layer).write(str(FOLDER / "relative_checkpoint"))
    np.savez_compressed(FOLDER / "expected.npz", **arrays)


def compress(file):
    with zipfile.ZipFile(file) as old:
        contents = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
        for name, content in contents.items():
            new.writestr(name, content)


if __name__ == "__main__":
    main()
