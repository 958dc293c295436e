"""What our models choose by themselves, and what they say about it."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.backend import precision
from models import RNNSeq2Seq, Transformer

SIZES = {
    Transformer: dict(vocab_size=11, layers=1, width=8, heads=2, ff_width=8),
    RNNSeq2Seq: dict(vocab_size=11, units=4),
}


def made(kind, **more):
    return kind(**SIZES[kind], **more)


def said(caught):
    return [str(each.message) for each in caught if "bfloat16" in str(each.message)]


@pytest.mark.parametrize("kind", SIZES)
def test_bfloat16_that_a_cpu_emulates_is_warned_of_once(kind, monkeypatch):
    probes = []
    warn = precision.WarnOnce(probe=lambda: probes.append(1) or True)
    monkeypatch.setattr("models._base.warn_of_emulation", warn)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made(kind).build()
        assert not probes and not said(caught)
        for _ in range(2):
            made(kind, dtype="mixed_bfloat16").build()
    (message,) = said(caught)
    assert "The dtype policy mixed_bfloat16" in message and "Use float32 here" in message


def test_where_the_instruction_is_there_nothing_is_said():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn = precision.WarnOnce(probe=lambda: False)
        warn("mixed_bfloat16")
        warn(keras.DTypePolicy("bfloat16"))
        precision.WarnOnce(probe=lambda: True)("mixed_float16")
    assert not said(caught)


@pytest.mark.parametrize(
    "about, lacks",
    [
        ({"flags": " fpu avx2 fma"}, True),
        ({"flags": " fpu avx512f avx512_vnni"}, True),
        ({"flags": " avx512f avx512_bf16"}, False),
        ({"flags": " amx_tile amx_bf16"}, False),
        ({"Features": "fp asimd"}, True),
        ({"Features": "fp asimd i8mm bf16"}, False),
        ({"Hardware": "unknown"}, False),
    ],
)
def test_instructions_are_read_by_their_names(about, lacks):
    assert precision.lacks_bfloat16(about) is lacks


def test_no_precision_is_chosen_but_the_users():
    assert made(Transformer).compute_dtype == "float32"


@pytest.mark.parametrize("asked, expected", [("auto", False), (True, True), (False, False)])
def test_auto_compiles_no_xla_also_where_keras_would(asked, expected, monkeypatch):
    devices = [tf.config.PhysicalDevice(f"/{kind}:0", kind) for kind in ("CPU", "GPU")]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda *kind: devices)
    plain = keras.Sequential([keras.layers.Dense(1)])
    plain.compile("sgd", loss="mse")
    assert plain.jit_compile  # what Keras chooses there
    model = made(Transformer)
    model.compile("sgd", loss="sparse_categorical_crossentropy", jit_compile=asked)
    assert model.jit_compile is expected
    copy = Transformer.from_config(model.get_config())
    copy.compile_from_config(model.get_compile_config())
    assert copy.jit_compile is expected


def test_new_lengths_are_neither_traced_nor_compiled_again():
    model, traced = made(Transformer), []
    call = model.encode
    model.encode = lambda *args, **kwargs: traced.append(1) or call(*args, **kwargs)
    model.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    def generate():
        for length in (3, 5, 4, 7):
            ids = np.full([2, length], 4, "int32")
            yield (ids, ids), ids

    ids = tf.TensorSpec([None, None], tf.int32)
    data = tf.data.Dataset.from_generator(generate, output_signature=((ids, ids), ids))
    model.build()
    model.fit(data, verbose=0)
    once = len(traced)
    model.fit(data, verbose=0)
    assert len(traced) == once <= 2
