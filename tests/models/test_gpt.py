import re

import numpy as np
import pytest
import tensorflow as tf

from models import GPT
from models.gpt import PRESETS, parameters
from tests import results
from tests.models.decoders import check_export
from tests.models.hf import assign, fixture
from tests.models.toy import check_saved, run_toy

SIZES = dict(vocab_size=11, layers=2, width=8, heads=2, max_length=6)


@pytest.fixture(scope="module", params=[1, 2])
def pair(request):
    """A model with the weights of Hugging Face's, and the fixture that they are from."""
    given = fixture(f"gpt{request.param}")
    model = GPT(version=request.param, **SIZES)
    model.build()
    tokens, positions = (
        ("tokens_embed", "positions_embed") if request.param == 1 else ("wte", "wpe")
    )
    model.embedding.set_weights([given[f"transformer.{tokens}.weight"]])
    model.stack.positions.set_weights([given[f"transformer.{positions}.weight"]])
    for number, block in enumerate(model.stack.blocks):
        at = f"transformer.h.{number}."
        kernels = np.split(given[f"{at}attn.c_attn.weight"], 3, 1)
        biases = np.split(given[f"{at}attn.c_attn.bias"], 3)
        attention = block.self_attention
        for layer, kernel, bias in zip(
            (attention.query, attention.key, attention.value), kernels, biases
        ):
            layer.set_weights([kernel, bias])
        assign(attention.output_layer, given, f"{at}attn.c_proj")
        assign(block.feed_forward.hidden, given, f"{at}mlp.c_fc")
        assign(block.feed_forward.output_layer, given, f"{at}mlp.c_proj")
        assign(block.self_residual.normalize, given, f"{at}ln_1")
        assign(block.feed_forward_residual.normalize, given, f"{at}ln_2")
    if request.param == 2:
        assign(model.stack.normalize, given, "transformer.ln_f")
    return model, given


def test_it_computes_what_hugging_face_computes(pair):
    model, given = pair
    np.testing.assert_allclose(model(given["ids"]), given["logits"], atol=2e-5)


def test_no_gradient_comes_from_later_tokens(pair):
    model, _ = pair
    embedded = tf.random.normal([1, 5, 8])
    for step in range(5):
        with tf.GradientTape() as tape:
            tape.watch(embedded)
            hidden = tf.reduce_sum(model.stack(embedded)[:, step] ** 2)
        found = tape.gradient(hidden, embedded).numpy()
        assert not found[:, step + 1 :].any() and found[:, : step + 1].any(-1).all()


def test_the_repeated_step_scores_as_the_whole(pair):
    model, _ = pair
    found = model.generate([[5, 6], [7, 0]], beam_width=2, max_length=6)
    for k in range(2):
        ids = found.ids[:, k].numpy()
        tokens_in = np.concatenate([np.ones([2, 1], int), ids[:, :-1]], 1)
        said = tf.gather(tf.nn.log_softmax(model(tokens_in)), ids, batch_dims=2)
        real = tf.sequence_mask(found.lengths[:, k], ids.shape[1], tf.float32)
        np.testing.assert_allclose(found.scores[:, k], tf.reduce_sum(said * real, 1), rtol=1e-4)


@pytest.mark.parametrize(
    "preset, published",
    [
        ("gpt1", 116_534_784),
        ("gpt2", 124_439_808),
        ("gpt2-xl", 1_557_611_200),
        ("gpt3", 174_604_259_328),
    ],
)
def test_it_has_as_many_weights_as_published(preset, published):
    assert parameters(**PRESETS[preset]) == published


def test_the_weights_are_counted_right(pair):
    model, _ = pair
    assert model.count_params() == parameters(**SIZES, version=model.get_config()["version"])


@pytest.mark.full
@pytest.mark.parametrize("preset", ["gpt1", "gpt2"])
def test_a_published_model_is_built(preset):
    model = GPT.of(preset)
    model.build()
    assert model.count_params() == parameters(**PRESETS[preset])


def test_it_is_saved_and_loaded(pair, tmp_path):
    check_saved(pair[0], pair[1]["ids"], tmp_path)


@pytest.mark.full
def test_a_clean_process_answers_the_same(pair, tmp_path):
    model = GPT(version=pair[0].get_config()["version"], **{**SIZES, "max_length": 12})
    check_export(model, tmp_path, max_length=12, return_alignments=False)


def test_what_cannot_be_is_refused(pair):
    with pytest.raises(ValueError, match="version must be 1 or 2. Received: version=3"):
        GPT(11, version=3)
    with pytest.raises(ValueError, match="preset must be one of.*'gpt5'"):
        GPT.of("gpt5")
    with pytest.raises(ValueError, match="learned 6 positions.*Received: max_length=7"):
        pair[0].generate([[5, 6]], max_length=7)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Only 6 positions were learned"):
        pair[0](np.ones([1, 7], int))


def test_the_result_meets_its_bar():
    n_gram = results.figure("gpt", "Kneser-Ney 5-gram", "perplexity")
    assert results.figure("gpt", "GPT-2", "perplexity") < n_gram


@pytest.mark.slow
def test_it_learns_to_repeat(tmp_path):
    right, of = map(int, re.search(r"right: (\d+) of (\d+)", run_toy("gpt", tmp_path)).groups())
    assert right >= 0.95 * of
