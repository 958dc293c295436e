import functools
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.decoding.processors import (
    ban,
    force,
    length_between,
    max_new_tokens,
    min_new_tokens,
    no_repeat_ngram,
    prefix,
    top_k,
)
from keras_attention.layers import MemoryEfficientAttention, RelativeAttention
from keras_attention.seq2seq import (
    Stream,
    alternatives,
    diverse_beam,
    generate,
    sample,
    stochastic_beam,
)
from keras_attention.training import token_objective
from models import TransformerLM
from models.language_model import shifted
from tests.models.test_transformer import ROOT
from tests.sampled import full, sampled

SIZES = dict(vocab_size=11, layers=2, width=8, heads=2, ff_width=12)
PROMPTS = np.array([[5, 6, 7], [9, 0, 0], [0, 0, 0]])


def small(**settings):
    model = TransformerLM(**{**SIZES, **settings})
    model.build()
    return model


@functools.cache
def shared():
    return small(layers=1)


def test_what_goes_in_never_reaches_earlier_steps():
    model, tokens = small(), np.array([[1, 5, 6, 7]])
    other = np.array([[1, 5, 9, 9]])
    np.testing.assert_array_equal(model(tokens)[:, :2], model(other)[:, :2])
    assert (model(tokens)[:, 2:].numpy() != model(other)[:, 2:].numpy()).any()


@pytest.mark.parametrize(
    "policy, kind", sampled(["mixed_bfloat16", "float32"], ["eager", "graph", "xla"], together=1)
)
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


def test_processors_and_strategies_join_the_prompt():
    found = small().generate(PROMPTS, max_length=8, processors=ban([3, 4]), strategy=sample(seed=1))
    ids = found.ids[:, 0].numpy()
    assert not np.isin(ids, [3, 4]).any()
    np.testing.assert_array_equal(ids[0, :3], PROMPTS[0])


@pytest.mark.full
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
    "processor", [ban([5]), no_repeat_ngram(2), length_between(maximum=7)], ids=lambda c: c.name
)
def test_processors_hold_for_what_follows_the_prompt(processor):
    prompt = np.array([[5, 6, 5, 6], [7, 5, 0, 0]])
    ids = small().generate(prompt, beam_width=3, max_length=9, processors=processor).ids.numpy()
    assert ids.shape[2] > 4
    np.testing.assert_array_equal(np.where(prompt > 0, ids[:, 0, :4], 0), prompt)
    after = [ids[0, :, 4:], ids[1, :, 2:]]
    if processor.name.startswith("ban"):
        assert not any(np.isin(part, [5]).any() for part in after)
    elif processor.name.startswith("no_repeat"):
        pairs = [list(zip(row[:-1], row[1:])) for row in ids[0].tolist()]
        assert not any((5, 6) in row[3:] or (6, 5) in row[3:] for row in pairs)
    else:
        assert (ids[..., 7:] == 0).all()


BAD_PROMPTS = [
    ([[5, 6, 7]], "max_length must be >= the prompt length: it includes the prompt"),
    ([[0, 6]], "padded on the right"),
    ([[5, 11]], "ids below the size of the vocabulary, V = 11"),
    ([[5, -1]], "must not be negative"),
]


@pytest.mark.parametrize(
    "prompt, message",
    [
        *BAD_PROMPTS,
        ([5, 6], r"must be ids \[B, P\].*a batch of one"),
        ([["hello"]], "Received: strings. Encode text first"),
        ([[5.5]], "floats that are whole numbers"),
    ],
)
def test_anything_but_a_prompt_is_refused(prompt, message):
    with pytest.raises(ValueError, match=message):
        shared().generate(np.array(prompt), max_length=2)
    with pytest.raises(ValueError, match=message):
        Stream(shared(), max_length=2)(np.array(prompt))


