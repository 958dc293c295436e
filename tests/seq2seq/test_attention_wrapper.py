import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.seq2seq import (
    AttentionWrapper,
    AttentionWrapperState,
    BahdanauAttention,
    BasicDecoder,
    LuongAttention,
    TrainingSampler,
    tile_batch,
)
from tests import oracles
from tests.seq2seq.cells import (
    CELLS,
    INPUT,
    MECHANISMS,
    UNITS,
    WIDTH,
    keras3,
    normal,
    start_of,
    unroll,
    wrap,
)

BATCH, STEPS = 2, 6

each_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS.keys())


# -- one step


@pytest.mark.parametrize("mechanism", MECHANISMS.values(), ids=MECHANISMS.keys())
@pytest.mark.parametrize("size", [None, 7])
@pytest.mark.parametrize("kind", ["lstm", "gru", "simple_rnn"])
def test_steps_are_those_of_the_oracle(kind, mechanism, size):
    wrapper = wrap(CELLS[kind], mechanism, size)
    values, lengths, inputs = normal(BATCH, STEPS, WIDTH), [6, 2], normal(BATCH, 3, INPUT)
    found, state = unroll(wrapper, inputs, wrapper.prepare_memory(values, lengths))

    mask = oracles.padding(lengths, STEPS)
    cell_weights = [w.numpy().astype(np.float64) for w in wrapper.cell.weights]
    cell_state = [np.zeros((BATCH, UNITS))] * (2 if kind == "lstm" else 1)
    attention = np.zeros((BATCH, size or WIDTH))
    for t in range(inputs.shape[1]):
        cell_inputs = np.concatenate([inputs[:, t], attention], 1)
        stepped = getattr(oracles, kind)(cell_inputs, *cell_state, *cell_weights)
        cell_state = list(stepped) if kind == "lstm" else [stepped]
        query = cell_state[0]
        memory_kernel = wrapper.attention_mechanism.memory_layer.kernel.numpy()
        if mechanism is LuongAttention:
            scores = oracles.luong_scores(query, values, memory_kernel)
        else:
            query_kernel = wrapper.attention_mechanism.query_layer.kernel.numpy()
            v = wrapper.attention_mechanism.attention_v.numpy()
            scores = oracles.bahdanau_scores(query, values, query_kernel, memory_kernel, v)
        alignments = oracles.softmax(scores, mask)
        attention = np.einsum("bs,bsd->bd", alignments, values)
        if size:
            kernel = wrapper._attention_layers[0].kernel.numpy()
            attention = np.concatenate([query, attention], 1) @ kernel
        np.testing.assert_allclose(found[:, t], attention, atol=1e-5)
    np.testing.assert_allclose(state.alignments, alignments, atol=1e-5)
    np.testing.assert_allclose(state.attention, attention, atol=1e-5)
    for one, other in zip(tf.nest.flatten(state.cell_state), cell_state):
        np.testing.assert_allclose(one, other, atol=1e-5)


@each_cell
def test_the_cells_state_keeps_its_containers(cell):
    wrapper = wrap(cell)
    memory = wrapper.prepare_memory(normal(BATCH, STEPS, WIDTH))
    first = wrapper.get_initial_state(batch_size=BATCH, memory=memory)
    _, state = wrapper(normal(BATCH, INPUT), first, memory=memory)
    assert isinstance(state, AttentionWrapperState)
    tf.nest.assert_same_structure(first, state)
    expected = start_of(cell(), BATCH)
    tf.nest.assert_same_structure(expected, state.cell_state, check_types=False)


def test_the_output_may_be_the_cells_own():
    wrapper = wrap(output_attention=False)
    memory = wrapper.prepare_memory(normal(BATCH, STEPS, WIDTH))
    state = wrapper.get_initial_state(batch_size=BATCH, memory=memory)
    output, state = wrapper(normal(BATCH, INPUT), state, memory=memory)
    np.testing.assert_array_equal(output, tf.nest.flatten(state.cell_state)[0])
    assert state.attention.shape == (BATCH, 7) and wrapper.output_size == UNITS


