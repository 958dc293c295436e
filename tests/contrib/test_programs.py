"""The decoders of known programs of the contrib days, in a few lines each."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention import seq2seq as addons
from keras_attention.contrib import rnn, seq2seq
from tests.seq2seq.cells import KERAS_3

B, S, T, U, V, K = 2, 4, 3, 4, 7, 3
START, END = 1, 2
LENGTHS = np.array([4, 2], np.int32)


def normal(*shape):
    return tf.random.stateless_normal(shape, [0, len(shape)])


def history_of(wrapper, inner, steps=T, **options):
    """Outputs, last state and lengths of a teacher-forced decoding."""
    helper = seq2seq.TrainingHelper(normal(B, steps, U), tf.fill([B], steps))
    decoder = seq2seq.BasicDecoder(wrapper, helper, inner, **options)
    return seq2seq.dynamic_decode(decoder)


# -- a translation tutorial: stacked cells under attention, beam search over tiled memory


def test_the_scores_of_a_beam_search_are_those_of_teacher_forcing():
    mechanism = seq2seq.LuongAttention(U, None, scale=True)
    cells = [rnn.DropoutWrapper(rnn.BasicLSTMCell(U), 1.0) for _ in range(2)]
    cell = seq2seq.AttentionWrapper(rnn.MultiRNNCell(cells), mechanism, U, alignment_history=True)
    project, table, memory = keras.layers.Dense(V), 3.0 * normal(V, U), normal(B, S, U)
    tiled, lengths = seq2seq.tile_batch((memory, tf.constant(LENGTHS)), K)
    mechanism.setup_memory(tiled, lengths)
    start = cell.zero_state(B * K, tf.float32)
    search = seq2seq.BeamSearchDecoder(cell, table, [START] * B, END, start, K, project)
    found, last, _ = seq2seq.dynamic_decode(search, maximum_iterations=T)
    assert found.predicted_ids.shape == (B, T, K)
    ids = tf.reshape(tf.transpose(found.predicted_ids, [0, 2, 1]), [B * K, T])
    given = tf.concat([tf.fill([B * K, 1], START), ids[:, :-1]], 1)
    helper = seq2seq.TrainingHelper(tf.gather(table, given), tf.fill([B * K], T))
    decoder = seq2seq.BasicDecoder(cell, helper, cell.zero_state(B * K, tf.float32), project)
    log_p = tf.nn.log_softmax(seq2seq.dynamic_decode(decoder)[0].rnn_output)
    steps = tf.reduce_sum(log_p * tf.one_hot(ids, V), -1)
    known = tf.sequence_mask(tf.reshape(last.lengths, [-1]), T, steps.dtype)
    expected = tf.reshape(tf.reduce_sum(steps * known, 1), [B, K])
    np.testing.assert_allclose(last.log_probs, expected, rtol=1e-4, atol=1e-5)


# -- Listen, Attend and Spell: each layer of the encoder joins two frames


def listen(cells, frames, lengths):
    """[B, S, D] -> [B, S / 2, 2 U], with lengths halved."""
    outputs, _ = tf.compat.v1.nn.bidirectional_dynamic_rnn(
        *cells, frames, sequence_length=lengths, dtype=tf.float32
    )
    joined = tf.concat(outputs, -1)
    batch, steps = tf.unstack(tf.shape(joined)[:2])
    return tf.reshape(joined, [batch, steps // 2, 2 * joined.shape[-1]]), lengths // 2


def test_a_pyramid_of_layers_is_attended_to_and_padding_does_not_matter():
    layers = [[rnn.LSTMCell(U), rnn.LSTMCell(U)] for _ in range(2)]
    mechanism = seq2seq.BahdanauAttention(U, None)
    cell = seq2seq.AttentionWrapper(rnn.LSTMCell(U), mechanism, U)

    def spell(frames, lengths):
        for cells in layers:
            frames, lengths = listen(cells, frames, lengths)
        mechanism.setup_memory(frames, lengths)
        return history_of(cell, cell.zero_state(B, tf.float32))[0].rnn_output

    frames, lengths = normal(B, 8, 3), tf.constant([8, 4])
    outputs = spell(frames, lengths)
    padded = tf.pad(frames, [[0, 0], [0, 4], [0, 0]], constant_values=9.0)
    np.testing.assert_allclose(spell(padded, lengths), outputs, rtol=1e-5, atol=1e-6)


# -- a summariser: a deep bidirectional encoder


def test_a_summariser_learns_a_little():
    forward, backward = ([rnn.LSTMCell(U) for _ in range(2)] for _ in range(2))
    mechanism = seq2seq.BahdanauAttention(U, None, normalize=True)
    cell = seq2seq.AttentionWrapper(rnn.BasicLSTMCell(2 * U), mechanism, U)
    project, optimizer = keras.layers.Dense(V), keras.optimizers.Adam(0.05)
    targets = tf.constant([[3, 4, 2], [5, 2, 0]])

    def step():
        with tf.GradientTape() as tape:
            memory, states, back = rnn.stack_bidirectional_dynamic_rnn(
                forward, backward, normal(B, S, U), sequence_length=LENGTHS, dtype=tf.float32
            )
            mechanism.setup_memory(memory, LENGTHS)
            pairs = zip(states[-1], back[-1])
            first = rnn.LSTMStateTuple(*(tf.concat(pair, -1) for pair in pairs))
            first = cell.zero_state(B, tf.float32).clone(cell_state=first)
            outputs = history_of(cell, first, output_layer=project)[0]
            weights = tf.cast(targets > 0, tf.float32)
            loss = seq2seq.sequence_loss(outputs.rnn_output, targets, weights)
        layers = [*forward, *backward, cell, project]
        weights = [weight for layer in layers for weight in layer.trainable_weights]
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        return loss

    losses = [float(step()) for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]


# -- Tacotron: a cell around the attention, a mechanism that sees where it looked, its own helper


class SeesWhereItLooked(seq2seq.BahdanauAttention):
    """score = v·tanh(W q + keys + F sum of past alignments), with contrib's call."""

    def __init__(self, num_units, memory, memory_sequence_length=None):
        super().__init__(num_units, memory, memory_sequence_length)
        self.places = keras.layers.Conv1D(3, 3, padding="same", use_bias=False)
        self.from_places = keras.layers.Dense(num_units, use_bias=False)

    def __call__(self, query, state):
        seen = self.from_places(self.places(state[..., None]))
        hidden = tf.tanh(self.query_layer(query)[:, None] + self.keys + seen)
        alignments = self._probability_fn(tf.reduce_sum(hidden, -1), state)
        return alignments, state + alignments