def test_anything_but_a_prompt_is_refused_when_a_graph_runs():
    model = shared()
    spec = tf.TensorSpec([None, None], tf.int32)
    go_on = tf.function(lambda p: model.generate(p, max_length=2), input_signature=[spec])
    for prompt, message in BAD_PROMPTS:
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            go_on(tf.constant(prompt))
    assert go_on(tf.constant([[5, 6]])).ids[0, 0].numpy().tolist() == [5, 6]


ENDED = np.array([[5, 2, 6], [7, 2, 0], [2, 0, 0], [5, 0, 0]])  # 2 is the end token


@pytest.mark.parametrize(
    "settings, kind",
    [
        *full(({}, "eager"), (dict(beam_width=3, length_penalty=0.6, n_best=2), "xla")),
        (dict(beam_width=3, length_penalty=0.6, n_best=2), "graph"),
        (dict(beam_width=2, strategy=sample(1), processors=top_k(5)), "graph"),
        *full(
            (dict(beam_width=2, strategy=stochastic_beam(1)), "graph"),
            (dict(beam_width=2, strategy=diverse_beam(2, 0.5)), "graph"),
        ),
    ],
)
def test_an_end_token_of_the_prompt_does_not_end_it(settings, kind):
    model = shared()

    def go_on(prompt):
        return model.generate(prompt, max_length=7, **settings)

    calls = {"graph": tf.function(go_on), "xla": tf.function(go_on, jit_compile=True)}
    found = calls.get(kind, go_on)(tf.constant(ENDED))
    ids, lengths = found.ids.numpy(), found.lengths.numpy()
    for b, prompt in enumerate(ENDED):
        real = (prompt > 0).sum()
        for k in range(ids.shape[1]):
            answer = ids[b, k, : lengths[b, k]].tolist()
            assert answer[:real] == prompt[:real].tolist() and len(answer) > real
            new = answer[real:]
            assert (new.index(2) + 1 if 2 in new else 7 - real) == len(new)
            assert bool(found.finished[b, k]) == (2 in new)
            tokens_in = np.array([[1, *answer[:-1]]])
            said = tf.gather(tf.nn.log_softmax(model(tokens_in)), [answer], batch_dims=2)
            if not settings.get("length_penalty") and "processors" not in settings:
                np.testing.assert_allclose(found.scores[b, k], tf.reduce_sum(said), rtol=1e-4)


def test_a_stream_continues_after_an_end_token_of_the_prompt():
    model = shared()
    said = np.stack(list(Stream(model, max_length=6)(ENDED.tolist())), 1)
    ids = model.generate(ENDED, max_length=6).ids[:, 0]
    np.testing.assert_array_equal(said, ids[:, : said.shape[1]])


@pytest.mark.full
def test_prompts_of_unequal_lengths_do_not_depend_on_each_other():
    go_on = tf.function(lambda p: shared().generate(p, beam_width=2, max_length=5))
    together = go_on(tf.constant(ENDED))
    for b, prompt in enumerate(ENDED):
        alone = go_on(tf.constant([prompt[prompt > 0]]))
        np.testing.assert_array_equal(together.ids[b, :, : alone.ids.shape[2]], alone.ids[0])
        np.testing.assert_allclose(together.scores[b], alone.scores[0], rtol=1e-5)


def test_a_prompt_may_be_empty_or_as_long_as_the_answer():
    model = shared()
    empty = model.generate(np.zeros([2, 0], int), max_length=4)
    np.testing.assert_array_equal(empty.ids, model.generate([[0], [0]], max_length=4).ids)
    full = model.generate([[5, 2, 6, 7]], max_length=4)
    assert full.ids[0, 0].numpy().tolist() == [5, 2, 6, 7] and not full.finished[0, 0]


def test_whole_numbers_of_any_type_and_ragged_rows_are_a_prompt():
    model = shared()
    expected = model.generate(PROMPTS, max_length=4).ids
    ragged = tf.ragged.constant([[5, 6, 7], [9], []], dtype=tf.int32)
    for prompt in (PROMPTS.astype("float32"), PROMPTS.astype("uint8"), ragged):
        np.testing.assert_array_equal(model.generate(prompt, max_length=4).ids, expected)