def test_cell_input_fn_joins_inputs_and_attention():
    seen = []

    def only_inputs(inputs, attention):
        seen.append(attention.shape)
        return 2 * inputs

    wrapper = wrap(cell_input_fn=only_inputs)
    memory = wrapper.prepare_memory(normal(BATCH, STEPS, WIDTH))
    inputs = normal(BATCH, 1, INPUT)
    _, state = unroll(wrapper, inputs, memory)
    assert seen[-1] == (BATCH, 7) and wrapper.cell.kernel.shape[0] == INPUT
    expected, _ = wrapper.cell(2 * inputs[:, 0], start_of(wrapper.cell, BATCH))
    np.testing.assert_allclose(tf.nest.flatten(state.cell_state)[0], expected, atol=1e-6)


def test_attention_fn_replaces_the_attention():
    def look_at_the_first(mechanism, cell_output, attention_state, attention_layer):
        alignments, next_state = mechanism([cell_output, attention_state])
        alignments = tf.one_hot(tf.zeros_like(alignments[:, 0], tf.int32), alignments.shape[1])
        return mechanism.read(alignments), alignments, next_state

    wrapper = wrap(size=None, attention_fn=look_at_the_first)
    values = normal(BATCH, STEPS, WIDTH)
    outputs, _ = unroll(wrapper, normal(BATCH, 2, INPUT), wrapper.prepare_memory(values))
    for t in range(2):
        np.testing.assert_allclose(outputs[:, t], values[:, 0], atol=1e-6)


def test_several_mechanisms_are_asked_side_by_side():
    cell = keras.layers.GRUCell(UNITS)
    wrapper = AttentionWrapper(cell, [LuongAttention(UNITS), BahdanauAttention(8)], [6, 3])
    values = normal(BATCH, STEPS, WIDTH)
    memory = wrapper.prepare_memory(values, [6, 2])
    output, state = wrapper(
        normal(BATCH, INPUT),
        wrapper.get_initial_state(batch_size=BATCH, memory=memory),
        memory=memory,
    )
    assert output.shape == (BATCH, 9) and wrapper.output_size == 9
    (query,), parts = tf.nest.flatten(state.cell_state), []
    for i, mechanism in enumerate(wrapper.attention_mechanism):
        alignments, _ = mechanism([query, None], memory=memory[i])
        np.testing.assert_allclose(state.alignments[i], alignments, atol=1e-6)
        context = mechanism.read(alignments, memory[i])
        parts.append(wrapper._attention_layers[i](tf.concat([query, context], 1)))
    np.testing.assert_allclose(output, tf.concat(parts, 1), atol=1e-6)
    assert isinstance(state.attention_state, tuple) and len(state.attention_state) == 2


def test_several_mechanisms_may_look_at_several_memories():
    one, other = LuongAttention(UNITS), LuongAttention(UNITS)
    wrapper = AttentionWrapper(keras.layers.GRUCell(UNITS), [one, other])
    memory = [one.prepare_memory(normal(2, 3, 5)), other.prepare_memory(normal(2, 7, 9))]
    outputs, state = unroll(wrapper, normal(2, 2, INPUT), memory)
    assert outputs.shape == (2, 2, 14)
    assert [alignments.shape[1] for alignments in state.alignments] == [3, 7]


def test_hypotheses_share_a_memory_that_need_not_be_tiled():
    wrapper, beams = wrap(mechanism=BahdanauAttention), 3
    values, lengths = normal(BATCH, STEPS, WIDTH), np.array([6, 2])
    inputs = normal(BATCH * beams, 2, INPUT)
    tiled = wrapper.prepare_memory(*tile_batch((values, lengths), beams))
    expected, _ = unroll(wrapper, inputs, tiled)
    shared = wrapper.prepare_memory(values, lengths)
    state = tile_batch(wrapper.get_initial_state(batch_size=BATCH, memory=shared), beams)
    found, _ = unroll(wrapper, inputs, shared, state, beam_width=beams)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_other_batches_and_lengths_may_follow():
    wrapper = wrap()
    for batch, steps in ((2, 3), (4, 1), (1, 5)):
        memory = wrapper.prepare_memory(normal(batch, steps, WIDTH))
        outputs, state = unroll(wrapper, normal(batch, 2, INPUT), memory)
        assert outputs.shape == (batch, 2, 7) and state.alignments.shape == (batch, steps)


