import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.layers import MemoryEfficientAttention, RelativeAttention
from keras_attention.seq2seq import Stream, generate
from keras_attention.seq2seq.choosers import sample
from keras_attention.seq2seq.controls import ban, length_between, no_repeat_ngram
from keras_attention.training import token_objective
from models import TransformerLM
from models.language_model import shifted
from tests.models.test_transformer import ROOT

SIZES = dict(vocab_size=11, layers=2, width=8, heads=2, ff_width=12)
PROMPTS = np.array([[5, 6, 7], [9, 0, 0], [0, 0, 0]])


def small(**settings):
    model = TransformerLM(**{**SIZES, **settings})
    model.build()
    return model


def test_what_goes_in_never_reaches_what_came_before():
    model, tokens = small(), np.array([[1, 5, 6, 7]])
    other = np.array([[1, 5, 9, 9]])
    np.testing.assert_array_equal(model(tokens)[:, :2], model(other)[:, :2])
    assert (model(tokens)[:, 2:].numpy() != model(other)[:, 2:].numpy()).any()


@pytest.mark.parametrize("kind", ["eager", "graph", "xla"])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_prompt_is_gone_on_with_and_scored_as_a_whole(policy, kind):
    wide = small()
    model = small(dtype=policy)
    model.set_weights(wide.get_weights())

    def go_on(prompt):
        return model.generate(prompt, beam_width=3, max_length=6)

    calls = {"graph": tf.function(go_on), "xla": tf.function(go_on, jit_compile=True)}
    found = calls.get(kind, go_on)(tf.constant(PROMPTS))
    for k in range(3):
        ids = found.ids[:, k].numpy()
        np.testing.assert_array_equal(np.where(PROMPTS > 0, ids[:, :3], 0), PROMPTS)
        tokens_in = np.concatenate([np.ones([3, 1], int), ids[:, :-1]], 1)
        said = tf.gather(tf.nn.log_softmax(wide(tokens_in)), ids, batch_dims=2)
        real = tf.sequence_mask(found.lengths[:, k], ids.shape[1], tf.float32)
        tolerance = 1e-5 if policy == "float32" else 2e-2
        np.testing.assert_allclose(
            found.scores[:, k], tf.reduce_sum(said * real, 1), rtol=tolerance
        )


def test_controls_and_choosers_join_the_prompt():
    found = small().generate(PROMPTS, max_length=8, controls=ban([3, 4]), chooser=sample(seed=1))
    ids = found.ids[:, 0].numpy()
    assert not np.isin(ids, [3, 4]).any()
    np.testing.assert_array_equal(ids[0, :3], PROMPTS[0])


def test_every_way_to_decode_honours_the_prompt():
    model = small()
    expected = model.generate(PROMPTS, max_length=6)
    found = generate(model, PROMPTS, max_length=6)
    np.testing.assert_array_equal(found.ids, expected.ids)
    streamed = Stream(model, max_length=6)
    for rows in (PROMPTS, PROMPTS[:2]):
        said = np.stack(list(streamed(tf.constant(rows))), 1)
        ids = model.generate(rows, max_length=6).ids[:, 0]
        np.testing.assert_array_equal(said, ids[:, : said.shape[1]])


@pytest.mark.parametrize(
    "control", [ban([5]), no_repeat_ngram(2), length_between(maximum=7)], ids=lambda c: c.name
)
def test_controls_hold_for_what_follows_the_prompt(control):
    prompt = np.array([[5, 6, 5, 6], [7, 5, 0, 0]])
    ids = small().generate(prompt, beam_width=3, max_length=9, controls=control).ids.numpy()
    assert ids.shape[2] > 4
    np.testing.assert_array_equal(np.where(prompt > 0, ids[:, 0, :4], 0), prompt)
    after = [ids[0, :, 4:], ids[1, :, 2:]]
    if control.name.startswith("ban"):
        assert not any(np.isin(part, [5]).any() for part in after)
    elif control.name.startswith("no_repeat"):
        pairs = [list(zip(row[:-1], row[1:])) for row in ids[0].tolist()]
        assert not any((5, 6) in row[3:] or (6, 5) in row[3:] for row in pairs)
    else:
        assert (ids[..., 7:] == 0).all()


@pytest.mark.parametrize(
    "prompt, message",
    [
        ([[5, 6, 7]], "must leave at least 0 tokens. Received: 3 tokens, max_length=2"),
        ([[0, 6]], "on its right alone"),
        ([5, 6], r"must be ids \[B, P\]"),
    ],
)
def test_what_is_no_prompt_is_refused(prompt, message):
    with pytest.raises(ValueError, match=message):
        small().generate(np.array(prompt), max_length=2)


@pytest.mark.parametrize("attention", [MemoryEfficientAttention(2, 2), RelativeAttention(2, 3)])
def test_a_model_of_another_attention_is_saved_and_goes_on(attention, tmp_path):
    model = small(self_attention=attention, positions=None)
    tokens_in, tokens_out, weights = shifted([[5, 6, 7], [8, 9]] * 8)
    model.compile(keras.optimizers.Adam(0.02), **token_objective())
    data = tokens_in, tokens_out
    losses = model.fit(*data, sample_weight=weights, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(copy(tokens_in), model(tokens_in))
    found, expected = (each.generate(PROMPTS, max_length=5) for each in (copy, model))
    np.testing.assert_array_equal(found.ids, expected.ids)


def test_texts_are_shifted_by_one():
    tokens_in, tokens_out, weights = shifted([[5, 6], []])
    assert tokens_in.tolist() == [[1, 5, 6], [1, 0, 0]]
    assert tokens_out.tolist() == [[5, 6, 2], [2, 0, 0]]
    assert weights.tolist() == [[1, 1, 1], [1, 0, 0]]


@pytest.mark.slow
def test_it_learns_progressions():
    run = subprocess.run(
        [sys.executable, "-m", "models.language_model"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    right, of = map(int, re.search(r"exactly right: (\d+) of (\d+)", run.stdout).groups())
    assert right >= 0.99 * of