def test_what_is_forced_within_a_prompt_is_refused():
    model, prompts = shared(), tf.constant([[5, 6], [9, 0]])
    for processor in (force({0: 5}), force({1: 7}), prefix([5, 9]), prefix([[5], [7]])):
        with pytest.raises(ValueError, match="of the prompt.*from its first token"):
            model.generate(prompts, max_length=6, processors=processor)
    with pytest.raises(ValueError, match="position 1 is inside the 2-token.*free position is 2"):
        model.generate(prompts[:1], max_length=6, processors=force({1: 7}))
    with pytest.raises(ValueError, match="position 1 .*token 6 there and not 9.*position is 2"):
        model.generate(prompts[:1], max_length=6, processors=prefix([5, 9]))
    go_on = tf.function(lambda p: model.generate(p, max_length=6, processors=force({0: 5})))
    with pytest.raises(tf.errors.InvalidArgumentError, match="from its first token"):
        go_on(prompts)
    found = model.generate([[5, 6], [9, 0]], max_length=6, processors=force({2: 4}))
    assert (found.ids[:, 0, 2].numpy() == 4).all()
    found = model.generate([[5, 2]], max_length=6, processors=prefix([5, 2, 7]))
    assert found.ids[0, 0, :3].numpy().tolist() == [5, 2, 7]


def test_alternatives_continue_from_a_prompt():
    found = alternatives(shared(), [[5, 2]], [[5, 2, 7]], count=3, max_length=6)
    ids = found.ids[0].numpy()
    assert (ids[:, :3] == [5, 2, 7]).all() and len(set(ids[:, 3])) == 3


def ends_at(model, prompt, **settings):
    """How many tokens follow each prompt, the end token counted."""
    found = model.generate(prompt, **settings)
    assert found.finished.numpy().all()
    return (found.lengths[:, 0].numpy() - (np.array(prompt) > 0).sum(1)).tolist()


def test_new_tokens_are_counted_after_the_prompt():
    model = small()

    def always(token):
        model.projection = lambda: lambda hidden: tf.one_hot(token, 11) * 9.0 + 0 * hidden[:, :1]

    always(2)
    prompt = [[5, 6, 2], [7, 0, 0]]
    assert ends_at(model, prompt, max_length=9) == [1, 1]
    assert ends_at(model, prompt, max_length=9, processors=min_new_tokens(2)) == [3, 3]
    assert ends_at(model, prompt, max_length=9, processors=min_new_tokens([0, 3])) == [1, 4]
    assert ends_at(model, prompt, max_length=9, processors=length_between(4)) == [1, 3]
    always(5)
    assert ends_at(model, prompt, max_length=9, processors=max_new_tokens(2)) == [2, 2]


@pytest.mark.parametrize(
    "processors, message",
    [
        ([length_between(maximum=3)], "room for an end token after the prompt"),
        ([min_new_tokens(3), max_new_tokens(3)], "more tokens than other processors allow"),
        ([min_new_tokens(3), length_between(maximum=6)], "more tokens than other processors allow"),
    ],
)
def test_lengths_that_a_prompt_contradicts_are_refused(processors, message):
    with pytest.raises(ValueError, match=message):
        shared().generate([[5, 6, 7]], max_length=9, processors=processors)


@pytest.mark.parametrize("attention", [MemoryEfficientAttention(2, 2), RelativeAttention(2, 3)])
@pytest.mark.full
def test_a_model_of_another_attention_is_saved_and_continues(attention, tmp_path):
    model = small(self_attention=attention, positions=None)
    tokens_in, tokens_out, weights = shifted([[5, 6, 7], [8, 9]] * 8)
    model.compile(keras.optimizers.Adam(0.02), **token_objective())
    data = tokens_in, tokens_out
    losses = model.fit(*data, sample_weight=weights, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(copy(tokens_in), model(tokens_in))
    found, expected = (each.generate(PROMPTS, beam_width=3, max_length=5) for each in (copy, model))
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