def test_a_bound_memory_serves_as_well():
    wrapper = wrap()
    values, inputs = normal(BATCH, STEPS, WIDTH), normal(BATCH, 3, INPUT)
    expected, _ = unroll(wrapper, inputs, wrapper.prepare_memory(values, [6, 2]))
    wrapper.attention_mechanism.setup_memory(values, [6, 2])
    found, _ = unroll(wrapper, inputs, None)
    np.testing.assert_array_equal(found, expected)


# -- the history


def test_the_history_holds_the_alignments_of_every_step_eager_and_in_a_graph():
    wrapper = wrap(alignment_history=True)
    inputs, values = normal(BATCH, 3, INPUT), normal(BATCH, STEPS, WIDTH)

    def run(inputs, values):
        memory = wrapper.prepare_memory(values, [6, 2])
        state = wrapper.get_initial_state(batch_size=BATCH, memory=memory)
        steps = []
        for t in range(3):
            _, state = wrapper(inputs[:, t], state, memory=memory)
            steps.append(state.alignments)
        return state.alignment_history.stack(), tf.stack(steps)

    for call in (run, tf.function(run)):
        history, steps = call(inputs, values)
        assert history.shape == (3, BATCH, STEPS)
        np.testing.assert_array_equal(history, steps)
    np.testing.assert_allclose(tf.reduce_sum(history, -1), np.ones((3, BATCH)), atol=1e-6)


def test_every_mechanism_has_its_history():
    mechanisms = [LuongAttention(UNITS), BahdanauAttention(UNITS)]
    wrapper = AttentionWrapper(keras.layers.GRUCell(UNITS), mechanisms, alignment_history=True)
    memory = wrapper.prepare_memory(normal(BATCH, STEPS, WIDTH))
    _, state = unroll(wrapper, normal(BATCH, 3, INPUT), memory)
    for history, alignments in zip(state.alignment_history, state.alignments):
        np.testing.assert_array_equal(history.stack()[-1], alignments)


def test_a_history_under_xla_is_refused_not_wrong():
    wrapper = wrap(alignment_history=True)
    memory = wrapper.prepare_memory(normal(BATCH, STEPS, WIDTH))
    unroll(wrapper, normal(BATCH, 1, INPUT), memory)

    @tf.function(jit_compile=True, autograph=False)
    def step(inputs):
        state = wrapper.get_initial_state(batch_size=BATCH, memory=memory)
        return wrapper(inputs, state, memory=memory)[0]

    with pytest.raises(ValueError, match="only in dynamic_decode"):
        step(normal(BATCH, INPUT))


@pytest.mark.parametrize("several", [False, True])
def test_under_xla_a_decoder_with_a_limit_keeps_the_history(several):
    mechanism = [MECHANISMS["luong"](UNITS), MECHANISMS["bahdanau"](UNITS)]
    wrapper = AttentionWrapper(
        CELLS["gru"](), mechanism if several else mechanism[0], alignment_history=True
    )
    limit = 5
    decoder = BasicDecoder(wrapper, TrainingSampler(), maximum_iterations=limit)
    source = normal(BATCH, STEPS, WIDTH)

    def histories(inputs):
        state = decoder(inputs, memory=source, sequence_length=[3, 2])[1]
        return [array.stack() for array in tf.nest.flatten(state.alignment_history)]

    inputs = normal(BATCH, 3, INPUT)
    expected = histories(inputs)
    for history, whole in zip(tf.function(histories, jit_compile=True)(inputs), expected):
        assert history.shape == (limit, BATCH, STEPS) and whole.shape == (3, BATCH, STEPS)
        np.testing.assert_allclose(history[:3], whole, atol=1e-6)
        np.testing.assert_array_equal(history[3:], 0.0)
    assert np.any(expected[0][0] != expected[0][1])


