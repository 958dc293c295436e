import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.data import batches
from keras_attention.training import token_objective
from models import Transformer
from tests.sampled import sampled

ROOT = pathlib.Path(__file__).parents[2]
SOURCES = np.array([[5, 6, 7, 8, 2], [9, 2, 0, 0, 0], [4, 4, 10, 2, 0]])
TARGETS = np.array([[1, 4, 5, 6], [1, 7, 0, 0], [1, 8, 9, 0]])
SIZES = dict(vocab_size=11, layers=2, width=8, heads=2, ff_width=12)


def small(**settings):
    model = Transformer(**{**SIZES, **settings})
    model.build()
    return model


def steps(model, memory, targets):
    """[B, T] ids -> logits [B, T, V], one step after another."""
    state = model.cell.get_initial_state(len(targets), targets.shape[1], memory=memory)
    logits = []
    for t in range(targets.shape[1]):
        output, state = model.cell(model.embed(targets[:, t]), state, memory=memory)
        logits.append(model.project(output))
    return np.stack(logits, 1)


# -- the size of the paper's models


def shapes_of(vocab_size, **changes):
    """The weights of a model that is never given any numbers, however large it is."""
    with keras.StatelessScope(initialize_variables=False):
        model = Transformer.of("base", vocab_size, **changes)
        model.build()
        found = sum(int(np.prod(weight.shape)) for weight in model.trainable_variables)
    keras.utils.clear_session()  # or the next scope would give them numbers
    return found


BIG = dict(width=1024, heads=16, ff_width=4096)
ROWS = {  # of table 3: changes to the base model, parameters with V = 37,000, millions published
    "base": ({}, 63_045_632, 65),
    "big": (BIG, 214_171_648, 213),
    "N2": (dict(layers=2), 33.64, 36),
    "N4": (dict(layers=4), 48.35, 50),
    "N8": (dict(layers=8), 77.75, 80),
    "d256": (dict(width=256, key_width=32), 26.82, 28),
    "d1024": (dict(width=1024, key_width=128), 163.8, 168),
    "ff1024": (dict(ff_width=1024), 50.45, 53),
    "ff4096": (dict(ff_width=4096), 88.24, 90),
    "dk16": (dict(key_width=16, value_width=64), 55.97, 58),
    "dk32": (dict(key_width=32, value_width=64), 58.33, 60),
}


@pytest.mark.parametrize(
    "row", ["base", "big", *(pytest.param(r, marks=pytest.mark.full) for r in [*ROWS][2:])]
)
def test_every_row_of_table_3_has_its_parameters(row):
    """What the paper prints is a vocabulary of 41,100 but for the big model, which has 37,000."""
    changes, expected, published = ROWS[row]
    found = shapes_of(37_000, **changes)
    if isinstance(expected, int):
        assert found == expected
    else:
        places = len(str(expected).split(".")[1])
        assert round(found / 1e6, places) == expected
    if row == "big":
        assert abs(found / 1e6 / published - 1) < 0.01
        return
    assert abs(found / 1e6 / published - 1) < 0.07
    assert round((found + (41_100 - 37_000) * changes.get("width", 512)) / 1e6) == published


@pytest.mark.full
@pytest.mark.parametrize(
    "one, other, published",
    [
        ("base", "N4", 15), ("N8", "base", 15), ("ff4096", "base", 25), ("base", "ff1024", 12),
        ("base", "dk16", 7), ("base", "dk32", 5),
    ],
)  # fmt: skip
def test_what_rows_differ_by_has_no_vocabulary_in_it(one, other, published):
    found = shapes_of(1000, **ROWS[one][0]) - shapes_of(1000, **ROWS[other][0])
    assert abs(found / 1e6 - published) <= 1


@pytest.mark.parametrize("heads", [1, 32])
def test_the_number_of_heads_is_no_parameter(heads):
    assert shapes_of(1000, heads=heads) == shapes_of(1000)


def test_a_model_that_was_only_counted_is_the_model_there_is():
    changes = dict(layers=2, width=64, ff_width=96, heads=4)
    real = Transformer.of("base", 100, **changes)
    real.build()
    assert real.count_params() == shapes_of(100, **changes)
    biased = Transformer.of("base", 100, **changes, attention_bias=True)
    biased.build()
    assert biased.count_params() - real.count_params() == 2 * (4 + 8) * 64


# -- decode is the repeated step


