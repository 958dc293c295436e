import re

import keras
import numpy as np
import pytest

from keras_attention.training import token_objective
from models import BERT
from models.bert import masked
from tests import results
from tests.models.hf import assign, fixture
from tests.models.toy import check_exported, check_saved, run_toy

SIZES = dict(vocab_size=11, layers=2, width=8, heads=2, max_length=6)


@pytest.fixture(scope="module")
def given():
    return fixture("bert")


@pytest.fixture(scope="module")
def model(given):
    """A model with the weights of Hugging Face's."""
    model = BERT(**SIZES)
    model.build()
    at = "bert.embeddings"
    model.embedding.set_weights([given[f"{at}.word_embeddings.weight"]])
    model.segments.set_weights([given[f"{at}.token_type_embeddings.weight"]])
    model.positions.set_weights([given[f"{at}.position_embeddings.weight"]])
    assign(model.normalize, given, f"{at}.LayerNorm")
    for number, block in enumerate(model.stack.blocks):
        at, attention = f"bert.encoder.layer.{number}", block.self_attention
        for name in ("query", "key", "value"):
            assign(getattr(attention, name), given, f"{at}.attention.self.{name}", True)
        assign(attention.output_layer, given, f"{at}.attention.output.dense", True)
        assign(block.self_residual.normalize, given, f"{at}.attention.output.LayerNorm")
        assign(block.feed_forward.hidden, given, f"{at}.intermediate.dense", True)
        assign(block.feed_forward.output_layer, given, f"{at}.output.dense", True)
        assign(block.feed_forward_residual.normalize, given, f"{at}.output.LayerNorm")
    at = "cls.predictions.transform"
    assign(model.transform, given, f"{at}.dense", True)
    assign(model.transform_norm, given, f"{at}.LayerNorm")
    model.bias.assign(given["cls.predictions.bias"])
    assign(model.pooler, given, "bert.pooler.dense", True)
    assign(model.next_output, given, "cls.seq_relationship", True)
    return model


def test_it_computes_what_hugging_face_computes(model, given):
    logits, follows = model((given["ids"], given["segments"]))
    real = given["ids"] != 0
    np.testing.assert_allclose(logits.numpy()[real], given["logits"][real], atol=2e-5)
    np.testing.assert_allclose(follows, given["follows"], atol=2e-5)


def test_padding_changes_nothing(model, given):
    logits, follows = model((given["ids"][1:, :3], given["segments"][1:, :3]))
    np.testing.assert_allclose(logits, given["logits"][1:, :3], atol=2e-5)
    np.testing.assert_allclose(follows, given["follows"][1:], atol=2e-5)


def count(layers, width, vocab_size=30522, max_length=512):
    """The weights of an encoder with its pooler, and those of the two outputs."""
    block = 12 * width**2 + 13 * width
    embeddings = (vocab_size + max_length + 2 + 2) * width
    outputs = width**2 + 3 * width + vocab_size + 2 * width + 2
    return embeddings + layers * block + width**2 + width, outputs


def test_it_has_as_many_weights_as_published(model):
    assert model.count_params() == sum(count(2, 8, 11, 6))
    assert count(12, 768)[0] == 109_482_240 and count(24, 1024)[0] == 335_141_888


@pytest.mark.full
def test_a_published_model_is_built():
    model = BERT.of("base")
    model.build()
    assert model.count_params() - count(12, 768)[1] == 109_482_240


def test_it_is_saved_and_loaded(model, given, tmp_path):
    check_saved(model, (given["ids"], given["segments"]), tmp_path)


@pytest.mark.full
def test_it_is_exported(model, given, tmp_path):
    check_exported(model, (given["ids"], given["segments"]), tmp_path)


def test_only_masked_tokens_count():
    model, rng = BERT(**SIZES, next_sentence=False, dropout=0.0), np.random.default_rng(0)
    tokens, targets, weights = masked(rng.integers(4, 11, (8, 6)), rng, 11)
    segments = np.zeros_like(tokens)
    model.compile("sgd", **token_objective(), run_eagerly=True)
    changed = np.where(weights > 0, targets, 10)
    found = [
        model.test_on_batch((tokens, segments), each, weights, return_dict=True)
        for each in (targets, changed)
    ]
    assert found[0]["loss"] == found[1]["loss"]


@pytest.mark.full
def test_both_outputs_are_trained():
    model, rng = BERT(**SIZES), np.random.default_rng(0)
    tokens, targets, weights = masked(rng.integers(4, 11, (8, 6)), rng, 11)
    model.build()
    model.compile("adam", loss=[keras.losses.SparseCategoricalCrossentropy(from_logits=True)] * 2)
    before = [w.numpy() for w in model.trainable_weights]
    every = np.ones(8, np.float32)
    model.fit((tokens, np.zeros_like(tokens)), [targets, every * 0],
              sample_weight=[weights, every], verbose=0)  # fmt: skip
    moved = [np.any(w.numpy() != old) for w, old in zip(model.trainable_weights, before)]
    assert np.mean(moved) > 0.9


def test_tokens_are_masked_as_in_the_paper():
    rng = np.random.default_rng(0)
    texts = [[2, *rng.integers(4, 1000, 50), 3] for _ in range(2000)] + [[5]]
    tokens, targets, weights = masked(texts, rng, 1000)
    assert targets[0].tolist() == texts[0] and targets[-1].tolist() == [5] + [0] * 51
    assert not weights[targets < 4].any() and (tokens == targets)[weights == 0].all()
    chosen = weights > 0
    assert chosen[targets >= 4].mean() == pytest.approx(0.15, abs=0.005)
    assert (tokens[chosen] == 1).mean() == pytest.approx(0.8, abs=0.01)
    assert (tokens[chosen] == targets[chosen]).mean() == pytest.approx(0.1, abs=0.01)
    assert tokens[chosen & (tokens != 1)].min() >= 4


def test_what_cannot_be_is_refused(model):
    with pytest.raises(ValueError, match="preset must be one of.*'huge'"):
        BERT.of("huge")
    with pytest.raises(ValueError, match=r"segments must be \[B, S\]"):
        model((np.ones([1, 4], int), np.ones([1, 3], int)))


def test_the_result_meets_its_bar():
    accuracy = results.figure("bert", "BERT", "accuracy")
    assert accuracy >= results.figure("bert", "most frequent character", "accuracy") + 10


@pytest.mark.slow
def test_it_learns_to_fill_in(tmp_path):
    right = float(re.search(r"symbols right: ([\d.]+)", run_toy("bert", tmp_path))[1])
    assert right >= 0.95