def test_under_xla_without_a_limit_a_decoder_is_refused():
    wrapper = wrap(alignment_history=True)
    decoder = BasicDecoder(wrapper, TrainingSampler())
    call = tf.function(lambda x, m: decoder(x, memory=m)[0].rnn_output, jit_compile=True)
    with pytest.raises(ValueError, match="maximum_iterations"):
        call(normal(BATCH, 3, INPUT), normal(BATCH, STEPS, WIDTH))


# -- the state


def test_the_initial_state_is_zeros_for_the_batch_of_the_inputs():
    wrapper = wrap()
    memory = wrapper.prepare_memory(normal(BATCH, STEPS, WIDTH))
    state = wrapper.get_initial_state(inputs=np.ones([BATCH, INPUT], "float32"), memory=memory)
    shapes = [leaf.shape.as_list() for leaf in tf.nest.flatten(state)]
    assert shapes == [[BATCH, UNITS], [BATCH, 7], [BATCH, STEPS], [BATCH, STEPS]]
    assert not any(leaf.numpy().any() for leaf in tf.nest.flatten(state))
    half = wrapper.get_initial_state(batch_size=BATCH, dtype=tf.float16, memory=memory)
    assert {leaf.dtype for leaf in tf.nest.flatten(half)} == {tf.float16}


@pytest.mark.parametrize("batch_size", [BATCH, None])
def test_an_initial_cell_state_begins_the_state(batch_size):
    begin = normal(BATCH, UNITS)
    wrapper = wrap(initial_cell_state=tf.constant(begin))
    memory = wrapper.prepare_memory(normal(BATCH, STEPS, WIDTH))

    def first(batch_size):
        return wrapper.get_initial_state(batch_size=batch_size, memory=memory)

    for call in (first, tf.function(first, autograph=False)):
        state = call(batch_size if batch_size is None else tf.constant(batch_size))
        np.testing.assert_array_equal(state.cell_state, begin)
        assert state.attention.shape[-1] == 7
    with pytest.raises(ValueError, match="cannot be saved"):
        wrapper.get_config()


def test_a_state_needs_a_batch_size():
    wrapper = wrap()
    memory = wrapper.prepare_memory(normal(BATCH, STEPS, WIDTH))
    with pytest.raises(ValueError, match="batch_size"):
        wrapper.get_initial_state(memory=memory)


def test_clone_replaces_fields_and_checks_their_shapes():
    wrapper = wrap(CELLS["lstm"])
    memory = wrapper.prepare_memory(normal(BATCH, STEPS, WIDTH))
    state = wrapper.get_initial_state(batch_size=BATCH, memory=memory)
    encoder = [tf.ones([BATCH, UNITS]), tf.ones([BATCH, UNITS])]
    clone = state.clone(cell_state=encoder)
    assert isinstance(clone, AttentionWrapperState)
    np.testing.assert_array_equal(clone.cell_state[0], encoder[0])
    assert clone.attention is state.attention
    for wrong in ([tf.ones([BATCH, 3])] * 2, [tf.ones([5, UNITS])] * 2):
        with pytest.raises(ValueError, match="tile_batch"):
            state.clone(cell_state=wrong)
    with pytest.raises(ValueError):
        state.clone(cell_state=tf.ones([BATCH, UNITS]))  # an LSTM has two
    with pytest.raises(ValueError):
        state.clone(no_such_field=1)


def test_clone_takes_the_bare_state_that_a_gru_layer_returns():
    wrapper = wrap(CELLS["gru"])
    memory = wrapper.prepare_memory(normal(BATCH, STEPS, WIDTH))
    first = wrapper.get_initial_state(batch_size=BATCH, memory=memory)
    _, bare = keras.layers.GRU(UNITS, return_state=True)(normal(BATCH, 3, 2))
    state = first.clone(cell_state=bare)
    tf.nest.assert_same_structure(first, state)
    np.testing.assert_array_equal(tf.nest.flatten(state.cell_state)[0], bare)


