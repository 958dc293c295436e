import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import (
    AttentionWrapper,
    BahdanauAttention,
    BasicDecoder,
    GreedyEmbeddingSampler,
    LuongAttention,
    TrainingSampler,
    dynamic_decode,
    sequence_loss,
)
from tests.sampled import full
from tests.seq2seq.cells import (
    CELLS,
    INPUT,
    MECHANISMS,
    UNITS,
    WIDTH,
    Table,
    normal,
    start_of,
    unroll,
    wrap,
)

BATCH, SOURCE, STEPS, VOCABULARY = 3, 6, 5, 8


def setting(cell=CELLS["gru"], mechanism=LuongAttention, batch=BATCH, **options):
    """A decoder with its first state and a memory."""
    wrapper = wrap(cell, mechanism)
    head = keras.layers.Dense(VOCABULARY)
    decoder = BasicDecoder(wrapper, TrainingSampler(), head, **options)
    memory = wrapper.prepare_memory(normal(batch, SOURCE, WIDTH), [6, 1, 3][:batch])
    return decoder, wrapper.get_initial_state(batch_size=batch, memory=memory), memory


# -- teacher forcing


@pytest.mark.parametrize("mechanism", MECHANISMS.values(), ids=MECHANISMS.keys())
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS.keys())
def test_decoding_a_sequence_is_repeating_the_step(cell, mechanism):
    decoder, state, memory = setting(cell, mechanism)
    inputs = normal(BATCH, STEPS, INPUT)
    outputs, last, lengths = decoder(inputs, initial_state=state, memory=memory)
    expected, expected_last = unroll(decoder.cell, inputs, memory, state)
    expected = decoder.output_layer(expected)
    np.testing.assert_allclose(outputs.rnn_output, expected, atol=1e-5)
    np.testing.assert_array_equal(outputs.sample_id, np.argmax(outputs.rnn_output, -1))
    assert lengths.numpy().tolist() == [STEPS] * BATCH
    tf.nest.assert_same_structure(last, state)
    for one, other in zip(tf.nest.flatten(last), tf.nest.flatten(expected_last)):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS.keys())
def test_a_plain_cell_decodes_as_well_as_a_wrapped_one(cell):
    cell, inputs = cell(), normal(BATCH, STEPS, INPUT)
    state = start_of(cell, BATCH)
    outputs, last, _ = BasicDecoder(cell, TrainingSampler())(inputs, initial_state=state)
    expected = keras.layers.RNN(cell, return_sequences=True)(inputs)
    np.testing.assert_allclose(outputs.rnn_output, expected, atol=1e-6)
    tf.nest.assert_same_structure(last, state)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_the_state_may_come_as_a_layer_or_a_tuple_gives_it(kind):
    cell, inputs = CELLS[kind](), normal(BATCH, STEPS, INPUT)
    decoder = BasicDecoder(cell, TrainingSampler())
    parts = [normal(BATCH, UNITS) for _ in range(1 if kind == "gru" else 2)]
    expected, _, _ = decoder(inputs, initial_state=parts)
    for given in (tuple(parts), *([parts[0]] if kind == "gru" else [])):
        outputs, last, _ = decoder(inputs, initial_state=given)
        np.testing.assert_array_equal(outputs.rnn_output, expected.rnn_output)
        tf.nest.assert_same_structure(last, given)


def test_calling_a_decoder_is_dynamic_decode():
    decoder, state, memory = setting()
    inputs = normal(BATCH, STEPS, INPUT)
    arguments = {"initial_state": state, "memory": memory, "sequence_length": [5, 0, 2]}
    expected, _, expected_lengths = decoder(inputs, **arguments)
    outputs, _, lengths = dynamic_decode(
        decoder, decoder_init_input=inputs, decoder_init_kwargs=arguments
    )
    np.testing.assert_array_equal(outputs.rnn_output, expected.rnn_output)
    np.testing.assert_array_equal(lengths, expected_lengths)


def test_a_config_makes_the_same_decoder():
    sampler = TrainingSampler(time_major=True)
    decoder = BasicDecoder(
        wrap(), sampler, keras.layers.Dense(3), impute_finished=True, maximum_iterations=7
    )
    copy = BasicDecoder.from_config(decoder.get_config())
    assert copy.get_config() == decoder.get_config()
    assert copy.sampler.time_major and copy.maximum_iterations == 7 and copy.impute_finished
    greedy = BasicDecoder(wrap(), GreedyEmbeddingSampler(keras.layers.Embedding(4, 5)))
    assert BasicDecoder.from_config(greedy.get_config()).sampler.embedding_fn.output_dim == 5


