"""The loss that pulls attention to alignments which are known, and both models under it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.data import batches
from keras_attention.training import (
    GuidedAlignment,
    TokenCrossentropy,
    WithAlignments,
    guided_alignment,
)
from models import RNNSeq2Seq, Transformer
from tests.sampled import full


def distributions(*shape):
    values = np.random.exponential(size=shape).astype(np.float32)
    return values / values.sum(-1, keepdims=True)


def oracle(reference, alignments):
    """[..., T] by loops."""
    losses = np.zeros(reference.shape[:-1])
    for place in np.ndindex(losses.shape):
        links = reference[place].sum()
        for wanted, looked in zip(reference[place], alignments[place]):
            if wanted > 0:
                losses[place] -= wanted / links * np.log(np.float64(looked))
    return losses


def some():
    """A reference with unaligned steps and steps of several links, and alignments."""
    reference = (np.random.uniform(size=(2, 4, 5)) < 0.4).astype(np.float32) * 3
    reference[0, 1] = reference[1, 3] = 0
    reference[0, 0] = [0, 3, 3, 0, 0]
    return reference, distributions(2, 4, 5)


def test_each_step_is_the_cross_entropy_of_its_links():
    reference, alignments = some()
    losses = guided_alignment(reference, alignments)
    np.testing.assert_allclose(losses, oracle(reference, alignments), rtol=1e-5)
    assert losses[0, 1] == 0


def test_the_mean_is_over_the_steps_that_have_a_link_and_a_weight():
    reference, alignments = some()
    weights = np.array([[1, 1, 1, 0], [0.5, 1, 0, 1]], np.float32)
    counted = weights * (reference.sum(-1) > 0)
    expected = (oracle(reference, alignments) * counted).sum() / counted.sum()
    found = GuidedAlignment()(reference, alignments, weights)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_padding_never_changes_the_loss():
    reference, alignments = some()
    wider = [(0, 0), (0, 2), (0, 3)]
    loss = GuidedAlignment()
    np.testing.assert_allclose(
        loss(np.pad(reference, wider), np.pad(alignments, wider)), loss(reference, alignments), 1e-6
    )


def test_without_any_link_the_loss_and_its_gradient_are_zero():
    alignments = tf.constant(distributions(1, 2, 3))
    with tf.GradientTape() as tape:
        tape.watch(alignments)
        loss = GuidedAlignment()(tf.zeros([1, 2, 3]), alignments)
    assert loss == 0
    np.testing.assert_array_equal(tape.gradient(loss, alignments), np.zeros([1, 2, 3]))


def test_what_is_attended_to_not_at_all_has_a_finite_loss_and_gradient():
    logits = tf.constant([[[200.0, 0.0, -200.0]]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = GuidedAlignment()(tf.constant([[[0, 1, 1]]]), tf.nn.softmax(logits))
    assert np.isfinite(loss) and np.isfinite(tape.gradient(loss, logits)).all()
    half = GuidedAlignment()(tf.constant([[[0, 1]]]), tf.constant([[[1.0, 0.0]]], tf.float16))
    assert half.dtype == tf.float32 and np.isfinite(half)


def rnn(**settings):
    return RNNSeq2Seq(12, units=16, dropout=0.0, **settings)


def transformer(**settings):
    sizes = dict(layers=1, width=16, heads=2, ff_width=16, dropout=0.0, alignment_head=0)
    return Transformer(12, **{**sizes, **settings})


SOURCES = np.array([[5, 6, 7, 2], [9, 2, 0, 0]])
TARGETS = np.array([[1, 4, 5], [1, 7, 0]])


@pytest.mark.parametrize(
    "make",
    [rnn, lambda: rnn(attention="luong", cell="lstm", layers=2), transformer],
    ids=["bahdanau", "luong", "transformer"],
)
def test_alignments_in_training_are_what_every_step_attends_to(make):
    model = make()
    model.build()
    memory, state = model.encode(SOURCES)
    logits, alignments = model.decode(TARGETS, memory, state, return_alignments=True)
    np.testing.assert_allclose(logits, model((SOURCES, TARGETS)), atol=1e-6)
    if state is None:
        state = model.cell.get_initial_state(batch_size=2, max_length=3, memory=memory)
    for t in range(3):
        _, state = model.cell(model.embed(TARGETS[:, t]), state, memory=memory)
        np.testing.assert_allclose(alignments[:, t], state.alignments, atol=1e-5)
    assert (alignments[1, :, 2:].numpy() == 0).all()


def test_without_attention_there_are_no_alignments():
    model = rnn(attention=None)
    memory, state = model.encode(SOURCES)
    with pytest.raises(ValueError, match="attention=None"):
        model.decode(TARGETS, memory, state, return_alignments=True)


def copying(steps, pull=1.0):
    """Strings to copy, and that step t comes from t: batches for `fit`."""
    random = np.random.default_rng(0)
    texts = [random.integers(4, 12, random.integers(3, 6)) for _ in range(32 * steps)]

    def guided(inputs, target_out, weights):
        diagonal = tf.eye(tf.shape(target_out)[1], tf.shape(inputs[0])[1])
        reference = tf.repeat(diagonal[None], tf.shape(weights)[0], 0)
        targets = {"logits": target_out, "alignments": reference}
        return inputs, targets, {"logits": weights, "alignments": pull * weights}

    return batches(texts, texts, 32, seed=0).map(guided)


def on_the_diagonal(guided):
    """The mean weight that the real steps give to their source."""
    inputs, _, weights = next(iter(copying(1)))
    looked = guided(inputs)["alignments"].numpy()
    there = np.diagonal(looked, axis1=1, axis2=2)  # [B, T]
    return there[weights["alignments"].numpy() > 0].mean()


@pytest.mark.parametrize(
    "make", [lambda: rnn(bidirectional=False), *full(transformer)], ids=["rnn", "transformer"]
)
@pytest.mark.full
def test_guided_alignments_become_the_diagonal_sooner(make):
    guided = WithAlignments(make())
    guided.build()
    guided.compile(
        keras.optimizers.Adam(2e-2),
        loss={"logits": TokenCrossentropy(), "alignments": GuidedAlignment()},
    )
    guided.optimizer.build(guided.trainable_variables)
    variables = [*guided.variables, *guided.optimizer.variables]
    before = [variable.numpy() for variable in variables]
    found = []
    for pull in (0.0, 1.0):
        for variable, value in zip(variables, before):
            variable.assign(value)
        guided.fit(copying(80, pull), shuffle=False, verbose=0)
        found.append(on_the_diagonal(guided))
    free, pulled = found
    assert pulled > 0.7 and pulled > free + 0.2, found


def test_a_guided_model_survives_saving(tmp_path):
    guided = WithAlignments(rnn())
    expected = guided((SOURCES, TARGETS))
    guided.save(tmp_path / "guided.keras")
    loaded = keras.models.load_model(tmp_path / "guided.keras")((SOURCES, TARGETS))
    for name, value in expected.items():
        np.testing.assert_allclose(loaded[name], value, atol=1e-6)