def test_clone_checks_in_a_graph_what_it_cannot_know_before():
    wrapper = wrap()
    memory = wrapper.prepare_memory(normal(BATCH, STEPS, WIDTH))

    @tf.function(input_signature=[tf.TensorSpec([None, UNITS])], autograph=False)
    def clone(cell_state):
        state = wrapper.get_initial_state(batch_size=BATCH, memory=memory)
        return tf.nest.flatten(state.clone(cell_state=cell_state).cell_state)[0]

    assert clone(normal(BATCH, UNITS)).shape == (BATCH, UNITS)
    with pytest.raises(tf.errors.InvalidArgumentError, match="tile_batch"):
        clone(normal(2 * BATCH, UNITS))


@pytest.mark.parametrize("other", [CELLS["stacked_gru"], lambda: keras.layers.GRUCell(UNITS + 1)])
def test_a_state_of_another_wrapper_is_refused(other):
    wrapper, another = wrap(), wrap(other)
    memory = wrapper.prepare_memory(normal(BATCH, STEPS, WIDTH))
    state = another.get_initial_state(
        batch_size=BATCH, memory=another.prepare_memory(normal(BATCH, STEPS, WIDTH))
    )
    with pytest.raises(ValueError, match="cell_state.* must have"):
        wrapper(normal(BATCH, INPUT), state, memory=memory)
    state = wrap(size=3).get_initial_state(batch_size=BATCH, memory=memory)
    with pytest.raises(ValueError, match="attention of .* must have.*state of another cell"):
        wrapper(normal(BATCH, INPUT), state, memory=memory)


@pytest.mark.parametrize("rows", [BATCH + 1, 2 * BATCH + 1])
def test_a_state_for_another_batch_than_the_memorys_is_refused(rows):
    wrapper = wrap()
    memory = wrapper.prepare_memory(normal(BATCH, STEPS, WIDTH))
    with pytest.raises(tf.errors.InvalidArgumentError, match="beam_width"):
        wrapper.get_initial_state(batch_size=rows, memory=memory)


def test_a_foreign_state_is_refused():
    wrapper = wrap()
    memory = wrapper.prepare_memory(normal(BATCH, STEPS, WIDTH))
    with pytest.raises(TypeError, match="AttentionWrapperState"):
        wrapper(normal(BATCH, INPUT), [normal(BATCH, UNITS)], memory=memory)


@each_cell
def test_state_sizes_are_those_of_the_state(cell):
    wrapper = wrap(cell)
    assert wrapper.state_size.attention is None or wrapper.state_size.attention == 7
    wrapper.attention_mechanism.setup_memory(normal(BATCH, STEPS, WIDTH))
    state = wrapper.get_initial_state(batch_size=BATCH)
    sizes = tf.nest.flatten(wrapper.state_size)
    assert sizes == [leaf.shape[-1] for leaf in tf.nest.flatten(state)]


# -- refusals


def test_a_size_and_a_layer_exclude_each_other():
    with pytest.raises(ValueError, match="Only one of"):
        wrap(attention_layer=keras.layers.Dense(3))


@pytest.mark.parametrize("argument", ["attention_layer_size", "attention_layer"])
def test_there_is_one_attention_layer_for_each_mechanism(argument):
    one = 3 if argument == "attention_layer_size" else keras.layers.Dense(3)
    for mechanisms, given in ((1, [one, one]), (2, [one]), (2, one)):
        mechanisms = [LuongAttention(UNITS) for _ in range(mechanisms)]
        with pytest.raises(ValueError, match="exactly one entry per attention_mechanism"):
            AttentionWrapper(keras.layers.GRUCell(UNITS), mechanisms, **{argument: given})


def test_anything_that_cannot_be_a_part_is_refused():
    cell = keras.layers.GRUCell(UNITS)
    with pytest.raises(TypeError, match="AttentionMechanism"):
        AttentionWrapper(cell, keras.layers.Attention())
    for argument in ("cell_input_fn", "attention_fn"):
        with pytest.raises(TypeError, match=argument):
            wrap(**{argument: 3})
    for cell in (keras.layers.LSTM(UNITS), None):
        with pytest.raises(TypeError, match="RNN cell"):
            AttentionWrapper(cell, MECHANISMS["luong"](UNITS))


