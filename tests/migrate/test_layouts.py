"""Cells of tf.contrib in Keras' layout: the same outputs, step by step."""

import keras
import numpy as np
import pytest

from keras_attention.migrate import Rules, migrate
from keras_attention.migrate.layouts import layout
from tests.migrate.paths import old


@pytest.mark.parametrize(
    "name, cell",
    [
        ("cell_lstm", lambda: keras.layers.LSTMCell(4)),
        ("cell_gru", lambda: keras.layers.GRUCell(4, reset_after=False)),
        ("cell_basic", lambda: keras.layers.SimpleRNNCell(4)),
    ],
)
def test_a_cell_of_tf1_gives_the_same_outputs(name, cell):
    expected = np.load(old(f"{name}.npz"))
    cell = cell()
    cell.build((None, 3))
    migrate(old(name), cell, Rules(forget_bias=0.75))
    begin = list(expected["begin"])
    begin = begin[::-1] if name == "cell_lstm" else begin  # contrib: (c, h); Keras: [h, c]
    outputs = keras.layers.RNN(cell, return_sequences=True)(expected["x"], initial_state=begin)
    np.testing.assert_allclose(outputs, expected["outputs"], rtol=1e-5, atol=1e-6)


def test_a_cudnn_compatible_lstm_has_no_forget_bias_to_add():
    shapes = {"kernel": (3, 8), "recurrent_kernel": (2, 8), "bias": (8,)}
    convert = layout({"kernel": (5, 8), "bias": (8,)}, shapes)
    weights = {"kernel": np.ones([5, 8]), "bias": np.zeros(8)}
    assert convert(weights, 1.0)["bias"].value.tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    assert convert(weights, 0.0)["bias"].value.tolist() == [0] * 8
    assert weights["bias"].tolist() == [0] * 8


CELL = {"kernel": (3, 8), "recurrent_kernel": (2, 8), "bias": (8,)}


@pytest.mark.parametrize(
    "old_shapes, new_shapes",
    [
        ({"kernel": (4, 8), "bias": (8,)}, CELL),
        ({"kernel": (5, 8)}, CELL),
        ({"kernel": (5, 8), "bias": (8,), "w_f_diag": (2,)}, CELL),  # peepholes
        ({"kernel": (3, 8), "recurrent_kernel": (2, 8)}, CELL),
        ({"vars/0": (3, 8), "vars/1": (8,)}, CELL),
        (
            {
                "gates/kernel": (5, 4),
                "gates/bias": (4,),
                "candidate/kernel": (5, 2),
                "candidate/bias": (2,),
            },
            {"kernel": (3, 6), "recurrent_kernel": (2, 6), "bias": (2, 6)},  # reset_after=True
        ),
    ],
)
def test_anything_that_cannot_be_laid_out_is_not(old_shapes, new_shapes):
    assert layout(old_shapes, new_shapes) is None


def test_numbered_weights_come_in_the_order_in_which_tfa_makes_them():
    numbered = {f"vars/{i}": np.full(shape, i) for i, shape in enumerate([(3,), (), (), (3,)])}
    new = {"attention_v": (3,), "attention_g": (), "attention_b": (3,), "attention_score_bias": ()}
    convert = layout({leaf: value.shape for leaf, value in numbered.items()}, new)
    order = {leaf: part.value.max() for leaf, part in convert(numbered, 1.0).items()}
    assert order == {
        "attention_v": 0,
        "attention_score_bias": 1,
        "attention_g": 2,
        "attention_b": 3,
    }


def test_more_than_ten_numbered_weights_keep_their_order():
    numbered = {f"vars/{i}": np.full([2], i) for i in sorted(range(12), key=str)}
    new = {f"w_{i}": (2,) for i in range(12)}
    parts = layout({leaf: (2,) for leaf in numbered}, new)(numbered, 1.0)
    assert [part.value[0] for part in parts.values()] == list(range(12))
