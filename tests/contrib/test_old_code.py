"""Code of TensorFlow 1 runs with other imports, and trains as a template."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention import seq2seq as ours
from keras_attention.contrib import make_template, rnn, seq2seq
from tests.contrib.old_code import BEAMS, END, START, UNITS, VOCABULARY, translate
from tests.sampled import full

B, S = 4, 5
LENGTHS = np.array([5, 3, 1, 4], np.int32)


@pytest.fixture
def data():
    """To copy a sentence: the loss can go to zero."""
    source = np.random.randint(3, VOCABULARY, [B, S]).astype(np.int32)
    target = np.where(np.arange(S) < LENGTHS[:, None] - 1, source, END)
    table = tf.Variable(tf.random.uniform([VOCABULARY, UNITS], -1.0, 1.0))
    return {
        "embedding": table,
        "source": tf.constant(source),
        "lengths": tf.constant(LENGTHS),
        "target": tf.constant(target.astype(np.int32)),
        "target_lengths": tf.constant(LENGTHS),
    }


def test_a_function_runs_as_it_is(data):
    assert 1.5 < float(translate("train", keep_prob=0.7, **data)) < 3.5
    ids = translate("greedy", **data).numpy()
    assert ids.shape[0] == B and ids.min() >= 0 and ids.max() < VOCABULARY
    assert translate("beam", **data).shape[::2] == (B, BEAMS)


@pytest.mark.parametrize("compiled", [*full(False), True])
@pytest.mark.full
def test_a_template_of_it_learns_and_all_its_modes_share_what_it_learned(data, compiled):
    template = make_template("translate", translate)
    optimizer = tf.compat.v1.train.AdamOptimizer(0.02)

    def step():
        with tf.GradientTape() as tape:
            loss = template("train", keep_prob=1.0, **data)
        variables = [data["embedding"], *template.trainable_variables]
        slopes, _ = tf.clip_by_global_norm(tape.gradient(loss, variables), 5.0)
        assert all(slope is not None for slope in slopes)
        optimizer.apply_gradients(list(zip(slopes, variables, strict=True)))
        return loss

    run = tf.function(step) if compiled else step
    losses = [float(run()) for _ in range(60 if compiled else 3)]
    assert losses[-1] < losses[0]
    count = len(template.variables)
    if compiled:
        assert losses[-1] < 0.3
        for mode, best in (("greedy", lambda ids: ids), ("beam", lambda ids: ids[:, :, 0])):
            found = best(tf.function(template)(mode, **data)).numpy()
            for row, target, length in zip(found, data["target"].numpy(), LENGTHS, strict=True):
                assert (row[:length] == target[:length]).mean() > 0.7
    np.testing.assert_allclose(template("train", **data), template("train", **data), rtol=1e-6)
    assert len(template.variables) == count


@pytest.mark.full
def test_a_batch_and_a_length_that_are_known_only_when_it_runs(data):
    template = make_template("translate", translate)
    ids = tf.TensorSpec([None, None], tf.int32)
    lengths = tf.TensorSpec([None], tf.int32)

    @tf.function(input_signature=[ids, lengths, ids, lengths])
    def loss(source, lengths, target, target_lengths):
        table = data["embedding"]
        return template("train", table, source, lengths, target, target_lengths)

    @tf.function(input_signature=[ids, lengths])
    def search(source, lengths):
        return template("beam", data["embedding"], source, lengths)

    source, target = data["source"], data["target"]
    whole = float(loss(source, LENGTHS, target, LENGTHS))
    one = float(loss(source[2:3, :1], LENGTHS[2:3], target[2:3, :1], LENGTHS[2:3]))
    np.testing.assert_allclose(whole, template("train", **data), rtol=1e-5)
    assert np.isfinite(one) and one != whole
    alone = search(source[2:3, :1], LENGTHS[2:3])[0].numpy()
    np.testing.assert_array_equal(alone, search(source, LENGTHS)[2][: len(alone)])


# -- objects that are made once


class Model:
    """Cells, mechanism and layers made outside; a function uses them."""

    def __init__(self, make_mechanism=None):
        self.table = tf.Variable(tf.random.uniform([VOCABULARY, UNITS], -1.0, 1.0))
        make_mechanism = make_mechanism or seq2seq.LuongAttention
        self.mechanism = make_mechanism(UNITS, None)
        inner = rnn.MultiRNNCell([rnn.DropoutWrapper(rnn.GRUCell(UNITS), 1.0) for _ in range(2)])
        self.cell = seq2seq.AttentionWrapper(inner, self.mechanism, attention_layer_size=UNITS)
        self.output_layer = keras.layers.Dense(VOCABULARY, use_bias=False)

    @property
    def weights(self):
        return self.cell.trainable_weights + self.output_layer.trainable_weights

    def start(self, memory, lengths, state, rows):
        self.mechanism.setup_memory(memory, lengths)
        return self.cell.zero_state(rows, tf.float32).clone(cell_state=state)

    def train(self, memory, lengths, state, target):
        first = self.start(memory, lengths, state, tf.shape(memory)[0])
        inputs = tf.nn.embedding_lookup(self.table, target)
        steps = tf.fill([tf.shape(target)[0]], tf.shape(target)[1])
        helper = seq2seq.TrainingHelper(inputs, steps)
        decoder = seq2seq.BasicDecoder(self.cell, helper, first, self.output_layer)
        outputs, _, _ = seq2seq.dynamic_decode(decoder, impute_finished=True)
        return seq2seq.sequence_loss(outputs.rnn_output, target, tf.ones(tf.shape(target)))

    def search(self, memory, lengths, state, tiled=True):
        batch_size = tf.shape(memory)[0]
        state = seq2seq.tile_batch(state, BEAMS)
        starts = tf.fill([batch_size], START)
        if tiled:
            memory, lengths = seq2seq.tile_batch((memory, lengths), BEAMS)
            first = self.start(memory, lengths, state, batch_size * BEAMS)
            decoder = seq2seq.BeamSearchDecoder(
                self.cell, self.table, starts, END, first, BEAMS, self.output_layer
            )
            outputs, last, _ = seq2seq.dynamic_decode(decoder, maximum_iterations=5)
            return outputs.predicted_ids, last.log_probs
        memory = self.mechanism.prepare_memory(memory, lengths)
        cell = ours.AttentionWrapper(
            self.cell.cell, self.mechanism, attention_layer=self.cell._attention_layers[0]
        )
        first = cell.get_initial_state(batch_size=batch_size * BEAMS, memory=memory)
        decoder = ours.BeamSearchDecoder(
            cell, BEAMS, output_layer=self.output_layer, maximum_iterations=5
        )
        outputs, last, _ = decoder(
            self.table,
            start_tokens=starts,
            end_token=END,
            initial_state=first.clone(cell_state=state),
            memory=memory,
        )
        return outputs.predicted_ids, last.log_probs


def source_of(rows, steps):
    lengths = np.random.randint(1, steps + 1, rows).astype(np.int32)
    state = tuple(tf.random.normal([rows, UNITS]) for _ in range(2))
    return tf.random.normal([rows, steps, 5]), tf.constant(lengths), state


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
@pytest.mark.full
def test_objects_made_once_keep_their_weights_for_any_batch(compiled):
    model = Model()
    train = tf.function(model.train) if compiled else model.train
    for rows, steps in ((2, 3), (1, 1), (2, 3)):
        target = tf.random.uniform([rows, 4], 0, VOCABULARY, tf.int32)
        with tf.GradientTape() as tape:
            loss = train(*source_of(rows, steps), target)
        assert np.isfinite(loss) and len(model.weights) == 9
        assert all(slope is not None for slope in tape.gradient(loss, model.weights))


@pytest.mark.parametrize(
    "mechanism",
    [seq2seq.BahdanauAttention, *full(seq2seq.LuongAttention, seq2seq.LuongMonotonicAttention)],
)
def test_tiled_memory_gives_the_beams_that_untiled_memory_gives(mechanism):
    model, source = Model(mechanism), source_of(3, 4)
    tiled, untiled = model.search(*source), model.search(*source, tiled=False)
    np.testing.assert_array_equal(tiled[0], untiled[0])
    np.testing.assert_allclose(tiled[1], untiled[1], rtol=1e-5)
    compiled = tf.function(model.search)(*source)
    np.testing.assert_array_equal(tiled[0], compiled[0])