def test_a_step_without_a_memory_is_refused():
    wrapper = wrap()
    with pytest.raises(ValueError, match="setup_memory"):
        wrapper.get_initial_state(batch_size=BATCH)
    with pytest.raises(ValueError, match="memory"):
        wrapper.build((None, INPUT))


# -- graphs


@pytest.mark.parametrize("kind", ["lstm", "stacked_gru"])
def test_unknown_batch_and_unknown_length_work_in_a_graph(kind):
    wrapper = wrap(CELLS[kind], BahdanauAttention)

    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec([None, INPUT]),
            tf.TensorSpec([None, None, WIDTH]),
            tf.TensorSpec([None], tf.int32),
        ],
    )
    def step(inputs, values, lengths):
        memory = wrapper.prepare_memory(values, lengths)
        state = wrapper.get_initial_state(batch_size=tf.shape(inputs)[0], memory=memory)
        return wrapper(inputs, state, memory=memory)

    for batch, steps in ((2, 3), (3, 5)):
        inputs, values, lengths = normal(batch, INPUT), normal(batch, steps, WIDTH), [1] * batch
        output, state = step(inputs, values, lengths)
        memory = wrapper.prepare_memory(values, lengths)
        expected, _ = unroll(wrapper, inputs[:, None], memory)
        np.testing.assert_allclose(output, expected[:, 0], atol=1e-6)
        assert state.alignments.shape == (batch, steps)


# -- dropout


@each_cell
def test_dropout_is_drawn_in_training_alone(cell):
    wrapper = wrap(functools.partial(cell, dropout=0.5, recurrent_dropout=0.3))
    inputs = normal(BATCH, 3, INPUT)
    memory = wrapper.prepare_memory(normal(BATCH, STEPS, WIDTH))
    quiet, _ = unroll(wrapper, inputs, memory)
    again, _ = unroll(wrapper, inputs, memory, training=False)
    np.testing.assert_array_equal(quiet, again)
    wrapper.reset_dropout_mask()
    noisy, _ = unroll(wrapper, inputs, memory, training=True)
    assert (noisy != quiet).any()
    wrapper.reset_dropout_mask()


# -- inside of keras.layers.RNN


@keras.saving.register_keras_serializable("tests")
class Reader(keras.Model):
    """The way of tfa.seq2seq: a memory is bound in the same call in which the RNN reads it."""

    def __init__(self, kind="gru", dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.kind, self.rate = kind, dropout
        self.encoder = keras.layers.GRU(WIDTH, return_sequences=True)
        self.mechanism = BahdanauAttention(UNITS)
        wrapper = AttentionWrapper(CELLS[kind](dropout=dropout), self.mechanism, 7)
        self.decoder = keras.layers.RNN(wrapper, return_sequences=True)
        self.head = keras.layers.Dense(4)

    def call(self, inputs, training=None):
        source, target, lengths = inputs
        self.mechanism([self.encoder(source), lengths], setup_memory=True)
        return self.head(self.decoder(target, training=training))

    def get_config(self):
        return {**super().get_config(), "kind": self.kind, "dropout": self.rate}


def batch_of(rows, steps=STEPS):
    lengths = np.random.randint(1, steps + 1, rows).astype("int32")
    return normal(rows, steps, 3), normal(rows, 5, INPUT), lengths


@each_cell
def test_the_wrapper_in_an_rnn_takes_the_same_steps(cell):
    wrapper = wrap(cell, BahdanauAttention)
    values, inputs = normal(BATCH, STEPS, WIDTH), normal(BATCH, 4, INPUT)
    wrapper.attention_mechanism.setup_memory(values, [6, 2])
    found, *state = keras.layers.RNN(wrapper, return_sequences=True, return_state=True)(inputs)
    expected, last = unroll(wrapper, inputs, None)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    for one, other in zip(tf.nest.flatten(state), tf.nest.flatten(last)):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("kind", [pytest.param("gru", marks=pytest.mark.full), "stacked_lstm"])
@pytest.mark.full
def test_an_rnn_with_dropout_learns_in_fit_and_answers_another_batch(kind):
    model = Reader(kind, dropout=0.2)
    x, y = batch_of(8), np.zeros((8, 5), "int32")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.1), loss, jit_compile=False)
    history = model.fit(x, y, batch_size=3, epochs=2, verbose=0)  # the last batch has two rows
    assert np.isfinite(history.history["loss"]).all()
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert model.predict(batch_of(5), verbose=0).shape == (5, 5, 4)
    assert model(batch_of(3, steps=2)).shape == (3, 5, 4)  # eager, after a graph bound its memory


