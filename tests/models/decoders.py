"""What every encoder-decoder must do."""

import keras
import numpy as np
import tensorflow as tf

from keras_attention import export
from keras_attention.export import Endpoints, Settings
from tests.models.toy import check_exported, check_saved

SOURCES = np.array([[5, 6, 7, 8, 2], [9, 2, 0, 0, 0], [4, 4, 10, 2, 0]])
TARGETS = np.array([[1, 4, 5, 6], [1, 7, 0, 0], [1, 8, 9, 0]])
V = 12


def by_steps(model) -> np.ndarray:
    """The logits [B, T, V] of `TARGETS`, one step of the cell after another."""
    memory, state = model.encode(SOURCES)
    memory = {} if memory is None else {"memory": memory}
    logits = []
    for t in range(TARGETS.shape[1]):
        output, state = model.cell(model.embed(TARGETS[:, t]), state, **memory)
        logits.append(model.project(output))
    return np.stack(logits, 1)


def check_decoder(model, folder) -> None:
    """Steps, padding, rows, saving, beams."""
    logits = model((SOURCES, TARGETS)).numpy()
    assert logits.shape == (3, 4, V)
    np.testing.assert_allclose(by_steps(model), logits, atol=1e-5)
    wider = np.pad(SOURCES, [[0, 0], [0, 3]])
    np.testing.assert_allclose(model((wider, TARGETS)), logits, atol=1e-5)
    alone = model((SOURCES[1:2, :2], TARGETS[1:2]))
    np.testing.assert_allclose(alone[0], logits[1], atol=1e-5)
    later = np.array(TARGETS)
    later[:, 2:] = 3
    np.testing.assert_array_equal(model((SOURCES, later))[:, :2], logits[:, :2])
    check_saved(model, (SOURCES, TARGETS), folder)
    # Of three hypotheses each is scored as the model scores it alone.
    found = model.generate(SOURCES, beam_width=3, max_length=5)
    for k in range(3):
        ids = found.ids[:, k].numpy()
        said = np.concatenate([np.ones_like(ids[:, :1]), ids[:, :-1]], 1)
        logs = np.log(keras.ops.softmax(model((SOURCES, said))))
        real = np.arange(ids.shape[1]) < found.lengths[:, k].numpy()[:, None]
        scores = np.where(real, np.take_along_axis(logs, ids[..., None], 2)[..., 0], 0).sum(1)
        np.testing.assert_allclose(scores, found.scores[:, k], atol=1e-4)


def check_gradients(model) -> None:
    """Every weight has a gradient in training, and it is finite."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model((SOURCES, TARGETS), training=True)))
    weights = model.trainable_variables
    for weight, gradient in zip(weights, tape.gradient(loss, weights)):
        gradient = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(gradient).all() and gradient.any(), weight.path


def check_export(model, folder, max_length=6, **settings) -> None:
    """`save_search` compares what a clean process answers with what the model answers here."""
    inputs = (SOURCES, TARGETS) if model.inputs_count == 2 else TARGETS
    check_exported(model, inputs, folder)
    endpoints = Endpoints(model, settings=Settings(max_length=max_length), beam_width=2, **settings)
    export.save_search(str(folder / "served"), endpoints, warm_up=False)
