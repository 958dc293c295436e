import pathlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.data import batches
from keras_attention.training import token_objective
from models import RNNSeq2Seq
from tests.sampled import sampled

PAD, START, END = 0, 1, 2
SOURCES = np.array([[5, 6, 7, 8, 2], [9, 2, 0, 0, 0], [4, 4, 10, 2, 0]])
TARGETS = np.array([[1, 4, 5, 6], [1, 7, 0, 0], [1, 8, 9, 0]])

GRID = sampled(["gru", "lstm", "simple_rnn"], [1, 2], [False, True], ["bahdanau", "luong", None])
each = pytest.mark.parametrize("cell, layers, bidirectional, attention", GRID)


def small(**settings):
    model = RNNSeq2Seq(**{"vocab_size": 11, "units": 6, **settings})
    model.build()
    return model


def steps(model, memory, state, targets):
    """[B, T] ids -> logits [B, T, V], one step after another."""
    looks = {} if memory is None else {"memory": memory}
    logits = []
    for t in range(targets.shape[1]):
        output, state = model.cell(model.embed(targets[:, t]), state, **looks)
        logits.append(model.project(output))
    return np.stack(logits, 1)


@each
def test_decoding_is_repeating_the_step(cell, layers, bidirectional, attention):
    model = small(cell=cell, layers=layers, bidirectional=bidirectional, attention=attention)
    memory, state = model.encode(SOURCES)
    logits = model((SOURCES, TARGETS))
    np.testing.assert_allclose(logits, steps(model, memory, state, TARGETS), atol=1e-5)


@each
def test_rows_are_independent_and_padding_never_reaches_the_decoder(
    cell, layers, bidirectional, attention
):
    """Also not backwards, where an RNN would read the padding first."""
    model = small(cell=cell, layers=layers, bidirectional=bidirectional, attention=attention)
    for layer in model.encoder:  # with biases of zero an RNN stays at zero over padding
        for weight in layer.weights:
            weight.assign(weight + 0.3)
    logits = model((SOURCES, TARGETS)).numpy()
    wider = np.pad(SOURCES, [[0, 0], [0, 3]])
    np.testing.assert_allclose(model((wider, TARGETS)), logits, atol=1e-5)
    alone = model((SOURCES[1:2, :2], TARGETS[1:2]))
    np.testing.assert_allclose(alone[0], logits[1], atol=1e-5)


def test_the_future_of_the_target_never_reaches_its_past():
    model = small(layers=2)
    other = TARGETS.copy()
    other[:, 2:] = 3
    one, changed = model((SOURCES, TARGETS)), model((SOURCES, other))
    np.testing.assert_array_equal(one[:, :2], changed[:, :2])
    assert (one[:, 2:].numpy() != changed[:, 2:].numpy()).any()


@pytest.mark.parametrize(
    "cell, layers, bidirectional, attention",
    [("gru", 1, False, "bahdanau"), ("lstm", 2, True, "luong"), ("simple_rnn", 2, True, None)],
)
@pytest.mark.parametrize("bridge", ["dense", "zero"])
def test_every_weight_learns(cell, layers, bidirectional, attention, bridge):
    model = small(
        cell=cell,
        layers=layers,
        bidirectional=bidirectional,
        attention=attention,
        bridge=bridge,
    )
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model((SOURCES, TARGETS), training=True)))
    unused = ()
    if bridge == "zero" and attention is None:
        unused = ("rnn", "bidirectional", "source_embedding")  # nothing leads to the encoder
    for weight, gradient in zip(
        model.trainable_variables, tape.gradient(loss, model.trainable_variables)
    ):
        if any(part in weight.path for part in unused):
            continue
        gradient = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(gradient).all() and gradient.any(), weight.path


def test_training_computes_a_first_step_whose_start_id_is_that_of_the_padding():
    model = RNNSeq2Seq(9, units=4)
    source, target_in = tf.constant([[5, 2], [6, 2]]), tf.constant([[0, 0, 0], [0, 5, 0]])
    trained, answered = (model((source, target_in), training=which) for which in (True, False))
    np.testing.assert_allclose(trained[0, 0], answered[0, 0], atol=1e-6)
    np.testing.assert_allclose(trained[1, :2], answered[1, :2], atol=1e-6)


def copying(rows=24):
    """Sources of four symbols, to be copied, as fit takes them."""
    source = np.random.randint(4, 8, (rows, 4))
    source = np.concatenate([source, np.full((rows, 1), END)], 1)
    target_in = np.concatenate([np.full((rows, 1), START), source[:, :-1]], 1)
    return (source, target_in), source