class Speaker(rnn.RNNCell):
    """What attends is wrapped; the frame is projected from output and context."""

    def __init__(self, attends):
        super().__init__()
        self._cell = attends
        self.before, self.frame = keras.layers.Dense(U), keras.layers.Dense(U)

    output_size = U

    @property
    def state_size(self):
        return self._cell.state_size

    def zero_state(self, batch_size, dtype):
        return self._cell.zero_state(batch_size, dtype)

    def call(self, inputs, state):
        output, state = self._cell(self.before(inputs), state)
        return self.frame(tf.concat([output, state.attention], -1)), state


class SpeakerWithACallOfItsOwn(Speaker):
    def __call__(self, inputs, state, scope=None):
        return self.call(inputs, state)


class LastFrame(seq2seq.Helper):
    """Each frame is the next input, until all frames are said."""

    batch_size, sample_ids_shape, sample_ids_dtype = B, tf.TensorShape([]), tf.int32

    def initialize(self, name=None):
        return tf.fill([B], False), tf.zeros([B, U])

    def sample(self, time, outputs, state, name=None):
        return tf.zeros([B], tf.int32)

    def next_inputs(self, time, outputs, state, sample_ids, name=None):
        return tf.fill([B], time + 1 >= T), outputs, state


@pytest.mark.parametrize("make", [Speaker, SpeakerWithACallOfItsOwn])
def test_feeding_back_outputs_equals_teacher_forcing_with_them(make):
    mechanism = SeesWhereItLooked(U, normal(B, S, U), LENGTHS)
    attends = seq2seq.AttentionWrapper(rnn.GRUCell(U), mechanism, alignment_history=True)
    cell = make(attends)

    def run(helper):
        decoder = seq2seq.BasicDecoder(cell, helper, cell.zero_state(B, tf.float32))
        outputs, state, _ = seq2seq.dynamic_decode(decoder)
        return outputs.rnn_output, state.alignment_history.stack(), state.attention_state

    frames, history, seen = run(LastFrame())
    assert history.shape == (T, B, S)
    np.testing.assert_allclose(tf.reduce_sum(history, -1), tf.ones([T, B]), rtol=1e-5)
    assert not history.numpy()[:, 1, LENGTHS[1] :].any()
    np.testing.assert_allclose(seen, tf.reduce_sum(history, 0), rtol=1e-5)
    told = tf.concat([tf.zeros([B, 1, U]), frames[:, :-1]], 1)
    again, _, _ = run(seq2seq.TrainingHelper(told, tf.fill([B], T)))
    np.testing.assert_allclose(again, frames, rtol=1e-5, atol=1e-6)
    graph = tf.function(lambda: run(LastFrame())[0])
    np.testing.assert_allclose(graph(), frames, rtol=1e-5, atol=1e-6)