def test_the_steps_after_an_end_change_nothing_before_it():
    decoder, state, memory = setting()
    inputs, lengths = normal(BATCH, STEPS, INPUT), [5, 0, 2]
    outputs, _, found = decoder(inputs, initial_state=state, memory=memory, sequence_length=lengths)
    whole, _, _ = decoder(inputs, initial_state=state, memory=memory)
    assert found.numpy().tolist() == lengths
    for b, length in enumerate(lengths):
        one, other = (o.rnn_output[b, :length] for o in (outputs, whole))
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_imputed_rows_are_zero_after_their_end_and_keep_the_state_they_had_there():
    decoder, state, memory = setting(CELLS["lstm"], impute_finished=True)
    inputs, lengths = normal(BATCH, STEPS, INPUT), [5, 0, 2]
    outputs, last, _ = decoder(inputs, initial_state=state, memory=memory, sequence_length=lengths)
    for b, length in enumerate(lengths):
        assert not outputs.rnn_output[b, length:].numpy().any()
        assert not outputs.sample_id[b, length:].numpy().any()
        _, alone = unroll(decoder.cell, inputs[:, :length], memory, state) if length else (0, state)
        for one, other in zip(tf.nest.flatten(last), tf.nest.flatten(alone)):
            np.testing.assert_allclose(one[b], other[b], atol=1e-6)


def test_time_major_in_and_out():
    decoder, state, memory = setting()
    inputs = normal(BATCH, STEPS, INPUT)
    expected, _, _ = decoder(inputs, initial_state=state, memory=memory)
    turned = BasicDecoder(
        decoder.cell, TrainingSampler(time_major=True), decoder.output_layer, output_time_major=True
    )
    outputs, _, _ = turned(inputs.swapaxes(0, 1), initial_state=state, memory=memory)
    np.testing.assert_array_equal(outputs.rnn_output, np.swapaxes(expected.rnn_output, 0, 1))
    np.testing.assert_array_equal(outputs.sample_id, np.swapaxes(expected.sample_id, 0, 1))


def test_maximum_iterations_cuts_off():
    decoder, state, memory = setting(maximum_iterations=2)
    outputs, _, lengths = decoder(
        normal(BATCH, STEPS, INPUT), initial_state=state, memory=memory, sequence_length=[5, 1, 2]
    )
    assert outputs.sample_id.shape == (BATCH, 2) and lengths.numpy().tolist() == [2, 1, 2]


def test_targets_without_steps_give_logits_without_steps():
    decoder, state, memory = setting()
    outputs, _, lengths = decoder(normal(BATCH, 0, INPUT), initial_state=state, memory=memory)
    assert outputs.rnn_output.shape == (BATCH, 0, VOCABULARY)
    assert lengths.numpy().tolist() == [0] * BATCH


def test_targets_without_steps_in_a_graph_that_knows_no_size_are_the_same():
    decoder, _, _ = setting()

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, INPUT]), tf.TensorSpec([None, None, WIDTH])]
    )
    def decode(inputs, memory):
        outputs, _, lengths = decoder(inputs, memory=memory)
        return outputs.rnn_output, lengths

    for steps in (0, 2):
        logits, lengths = decode(normal(BATCH, steps, INPUT), normal(BATCH, 4, WIDTH))
        assert logits.shape == (BATCH, steps, VOCABULARY)
        assert lengths.numpy().tolist() == [steps] * BATCH


def test_a_bound_memory_and_an_explicit_one_decode_the_same():
    decoder, state, _ = setting()
    mechanism, inputs = decoder.cell.attention_mechanism, normal(BATCH, STEPS, INPUT)
    values = normal(BATCH, SOURCE, WIDTH)
    memory = mechanism.prepare_memory(values, [6, 1, 3])
    explicit, _, _ = decoder(inputs, initial_state=state, memory=memory)
    mechanism.setup_memory(values, [6, 1, 3])
    bound, _, _ = decoder(inputs, initial_state=state)
    np.testing.assert_array_equal(bound.rnn_output, explicit.rnn_output)