@pytest.mark.parametrize(
    "settings",
    [
        dict(cell="gru", dropout=0.1),
        pytest.param(dict(cell="lstm", attention="luong"), marks=pytest.mark.full),
    ],
)
def test_fit_makes_the_loss_fall_and_what_was_learnt_is_saved(settings, tmp_path):
    model = RNNSeq2Seq(vocab_size=11, units=16, **settings)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss, jit_compile=False)
    x, y = copying()
    losses = model.fit(x, y, batch_size=12, epochs=12, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < 0.7 * losses[0]
    expected = model(x)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(x), expected)
    copy = RNNSeq2Seq(vocab_size=11, units=16, **settings)
    copy.build()
    copy.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(copy(x), expected)


def test_dropout_acts_in_training_alone():
    model = small(dropout=0.5)
    quiet = model((SOURCES, TARGETS)).numpy()
    np.testing.assert_array_equal(model((SOURCES, TARGETS), training=False), quiet)
    one, other = (model((SOURCES, TARGETS), training=True).numpy() for _ in range(2))
    assert (one != quiet).any() and (one != other).any()
    assert model((SOURCES[:1], TARGETS[:1]), training=True).shape == (1, 4, 11)


# -- saving

LOADER = """
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
import keras, numpy as np
import models.rnn_seq2seq
folder, *names = sys.argv[1:]
inputs = np.load(f"{folder}/inputs.npz")
for name in names:
    model = keras.saving.load_model(f"{folder}/{name}.keras")
    logits = model((inputs["source"], inputs["target"]))
    answers = model.generate(inputs["source"], beam_width=3, max_length=5)
    np.savez(f"{folder}/{name}.npz", logits=logits, ids=answers.ids, scores=answers.scores)
"""


@pytest.mark.full
def test_a_saved_model_gives_the_same_bits_in_a_new_process(tmp_path):
    settings = {
        "attentive": dict(cell="lstm", layers=2, dropout=0.2, embedding_width=3),
        "plain": dict(attention=None, bidirectional=False, bridge="pass", tie_output=True),
        "shared": dict(attention="luong", share_embeddings=True, cell="simple_rnn"),
    }
    np.savez(tmp_path / "inputs.npz", source=SOURCES, target=TARGETS)
    expected = {}
    for name, given in settings.items():
        model = small(**given)
        model.save(tmp_path / f"{name}.keras")
        expected[name] = (
            model((SOURCES, TARGETS)),
            model.generate(SOURCES, beam_width=3, max_length=5),
        )
    command = [sys.executable, "-c", LOADER, str(tmp_path), *settings]
    root = pathlib.Path(__file__).parents[2]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for name, (logits, answers) in expected.items():
        found = np.load(tmp_path / f"{name}.npz")
        np.testing.assert_array_equal(found["logits"], logits)
        np.testing.assert_array_equal(found["ids"], answers.ids)
        np.testing.assert_array_equal(found["scores"], answers.scores)


# -- weights that are shared or given


def of_the_vocabulary(model):
    return [w for w in model.trainable_variables if len(w.shape) == 2 and 11 in w.shape]


def test_tied_and_shared_embeddings_are_one_matrix():
    model = small(tie_output=True, share_embeddings=True)
    matrix, *others = of_the_vocabulary(model)
    assert not others and matrix.shape == (11, 6)
    assert model.source_embedding is model.target_embedding
    one, other = np.random.normal(size=(2, 2, 6)).astype("float32")
    found = model.project(one) - model.project(other)  # whatever the bias
    np.testing.assert_allclose(found, (one - other) @ matrix.numpy().T, atol=1e-5)
    assert len(of_the_vocabulary(small())) == 3


def test_given_embeddings_are_what_the_model_begins_with():
    source, target = np.random.normal(size=(2, 11, 6)).astype("float32")
    model = small(source_embeddings=source, target_embeddings=target)
    np.testing.assert_array_equal(model.source_embedding.embeddings, source)
    np.testing.assert_array_equal(model.target_embedding.embeddings, target)


def test_source_and_target_may_have_their_own_vocabularies():
    model = small(target_vocab_size=14)
    assert model((SOURCES, TARGETS + 3)).shape == (3, 4, 14)