def test_keys_and_values_that_a_mechanism_sets_are_those_it_uses():
    class Scaled(seq2seq.LuongAttention):
        def __init__(self, num_units, memory, factor):
            super().__init__(num_units, memory)
            self._keys = factor * self._keys
            self._values = factor * self._values

    memory, query = normal(B, S, U), normal(B, U)
    mechanism = Scaled(U, memory, 2.0)
    keys = mechanism.memory_layer(memory)
    expected = tf.nn.softmax(2.0 * tf.einsum("bd,bsd->bs", query, keys))
    np.testing.assert_allclose(mechanism(query, None)[0], expected, rtol=1e-5)
    context = tf.einsum("bs,bsd->bd", expected, 2.0 * memory)
    np.testing.assert_allclose(mechanism.read(expected), context, rtol=1e-5, atol=1e-6)


def test_a_mechanism_with_its_own_call_sees_the_memory_that_a_step_is_given():
    mechanism = SeesWhereItLooked(U, None)
    cell = addons.AttentionWrapper(keras.layers.GRUCell(U), mechanism)
    values, inputs = normal(B, S, U), normal(B, U)
    memory = cell.prepare_memory(values, LENGTHS)
    state = cell.get_initial_state(batch_size=B, memory=memory)
    found, _ = cell(inputs, state, memory=memory)
    assert not mechanism.memory_initialized
    mechanism.setup_memory(values, LENGTHS)
    np.testing.assert_array_equal(found, cell(inputs, state)[0])


# -- GNMT: the attention of the lowest cell goes into every cell above


class AttentionBelow(rnn.MultiRNNCell):
    """`use_new`: the attention of this step, not of the one before."""

    def __init__(self, attends, cells, use_new):
        self.use_new = use_new
        super().__init__([attends, *cells])

    def __call__(self, inputs, state, scope=None):
        output, lowest = self._cells[0](inputs, state[0])
        attention = (lowest if self.use_new else state[0]).attention
        states = [lowest]
        for cell, old in zip(self._cells[1:], state[1:]):
            output, new = cell(tf.concat([output, attention], -1), old)
            states.append(new)
        return output, tuple(states)


@pytest.mark.parametrize("use_new, history", [(True, False), (False, True)])
def test_a_stack_joins_the_attention_before_each_layer(use_new, history):
    mechanism = seq2seq.LuongAttention(U, normal(B, S, U), LENGTHS)
    attends = seq2seq.AttentionWrapper(
        rnn.LSTMCell(U), mechanism, U, alignment_history=history, output_attention=False
    )
    top = rnn.ResidualWrapper(rnn.LSTMCell(U), residual_fn=lambda x, y: x[:, :U] + y)
    cell = AttentionBelow(attends, [top, rnn.LSTMCell(U)], use_new)
    outputs, last, _ = history_of(cell, cell.zero_state(B, tf.float32))
    assert [c.cell.kernel.shape[0] for c in (top.cell, cell.cells[2])] == [2 * U, 2 * U]
    state, expected = cell.zero_state(B, tf.float32), []
    for x in tf.unstack(normal(B, T, U), axis=1):
        output, state = cell(x, state)
        expected.append(output)
    np.testing.assert_allclose(outputs.rnn_output, tf.stack(expected, 1), rtol=1e-5, atol=1e-6)
    if history:
        assert last[0].alignment_history.stack().shape == (T, B, S)
    assert len(cell.trainable_weights) == 3 * 3 + 2


# -- an exercise with tensorflow-addons: an encoder, a decoder, samplers


@pytest.mark.full
def test_a_translator_of_addons_is_fitted_and_answers():
    class Translator(keras.Model):
        def __init__(self):
            super().__init__()
            self.embed = keras.layers.Embedding(V, U)
            self.encoder = keras.layers.LSTM(U, return_state=True)
            self.cell, self.project = keras.layers.LSTMCell(U), keras.layers.Dense(V)
            self.teacher = addons.BasicDecoder(self.cell, addons.TrainingSampler(), self.project)

        def call(self, inputs):
            source, given = inputs
            _, *state = self.encoder(self.embed(source))
            outputs, _, _ = self.teacher(self.embed(given), initial_state=state)
            return tf.nn.softmax(outputs.rnn_output)

        def answer(self, source):
            greedy = addons.BasicDecoder(
                self.cell, addons.GreedyEmbeddingSampler(), self.project, maximum_iterations=T
            )
            _, *state = self.encoder(self.embed(source))
            tokens = {"start_tokens": tf.fill([B], START), "end_token": END}
            table = self.embed.embeddings
            table = tf.convert_to_tensor(table.value if KERAS_3 else table)
            return greedy(table, initial_state=state, **tokens)[0].sample_id

    model, target = Translator(), np.array([[3, 4, 2], [5, 2, 0]])
    given = np.array([[1, 3, 4], [1, 5, 2]])
    loss, adam = "sparse_categorical_crossentropy", keras.optimizers.Adam(0.1)
    model.compile(adam, loss, run_eagerly=True)
    losses = model.fit((target, given), target, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    assert model.answer(tf.constant(target)).numpy()[0].tolist() == target[0].tolist()