def test_the_history_of_alignments_has_an_entry_for_every_step():
    wrapper = wrap(alignment_history=True)
    memory = wrapper.prepare_memory(normal(BATCH, SOURCE, WIDTH), [6, 1, 3])
    inputs = normal(BATCH, STEPS, INPUT)

    def run(inputs):
        state = wrapper.get_initial_state(batch_size=BATCH, memory=memory)
        decoder = BasicDecoder(wrapper, TrainingSampler())
        _, last, _ = decoder(inputs, initial_state=state, memory=memory)
        return last.alignment_history.stack()

    _, expected = unroll(wrapper, inputs, memory)
    for call in (run, tf.function(run)):
        np.testing.assert_allclose(call(inputs), expected.alignment_history.stack(), atol=1e-6)


# -- eager, graph, XLA


@pytest.mark.parametrize("kind", ["gru", *full("stacked_lstm")])
@pytest.mark.full
def test_eager_graph_and_xla_agree_and_so_do_their_gradients(kind):
    decoder, state, memory = setting(CELLS[kind], BahdanauAttention, maximum_iterations=STEPS)
    inputs = normal(BATCH, STEPS, INPUT)

    def run(inputs, lengths):
        with tf.GradientTape() as tape:
            outputs, _, found = decoder(
                inputs, initial_state=state, memory=memory, sequence_length=lengths
            )
            weights = tf.sequence_mask(lengths, STEPS, tf.float32)
            logits = outputs.rnn_output
            loss = tf.reduce_sum(tf.square(logits) * weights[..., None])
        # The memory was projected outside: its layer has no gradient here.
        outside = {id(w) for w in decoder.cell.attention_mechanism.memory_layer.weights}
        weights = [w for w in decoder.trainable_variables if id(w) not in outside]
        return logits, found, tape.gradient(loss, weights)

    lengths = tf.constant([5, 3, 1])
    run(inputs, lengths)
    expected = run(inputs, lengths)
    for gradient in expected[2]:
        assert np.isfinite(gradient).all() and gradient.numpy().any()
    for jit in (False, True):
        found = tf.function(run, jit_compile=jit)(inputs, lengths)
        for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected)):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_batch_length_and_source_may_be_unknown_in_a_graph():
    decoder, _, _ = setting()

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, INPUT]),
            tf.TensorSpec([None, None, WIDTH]),
            tf.TensorSpec([None], tf.int32),
        ]
    )
    def run(inputs, values, lengths):
        memory = decoder.cell.prepare_memory(values, lengths)
        state = decoder.cell.get_initial_state(batch_size=tf.shape(values)[0], memory=memory)
        return decoder(inputs, initial_state=state, memory=memory)[0].rnn_output

    for batch, steps, source in ((2, 3, 4), (1, 5, 2)):
        inputs, values, lengths = normal(batch, steps, INPUT), normal(batch, source, WIDTH), [1, 2]
        memory = decoder.cell.prepare_memory(values, lengths[:batch])
        expected, _ = unroll(decoder.cell, inputs, memory)
        found = run(inputs, values, lengths[:batch])
        np.testing.assert_allclose(found, decoder.output_layer(expected), atol=1e-5)


def test_xla_without_maximum_iterations_is_refused_and_keras_is_reported():
    decoder, state, memory = setting()
    assert not decoder.supports_jit and setting(maximum_iterations=3)[0].supports_jit

    @tf.function(jit_compile=True, autograph=False)
    def run(inputs):
        return decoder(inputs, initial_state=state, memory=memory)[0]

    with pytest.raises(ValueError, match="maximum_iterations is required"):
        run(normal(BATCH, STEPS, INPUT))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_other_types_than_float32_decode(policy):
    wrapper = AttentionWrapper(
        keras.layers.LSTMCell(UNITS, dtype=policy),
        BahdanauAttention(UNITS, normalize=True, dtype=policy),
        7,
        dtype=policy,
    )
    head = keras.layers.Dense(VOCABULARY, dtype=policy)
    decoder = BasicDecoder(wrapper, TrainingSampler(), head, dtype=policy)
    memory = wrapper.prepare_memory(normal(BATCH, SOURCE, WIDTH), [6, 1, 3])
    state = wrapper.get_initial_state(batch_size=BATCH, memory=memory)
    outputs, last, _ = decoder(normal(BATCH, STEPS, INPUT), initial_state=state, memory=memory)
    expected = policy.removeprefix("mixed_")
    assert outputs.rnn_output.dtype == last.attention.dtype == expected
    assert np.isfinite(tf.cast(outputs.rnn_output, tf.float32)).all()


# -- dropout


def noisy_setting(batch=BATCH):
    cell = functools.partial(CELLS["stacked_lstm"], dropout=0.5, recurrent_dropout=0.2)
    return setting(cell, batch=batch)