def test_the_bridge_sets_the_initial_state_of_the_decoder():
    zero = small(bridge="zero", attention=None)
    _, state = zero.encode(SOURCES)
    assert not any(part.numpy().any() for part in tf.nest.flatten(state))
    passed = small(bridge="pass", bidirectional=False, attention=None, cell="lstm")
    _, state = passed.encode(SOURCES[:1])
    layer = passed.encoder[0]
    _, h, c = layer(passed.source_embedding(SOURCES[:1]))
    np.testing.assert_allclose(state[0], h, atol=1e-6)
    np.testing.assert_allclose(state[1], c, atol=1e-6)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"cell": "elman"}, "cell must be one of"),
        ({"attention": "dot"}, "attention"),
        ({"bridge": "long"}, "long"),
        ({"bridge": "pass", "bidirectional": True}, "one-way"),
        ({"share_embeddings": True, "target_vocab_size": 12}, "one vocabulary"),
        ({"tie_output": True, "embedding_width": 5}, "embedding_width=5"),
        ({"units": 0}, "at least 1"),
        ({"vocab_size": 0}, "at least 1"),
        ({"layers": 0}, "at least 1"),
        ({"dropout": 1.5}, "1.5"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RNNSeq2Seq(**{"vocab_size": 11, "units": 6, **settings})


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_graph_and_xla_give_the_logits_of_eager(jit):
    model = small(cell="lstm", layers=2)
    call = tf.function(lambda source, target: model((source, target)), jit_compile=jit)
    found = call(tf.constant(SOURCES), tf.constant(TARGETS))
    np.testing.assert_allclose(found, model((SOURCES, TARGETS)), atol=1e-5)


@pytest.mark.parametrize(
    "policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.full)]
)
def test_narrow_policies_learn_without_nan(policy):
    model = small(dtype=policy, dropout=0.1)
    with tf.GradientTape() as tape:
        logits = model((SOURCES, TARGETS), training=True)
        loss = tf.reduce_mean(tf.square(tf.cast(logits, tf.float32)))
    for gradient in tape.gradient(loss, model.trainable_variables):
        assert np.isfinite(tf.convert_to_tensor(gradient)).all()


@pytest.mark.full  # compiles a training step for each pair of widths
def test_batches_of_few_widths_train_under_xla():
    rng = np.random.default_rng(0)
    rows = [rng.integers(4, 20, rng.integers(1, 8)) for _ in range(16)]
    model = RNNSeq2Seq(20, units=4)
    model.compile("sgd", jit_compile=True, **token_objective())
    logs = model.fit(batches(rows, rows, 8, widths=(8,)), shuffle=False, verbose=0).history
    assert np.isfinite(logs["loss"]).all() and logs["loss"][0] > 0


@pytest.mark.parametrize("bidirectional", [True, False])
def test_evaluating_moves_no_seed_of_dropout_and_training_does(bidirectional):
    model = RNNSeq2Seq(9, units=4, layers=2, bidirectional=bidirectional, dropout=0.5)
    model.build()
    seeds = [variable for variable in model.variables if "seed" in variable.path]
    before = [seed.numpy().tolist() for seed in seeds]
    ids = tf.constant([[5, 6, 2]])
    model((ids, ids), training=False)
    model.generate(ids, max_length=2)
    assert seeds and [seed.numpy().tolist() for seed in seeds] == before
    model((ids, ids), training=True)
    assert all(seed.numpy().tolist() != old for seed, old in zip(seeds, before))


def during_the_first_step(cell, call):
    """What `call` returns in a thread of its own, which runs within the next step of `cell`."""
    found, step, owner = [], cell.call, threading.get_ident()

    def hooked(*args, **kwargs):
        if threading.get_ident() == owner and not found:
            found.append(None)  # once
            with ThreadPoolExecutor(1) as pool:
                found[:] = [pool.submit(call).result()]
        return step(*args, **kwargs)

    vars(cell)["call"] = hooked
    return found


@pytest.mark.parametrize("part", ["encoder", "decoder"])
@pytest.mark.parametrize("trains_within", [True, False])
def test_a_thread_that_trains_and_one_that_answers_do_not_disturb_each_other(part, trains_within):
    model = RNNSeq2Seq(9, units=4, bidirectional=False, dropout=0.5)
    ids = tf.constant([[5, 6, 7, 2]])
    model.build()
    seeds = [variable for variable in model.variables if "seed" in variable.path]
    before = [seed.numpy() for seed in seeds]

    def run(training):
        for seed, value in zip(seeds, before):
            seed.assign(value)
        return model((ids, ids), training=training).numpy()

    train = lambda: run(True)  # noqa: E731
    answer = lambda: model((ids, ids), training=False).numpy()  # noqa: E731
    trained, answered = train(), answer()
    assert not np.allclose(trained, answered)
    outer, inner = (answer, train) if trains_within else (train, answer)
    cell = model.encoder[0].cell if part == "encoder" else model.inner_cell
    found = during_the_first_step(cell, inner)
    found_outside = outer()
    results = (found[0], found_outside) if trains_within else (found_outside, found[0])
    np.testing.assert_allclose(results[0], trained, atol=1e-6)
    np.testing.assert_allclose(results[1], answered, atol=1e-6)


def test_only_training_moves_the_seeds_of_dropout():
    """Else a training would depend on when the model was built and called."""
    model = RNNSeq2Seq(9, 9, units=4, layers=2, dropout=0.3)
    model.build()
    ids = tf.ones([2, 3], tf.int32)
    model((ids, ids))
    model((ids, ids), training=False)
    seeds = [variable for variable in model.variables if "seed" in variable.path]
    assert len(seeds) > 4 and all(int(seed.numpy()[1]) == 0 for seed in seeds)
    model((ids, ids), training=True)
    assert all(int(seed.numpy()[1]) == 1 for seed in seeds)