def test_a_query_of_a_memory_that_a_finished_graph_had_bound_is_refused():
    model = Reader()
    model.predict(batch_of(2), verbose=0)
    with pytest.raises(ValueError, match="setup_memory"):
        model.decoder(normal(2, 5, INPUT))


def test_a_model_that_holds_a_wrapper_survives_saving(tmp_path):
    model, x = Reader("stacked_lstm"), batch_of(3)
    expected = model(x)
    model.save(tmp_path / "reader.keras")
    copy = keras.saving.load_model(tmp_path / "reader.keras")
    np.testing.assert_array_equal(copy(x), expected)


@keras3("an RNN of Keras 2 carries a TensorArray")
def test_a_history_inside_of_an_rnn_is_refused():
    wrapper = wrap(alignment_history=True)
    wrapper.attention_mechanism.setup_memory(normal(BATCH, STEPS, WIDTH))
    with pytest.raises(ValueError, match="TensorArray"):
        keras.layers.RNN(wrapper)(normal(BATCH, 4, INPUT))


@pytest.mark.parametrize("several", [False, True])
def test_a_tensorflow_checkpoint_holds_every_weight(several, tmp_path):
    def make():
        mechanism = MECHANISMS["bahdanau"](UNITS)
        other = MECHANISMS["luong"](UNITS)
        sizes = [3, 4] if several else 3
        wrapper = AttentionWrapper(
            CELLS["gru"](), [mechanism, other] if several else mechanism, sizes
        )
        memory = wrapper.prepare_memory(tf.ones([BATCH, STEPS, WIDTH]))
        return wrapper, unroll(wrapper, np.ones((BATCH, 2, INPUT), "float32"), memory)[0]

    wrapper, expected = make()
    path = tf.train.Checkpoint(wrapper=wrapper).write(str(tmp_path / "checkpoint"))
    saved = [name for name, _ in tf.train.list_variables(path) if "VARIABLE_VALUE" in name]
    assert len([n for n in saved if "save_counter" not in n]) >= len(wrapper.trainable_weights)
    copy, _ = make()
    tf.train.Checkpoint(wrapper=copy).read(path)
    memory = copy.prepare_memory(tf.ones([BATCH, STEPS, WIDTH]))
    found, _ = unroll(copy, np.ones((BATCH, 2, INPUT), "float32"), memory)
    np.testing.assert_array_equal(found, expected)


def test_a_config_makes_the_same_wrapper():
    mechanisms = [LuongAttention(UNITS, scale=True), BahdanauAttention(UNITS, normalize=True)]
    layers = [keras.layers.Dense(3, "tanh"), keras.layers.Dense(2, "relu")]
    wrapper = AttentionWrapper(
        keras.layers.LSTMCell(UNITS), mechanisms, attention_layer=layers, output_attention=False
    )
    inputs, values = normal(BATCH, 2, INPUT), normal(BATCH, STEPS, WIDTH)
    expected, _ = unroll(wrapper, inputs, wrapper.prepare_memory(values))
    copy = AttentionWrapper.from_config(wrapper.get_config())
    copy.build_from_config(wrapper.get_build_config())
    copy.set_weights(wrapper.get_weights())
    found, _ = unroll(copy, inputs, copy.prepare_memory(values))
    np.testing.assert_array_equal(found, expected)