def test_dropout_keeps_one_mask_for_a_sequence_and_draws_another_for_the_next():
    decoder, state, memory = noisy_setting()
    inputs = np.repeat(normal(BATCH, 1, INPUT), STEPS, 1)

    def decode(training):
        outputs, _, _ = decoder(inputs, initial_state=state, memory=memory, training=training)
        return outputs.rnn_output.numpy()

    quiet = decode(False)
    np.testing.assert_array_equal(decode(None), quiet)
    one, other = decode(True), decode(True)
    assert (one != quiet).any() and (one != other).any()
    np.testing.assert_array_equal(decode(False), quiet)


@pytest.mark.parametrize("which", ["kernel", "recurrent"])
@pytest.mark.parametrize("graph", [False, True])
def test_what_a_sequence_drops_it_drops_at_every_step(which, graph):
    """A cell that only hands on its inputs, or its state, shows what was dropped of it."""
    identity = {"kernel_initializer": "zeros", "recurrent_initializer": "zeros"}
    identity[f"{which}_initializer"] = "identity"
    rate = "dropout" if which == "kernel" else "recurrent_dropout"
    cell = keras.layers.SimpleRNNCell(16, activation=None, **identity, **{rate: 0.5})
    decoder = BasicDecoder(cell, TrainingSampler())

    def run(inputs):
        return decoder(inputs, initial_state=[inputs[:, 0]], training=True)[0].rnn_output

    run = tf.function(run) if graph else run
    dropped = [run(tf.ones([BATCH, STEPS, 16])).numpy() == 0 for _ in range(2)]
    for one in dropped:
        assert one.any() and not one.all()
        np.testing.assert_array_equal(one, np.repeat(one[:, :1], STEPS, 1))
    assert (dropped[0] != dropped[1]).any()


@pytest.mark.full
def test_masks_never_leak_into_another_batch_or_another_trace():
    decoder, _, _ = noisy_setting()

    def run(inputs, values):
        memory = decoder.cell.prepare_memory(values)
        state = decoder.cell.get_initial_state(batch_size=tf.shape(values)[0], memory=memory)
        outputs, _, _ = decoder(inputs, initial_state=state, memory=memory, training=True)
        return outputs.rnn_output

    for call in (run, tf.function(run), run, tf.function(run, jit_compile=False)):
        for batch in (3, 2, 1):
            logits = call(normal(batch, STEPS, INPUT), normal(batch, SOURCE, WIDTH))
            assert logits.shape == (batch, STEPS, VOCABULARY) and np.isfinite(logits).all()


# -- fit