@pytest.mark.parametrize(
    "settings",
    [
        dict(),
        dict(norm="pre", positions="learned", max_length=9),
        dict(positions=None, key_width=3, attention_bias=True),
        dict(norm="pre", position_layout="concatenated"),
    ],
    ids=["paper", "pre_learned", "no_positions", "pre"],
)
def test_decoding_is_repeating_the_step(settings):
    model = small(**settings)
    memory, _ = model.encode(SOURCES)
    logits = model((SOURCES, TARGETS))
    np.testing.assert_allclose(logits, steps(model, memory, TARGETS), atol=1e-5)


def test_decoding_shows_the_alignments_that_a_search_shows():
    model = small(alignment_layer=0, alignment_head=1)
    found = model.generate(SOURCES, max_length=4, return_alignments=True)
    ids, length = found.ids[:, 0], int(found.lengths[0, 0])
    target_in = np.concatenate([np.ones([3, 1], int), ids[:, :-1]], 1)
    memory, _ = model.encode(SOURCES)
    _, alignments = model.decode(target_in, memory, return_alignments=True)
    np.testing.assert_allclose(found.alignments[0, 0, :length], alignments[0, :length], atol=1e-5)


@pytest.mark.parametrize(
    "kind, policy",
    sampled(["graph", "eager", "xla"], ["mixed_float16", "float32", "mixed_bfloat16"], together=0),
)
def test_scores_of_a_search_are_those_of_teacher_forcing(policy, kind):
    wide = small()
    model = small(dtype=policy)
    model.set_weights(wide.get_weights())

    def search(source):
        return model.generate(source, beam_width=3, max_length=5)

    calls = {"graph": tf.function(search), "xla": tf.function(search, jit_compile=True)}
    found = calls.get(kind, search)(tf.constant(SOURCES))
    assert np.isfinite(found.scores).all()
    for k in range(3):
        ids = found.ids[:, k]
        target_in = np.concatenate([np.ones([3, 1], int), ids[:, :-1]], 1)
        log_probs = tf.nn.log_softmax(wide((SOURCES, target_in)))
        said = tf.gather(log_probs, ids, batch_dims=2)
        real = tf.sequence_mask(found.lengths[:, k], ids.shape[1], tf.float32)
        tolerance = 1e-5 if policy == "float32" else 2e-2
        expected = tf.reduce_sum(said * real, 1)
        np.testing.assert_allclose(found.scores[:, k], expected, rtol=tolerance)


# -- rows, padding, the future


def test_rows_are_independent_and_padding_changes_nothing():
    model = small()
    logits = model((SOURCES, TARGETS)).numpy()
    wider = np.pad(SOURCES, [[0, 0], [0, 3]])
    np.testing.assert_allclose(model((wider, TARGETS)), logits, atol=1e-5)
    alone = model((SOURCES[1:2, :2], TARGETS[1:2]))
    np.testing.assert_allclose(alone[0], logits[1], atol=1e-5)


def test_the_future_of_the_target_never_reaches_its_past():
    model, other = small(), TARGETS.copy()
    other[:, 2:] = 3
    one, changed = model((SOURCES, TARGETS)), model((SOURCES, other))
    np.testing.assert_array_equal(one[:, :2], changed[:, :2])
    assert (one[:, 2:].numpy() != changed[:, 2:].numpy()).any()


def test_a_source_of_padding_alone_has_answers():
    model = small()
    found = model.generate(np.zeros([2, 3], "int32"), beam_width=2, max_length=4)
    assert np.isfinite(found.scores).all()
    np.testing.assert_array_equal(found.ids[0], found.ids[1])


def test_one_function_serves_any_batch_and_length():
    model = small()
    signature = [tf.TensorSpec([None, None], tf.int32)]
    search = tf.function(lambda s: model.generate(s, max_length=4), input_signature=signature)
    for source in (SOURCES, SOURCES[:1, :3]):
        found, expected = search(source), model.generate(source, max_length=4)
        np.testing.assert_array_equal(found.ids, expected.ids)


def test_a_model_that_is_new_answers_at_once():
    model = Transformer(**SIZES)
    assert model.generate(SOURCES, max_length=3).scores.shape == (3, 1)
    graph = Transformer(**SIZES)
    assert tf.function(lambda s: graph.generate(s, max_length=3).scores)(SOURCES).shape == (3, 1)


# -- training and saving


def test_every_weight_learns():
    model = small(norm="pre", positions="learned", max_length=9, attention_bias=True)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model((SOURCES, TARGETS), training=True)[..., :5] ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    for weight, gradient in zip(model.trainable_variables, gradients):
        gradient = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(gradient).all()
        # One bias for all keys adds the same to all scores, which softmax does not see.
        assert gradient.any() or weight.path.endswith("key/bias"), weight.path


