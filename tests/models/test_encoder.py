import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.layers import RestrictedAttention
from models import TransformerTagger
from models.encoder import examples
from tests.models.test_transformer import ROOT
from tests.sampled import sampled

SIZES = dict(vocab_size=11, labels=3, layers=2, width=8, heads=2, ff_width=12)
TOKENS = np.array([[5, 6, 7, 8], [9, 2, 0, 0], [0, 0, 0, 0]])


def small(**settings):
    model = TransformerTagger(**{**SIZES, **settings})
    model.build()
    return model


def test_rows_are_independent_and_padding_changes_nothing():
    model = small()
    logits = model(TOKENS).numpy()
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(model(np.pad(TOKENS, [[0, 0], [0, 3]]))[:, :4], logits, atol=1e-5)
    np.testing.assert_allclose(model(TOKENS[1:2, :2]), logits[1:2, :2], atol=1e-5)


def test_every_token_knows_of_those_after_it():
    model = small()
    other = np.where(TOKENS == 8, 3, TOKENS)
    assert (model(other)[0, 0].numpy() != model(TOKENS)[0, 0].numpy()).any()


@pytest.mark.parametrize(
    "policy, norm", sampled(["mixed_bfloat16", "mixed_float16"], ["post", "pre"], together=1)
)
def test_narrow_policies_stay_close_in_a_graph_and_under_xla(policy, norm):
    wide, narrow = small(norm=norm), small(norm=norm, dtype=policy)
    narrow.set_weights(wide.get_weights())
    for call in (narrow, tf.function(narrow), tf.function(narrow, jit_compile=True)):
        found = tf.cast(call(tf.constant(TOKENS)), tf.float32)
        np.testing.assert_allclose(found, wide(TOKENS), atol=0.1)


def test_it_is_saved_with_its_attention(tmp_path):
    model = small(self_attention=RestrictedAttention(2, 1), positions="learned", max_length=6)
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(copy(TOKENS), model(TOKENS))


def test_the_examples_have_the_right_labels():
    tokens, labels, weights = examples(50, np.random.default_rng(1))
    for row, marks, real in zip(tokens, labels, weights):
        row = row[real > 0].tolist()
        assert marks[real > 0].tolist() == [int(row.count(symbol) > 1) for symbol in row]
        assert not marks[real == 0].any()


def test_no_labels_are_refused():
    with pytest.raises(ValueError, match="labels=0"):
        small(labels=0)


@pytest.mark.slow
def test_it_learns_to_find_repeated_tokens():
    run = subprocess.run(
        [sys.executable, "-m", "models.encoder"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert float(re.search(r"labels right: ([\d.]+)", run.stdout)[1]) >= 0.97