@keras.saving.register_keras_serializable("tests")
class Translator(keras.Model):
    """An encoder and a decoder as tfa.seq2seq's users wrote them."""

    def __init__(self, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.dropout = dropout
        self.embedding = keras.layers.Embedding(VOCABULARY, INPUT)
        self.encoder = keras.layers.GRU(UNITS, return_sequences=True, return_state=True)
        self.mechanism = LuongAttention(UNITS, scale=True)
        cell = keras.layers.GRUCell(UNITS, dropout=dropout)
        wrapper = AttentionWrapper(cell, self.mechanism, attention_layer_size=UNITS)
        self.decoder = BasicDecoder(wrapper, TrainingSampler(), keras.layers.Dense(VOCABULARY))

    def call(self, inputs, training=None):
        source, target = inputs
        values, state = self.encoder(self.embedding(source))
        self.mechanism(values, setup_memory=True)
        first = self.decoder.cell.get_initial_state(batch_size=tf.shape(source)[0])
        outputs, _, _ = self.decoder(
            self.embedding(target), initial_state=first.clone(cell_state=state), training=training
        )
        return outputs.rnn_output

    def get_config(self):
        return {**super().get_config(), "dropout": self.dropout}


def mean_loss(targets, logits):
    return sequence_loss(logits, targets, tf.ones(tf.shape(targets)[:2]))


def pairs(rows):
    source = np.random.randint(1, VOCABULARY, (rows, SOURCE))
    return (source, source[:, :STEPS]), np.full((rows, STEPS), 3)


@pytest.mark.full
def test_a_model_with_a_decoder_learns_in_fit_and_survives_saving(tmp_path):
    model = Translator(dropout=0.2)
    model.compile(keras.optimizers.Adam(0.05), loss=mean_loss, jit_compile=False)
    x, y = pairs(8)
    history = model.fit(x, y, batch_size=3, epochs=4, verbose=0).history["loss"]
    assert history[-1] < history[0]
    x, _ = pairs(2)
    expected = model.predict(x, verbose=0)
    model.save(tmp_path / "translator.keras")
    copy = keras.saving.load_model(tmp_path / "translator.keras", compile=False)
    np.testing.assert_allclose(copy.predict(x, verbose=0), expected, atol=1e-6)


# -- greedy


def test_greedy_ends_with_the_end_token_which_is_counted():
    end, rows = 0, [[2, 3, 0, 0], [0, 0, 0, 0], [1, 2, 3, 1]]
    steps, vocabulary = 4, 4
    log_p = np.full((3, steps, vocabulary, vocabulary), -10.0)
    for b, row in enumerate(rows):
        log_p[b, np.arange(steps), :, row] = 0.0
    table = Table(log_p)
    decoder = BasicDecoder(table, GreedyEmbeddingSampler(), maximum_iterations=steps)
    outputs, _, lengths = decoder(
        tf.eye(vocabulary), initial_state=table.start(), start_tokens=[1, 1, 1], end_token=end
    )
    assert outputs.sample_id.numpy().tolist() == rows
    assert lengths.numpy().tolist() == [3, 1, 4]  # the last one is cut off, without an end


@pytest.mark.parametrize("jit", [False, True])
def test_greedy_is_the_same_eager_and_compiled(jit):
    wrapper, head = wrap(CELLS["lstm"], BahdanauAttention), keras.layers.Dense(VOCABULARY)
    decoder = BasicDecoder(wrapper, GreedyEmbeddingSampler(), head, maximum_iterations=STEPS)
    table = normal(VOCABULARY, INPUT)
    memory = wrapper.prepare_memory(normal(BATCH, SOURCE, WIDTH), [6, 1, 3])

    def run(start):
        state = wrapper.get_initial_state(batch_size=BATCH, memory=memory)
        return decoder(table, initial_state=state, memory=memory, start_tokens=start, end_token=2)

    (expected, _, expected_lengths) = run([1, 3, 4])
    found, _, lengths = tf.function(run, jit_compile=jit)(tf.constant([1, 3, 4]))
    np.testing.assert_array_equal(lengths, expected_lengths)
    for b, length in enumerate(lengths):
        np.testing.assert_array_equal(found.sample_id[b, :length], expected.sample_id[b, :length])


@pytest.mark.parametrize("kind", ["matrix", "weight", "layer"])
def test_greedy_embeds_by_a_matrix_a_weight_of_keras_or_a_layer(kind):
    layer, wrapper = keras.layers.Embedding(VOCABULARY, INPUT), wrap()
    layer.build(None)
    memory = wrapper.prepare_memory(normal(BATCH, SOURCE, WIDTH))
    state = wrapper.get_initial_state(batch_size=BATCH, memory=memory)
    sampler = GreedyEmbeddingSampler(layer if kind == "layer" else None)
    given = {"matrix": layer.embeddings.numpy(), "weight": layer.embeddings, "layer": None}[kind]
    head = keras.layers.Dense(VOCABULARY, kernel_initializer=keras.initializers.GlorotUniform(7))
    decoder = BasicDecoder(wrapper, sampler, head, maximum_iterations=STEPS)
    outputs, _, _ = decoder(
        given, initial_state=state, memory=memory, start_tokens=[1, 3, 4], end_token=VOCABULARY
    )
    ids = np.concatenate([[[1], [3], [4]], outputs.sample_id[:, :-1]], 1)
    expected, _ = unroll(wrapper, layer(ids).numpy(), memory, state)
    np.testing.assert_allclose(outputs.rnn_output, head(expected), atol=1e-5)


# -- refusals


def test_anything_that_cannot_be_a_part_is_refused():
    with pytest.raises(TypeError, match="RNN cell"):
        BasicDecoder(keras.layers.Dense(3), TrainingSampler())
    with pytest.raises(TypeError, match="output_layer"):
        BasicDecoder(keras.layers.GRUCell(3), TrainingSampler(), output_layer=3)


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS.keys())
def test_without_an_initial_state_a_cell_begins_with_zeros(cell):
    cell, inputs = cell(), normal(2, 3, INPUT)
    decoder = BasicDecoder(cell, TrainingSampler())
    expected = decoder(inputs, initial_state=start_of(cell, 2))[0]
    np.testing.assert_array_equal(decoder(inputs)[0].rnn_output, expected.rnn_output)