LOADER = """
import sys
import keras, numpy as np
import models.transformer
folder = sys.argv[1]
inputs = np.load(f"{folder}/inputs.npz")
model = keras.saving.load_model(f"{folder}/model.keras")
logits = model((inputs["source"], inputs["target"]))
answers = model.generate(inputs["source"], beam_width=3, max_length=5)
np.savez(f"{folder}/found.npz", logits=logits, ids=answers.ids, scores=answers.scores)
"""


@pytest.mark.full
def test_what_was_learnt_is_saved_for_a_new_process_and_in_every_other_way(tmp_path):
    settings = dict(norm="pre", positions="learned", max_length=9, key_width=3)
    model = small(**settings)
    model.compile(keras.optimizers.Adam(0.01), **token_objective(label_smoothing=0.1))
    rows = [np.random.randint(4, 11, 4) for _ in range(32)]
    history = model.fit(batches(rows, rows, 8, seed=0).repeat(6), verbose=0).history
    again = model.fit(batches(rows, rows, 8, seed=0), verbose=0).history
    assert np.isfinite(again["loss"]).all() and again["loss"][0] < 0.95 * history["loss"][0]
    logits = model((SOURCES, TARGETS))
    answers = model.generate(SOURCES, beam_width=3, max_length=5)
    np.savez(tmp_path / "inputs.npz", source=SOURCES, target=TARGETS)
    model.save(tmp_path / "model.keras")
    command = [sys.executable, "-c", LOADER, str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = np.load(tmp_path / "found.npz")
    np.testing.assert_array_equal(found["logits"], logits)
    np.testing.assert_array_equal(found["ids"], answers.ids)
    np.testing.assert_array_equal(found["scores"], answers.scores)
    model.save_weights(tmp_path / "model.weights.h5")
    copy = small(**settings)
    copy.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(copy((SOURCES, TARGETS)), logits)
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "checkpoint"))
    copy = small(**settings)
    tf.train.Checkpoint(model=copy).read(path).assert_existing_objects_matched()
    np.testing.assert_array_equal(copy((SOURCES, TARGETS)), logits)


def test_dropout_acts_in_training_alone():
    model = small(dropout=0.5)
    quiet = model((SOURCES, TARGETS)).numpy()
    np.testing.assert_array_equal(model((SOURCES, TARGETS), training=False), quiet)
    one, other = (model((SOURCES, TARGETS), training=True).numpy() for _ in range(2))
    assert (one != quiet).any() and (one != other).any()


def test_a_preset_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="'tiny'"):
        Transformer.of("tiny", 10)
    with pytest.raises(ValueError, match="norm='middle'"):
        Transformer(**SIZES, norm="middle")


@pytest.mark.slow
def test_it_learns_to_copy():
    command = [sys.executable, "-m", "models.transformer"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    right, of = map(int, re.search(r"exactly right: (\d+) of (\d+)", run.stdout).groups())
    assert right >= 0.99 * of


def test_a_search_is_no_longer_than_the_learned_positions():
    model = small(positions="learned", max_length=4)
    source = np.array([[5, 6, 2, 0]])
    assert model.generate(source, max_length=4).ids.shape[2] <= 4
    for limit in (5, tf.constant(64)):
        with pytest.raises(ValueError, match="learned 4 positions .* Received: max_length="):
            model.generate(source, max_length=limit)


def test_a_sinusoid_has_a_position_for_every_step():
    model = small(positions="sinusoid", max_length=4)
    assert model.generate(np.array([[5, 6, 2, 0]]), max_length=9).ids.shape[2] > 0


@pytest.mark.parametrize("start", [1, 0])
def test_training_computes_on_real_tokens_what_it_computes_with_padding(start):
    packed, padded = small(dropout=0.0), small(dropout=0.0, packed=False)
    padded.set_weights(packed.get_weights())
    targets = np.concatenate([np.full([3, 1], start), TARGETS[:, 1:]], 1)  # the id of padding, too
    real = targets != 0
    real[:, 0] = True
    logits = packed((SOURCES, targets), training=True)
    expected = padded((SOURCES, targets), training=True)
    np.testing.assert_allclose(logits[real], expected[real], atol=1e-5)
    np.testing.assert_array_equal(logits[~real], 0)
    np.testing.assert_allclose(packed((SOURCES, targets))[real], expected[real], atol=1e-5)
