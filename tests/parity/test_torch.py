"""Attention and the Transformer give what torch gives with the same weights.

What torch 2.13 gave is stored beside this file. Where torch can be imported, or `TORCH_PYTHON`
names a Python that has it, it is asked anew, with other weights.
"""

import collections
import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.backend.keras import KERAS_3
from keras_attention.layers import MultiHeadAttention, TransformerStack

HERE = pathlib.Path(__file__).parent
pytestmark = pytest.mark.skipif(not KERAS_3, reason="torch is compared with on the current stack")


def living_torch():
    here = sys.executable if importlib.util.find_spec("torch") else None
    return os.environ.get("TORCH_PYTHON") or here


@pytest.fixture(scope="module", params=["stored", "living"])
def cases(request, tmp_path_factory):
    """case -> {name: what torch had or gave}."""
    folder = HERE
    if request.param == "living":
        python = living_torch()
        if not python:
            pytest.skip("no torch here, and TORCH_PYTHON names no Python that has it")
        folder = tmp_path_factory.mktemp("torch")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [python, HERE / "torch_outputs.py", folder, "7"]
        subprocess.run(command, check=True, capture_output=True, env=environment)
    found = collections.defaultdict(dict)
    with np.load(folder / "torch_outputs.npz") as file:
        for key in file.files:
            case, name = key.split("|")
            found[case][name] = file[key]
    return found


# -- torch's weights in our layers


def set_dense(layer, kernel, bias=None):
    layer.set_weights([kernel.T] if bias is None else [kernel.T, bias])


def set_attention(layer, weights, prefix=""):
    """torch keeps one matrix of all three where the widths are the same."""
    packed = weights.get(f"{prefix}in_proj_weight")
    names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
    kernels = [weights[prefix + x] for x in names] if packed is None else np.split(packed, 3)
    bias = weights.get(f"{prefix}in_proj_bias")
    biases = [None] * 3 if bias is None else np.split(bias, 3)
    for dense, kernel, own in zip((layer.query, layer.key, layer.value), kernels, biases):
        set_dense(dense, kernel, own)
    output = f"{prefix}out_proj."
    set_dense(layer.output_layer, weights[f"{output}weight"], weights.get(f"{output}bias"))


def set_norm(layer, weights, prefix):
    layer.set_weights([weights[f"{prefix}.weight"], weights[f"{prefix}.bias"]])


def set_stack(stack, weights, prefix):
    for number, block in enumerate(stack.blocks):
        own = f"{prefix}.layers.{number}."
        set_attention(block.self_attention, weights, f"{own}self_attn.")
        residuals = [block.self_residual]
        if block.cross_attention is not None:
            set_attention(block.cross_attention, weights, f"{own}multihead_attn.")
            residuals.append(block.cross_residual)
        residuals.append(block.feed_forward_residual)
        for place, residual in enumerate(residuals, 1):
            set_norm(residual.normalize, weights, f"{own}norm{place}")
        for name, dense in (
            ("linear1", block.feed_forward.hidden),
            ("linear2", block.feed_forward.output_layer),
        ):
            set_dense(dense, weights[f"{own}{name}.weight"], weights[f"{own}{name}.bias"])
    if stack.normalize is not None:
        set_norm(stack.normalize, weights, f"{prefix}.norm")


def weights_of(case):
    return {name[7:]: value for name, value in case.items() if name.startswith("weight:")}


# -- the same numbers


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("width", [None, 6], ids=["one_width", "memory_width"])
def test_attention_is_that_of_torch(cases, bias, width):
    case = cases[f"attention_{bias}_{width}"]
    query, memory, mask = (case[name] for name in ("query", "memory", "mask"))
    layer = MultiHeadAttention(2, use_bias=bias)
    layer.build(query.shape, memory.shape)
    set_attention(layer, weights_of(case))
    output, weights = layer(query, memory, mask=mask, return_weights=True)
    np.testing.assert_allclose(output, case["output"], atol=1e-5)
    np.testing.assert_allclose(weights, case["weights"], atol=1e-6)
    seen = query if width is None else memory[:, : query.shape[1]]
    np.testing.assert_allclose(layer(query, seen, causal=True), case["causal"], atol=1e-5)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_the_transformer_is_that_of_torch(cases, norm):
    case = cases[norm]
    sizes = dict(layers=2, heads=2, ff_width=12, dropout=0.0, norm=norm, attention_bias=True)
    encoder = TransformerStack(**sizes, positions=None)
    decoder = TransformerStack(**sizes, positions=None, causal=True, cross=True)
    for name, stack in (("encoder", encoder), ("decoder", decoder)):
        stack.build(case["source"].shape)
        set_stack(stack, weights_of(case), name)
    mask = tf.constant(case["source_mask"])
    encoded = encoder(case["source"], mask=mask)
    np.testing.assert_allclose(encoded, case["encoded"], atol=1e-4)
    output = decoder(case["target"], encoded, mask=case["target_mask"], memory_mask=mask)
    np.testing.assert_allclose(output, case["output"], atol=1e-4)
