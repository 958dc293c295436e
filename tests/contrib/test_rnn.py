"""The cells of contrib: their states, their initial weights, and the wrappers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.contrib import rnn, seq2seq

N, D, U, T = 2, 3, 4, 5

CELLS = {
    "lstm": lambda: rnn.LSTMCell(U),
    "basic_lstm": lambda: rnn.BasicLSTMCell(U),
    "joined_lstm": lambda: rnn.LSTMCell(U, state_is_tuple=False),
    "gru": lambda: rnn.GRUCell(U),
    "basic_rnn": lambda: rnn.BasicRNNCell(U),
    "multi": lambda: rnn.MultiRNNCell([rnn.LSTMCell(U), rnn.ResidualWrapper(rnn.GRUCell(U))]),
    "dropout": lambda: rnn.DropoutWrapper(rnn.GRUCell(U), 1.0, 1.0, 1.0),
}


def normal(*shape):
    return tf.random.normal(shape)


def ones_out(keep_prob, **options):
    """A cell of ones, under dropout: what is dropped and what is scaled can be read off."""

    class Ones(rnn.RNNCell):
        state_size = rnn.LSTMStateTuple(U, U)
        output_size = U

        def call(self, inputs, state):
            ones = tf.ones([tf.shape(inputs)[0], U])
            return ones * tf.reduce_max(inputs), rnn.LSTMStateTuple(ones, ones)

    names = ("input_keep_prob", "output_keep_prob", "state_keep_prob")
    given = {name: keep_prob for name in names if name in options.pop("which", names)}
    return rnn.DropoutWrapper(Ones(), **given, **options)


# -- states


@pytest.mark.parametrize("kind", CELLS)
def test_a_step_gives_an_output_and_a_state_like_zero_state(kind):
    cell = CELLS[kind]()
    zeros = cell.zero_state(N, tf.float32)
    output, state = cell(normal(N, D if kind != "multi" else U), zeros)
    assert output.shape == (N, cell.output_size)
    tf.nest.assert_same_structure(zeros, state)
    for old, new in zip(tf.nest.flatten(zeros), tf.nest.flatten(state), strict=True):
        assert old.shape == new.shape and old.dtype == new.dtype
        assert not old.numpy().any() and new.numpy().any()


def test_the_state_of_an_lstm_is_c_and_h_where_keras_has_h_and_c():
    cell, x = rnn.LSTMCell(U), normal(N, D)
    c, h = normal(N, U), normal(N, U)
    output, state = cell(x, rnn.LSTMStateTuple(c, h))
    _, (keras_h, keras_c) = cell.cell(x, [h, c])
    np.testing.assert_array_equal(state.c, keras_c)
    np.testing.assert_array_equal(state.h, keras_h)
    np.testing.assert_array_equal(output, keras_h)
    assert state.dtype == tf.float32


def test_a_joined_state_holds_c_before_h():
    joined = rnn.BasicLSTMCell(U, state_is_tuple=False)
    x, c, h = normal(N, D), normal(N, U), normal(N, U)
    _, state = joined(x, tf.concat([c, h], 1))
    _, (new_h, new_c) = joined.cell(x, [h, c])
    np.testing.assert_array_equal(state, tf.concat([new_c, new_h], 1))


def test_a_state_of_mixed_types_has_no_type():
    with pytest.raises(TypeError, match="float64"):
        _ = rnn.LSTMStateTuple(tf.zeros([]), tf.zeros([], tf.float64)).dtype


@pytest.mark.parametrize("kind", CELLS)
def test_zeros_for_a_batch_that_is_known_only_when_it_runs(kind):
    cell = CELLS[kind]()

    @tf.function(input_signature=[tf.TensorSpec([None, U])])
    def step(x):
        state = cell.zero_state(tf.shape(x)[0], tf.float32)
        assert all(leaf.shape[1] is not None for leaf in tf.nest.flatten(state))
        return cell(x, state)

    for rows in (1, 3):
        output, state = step(tf.ones([rows, U]))
        assert {leaf.shape[0] for leaf in tf.nest.flatten([output, state])} == {rows}


def test_cells_of_one_type_compute_in_it():
    cell = rnn.MultiRNNCell([rnn.LSTMCell(U, dtype="float64"), rnn.GRUCell(U, dtype="float64")])
    output, state = cell(tf.ones([N, D], tf.float64), cell.zero_state(N, tf.float64))
    assert {leaf.dtype for leaf in tf.nest.flatten([output, state])} == {tf.float64}


# -- weights


def test_first_weights_are_drawn_as_contribs_one_matrix():
    cell = rnn.LSTMCell(50, forget_bias=0.3)
    cell.build((None, 30))
    limit = np.sqrt(6 / (30 + 50 + 4 * 50))  # Glorot's, of a matrix [D + units, 4 units]
    for kernel in (cell.cell.kernel, cell.cell.recurrent_kernel):
        assert 0.95 * limit < np.abs(kernel.numpy()).max() <= limit
    assert not np.array_equal(cell.cell.kernel[:30], cell.cell.recurrent_kernel[:30])
    np.testing.assert_allclose(cell.cell.bias, np.repeat([0, 0.3, 0, 0], 50))


def test_an_initializer_that_several_cells_share_draws_for_each():
    shared = keras.initializers.RandomUniform(-0.1, 0.1)
    cells = [rnn.LSTMCell(U, initializer=shared) for _ in range(2)]
    first, second = (cell(normal(N, D), cell.zero_state(N, "float32")) and cell for cell in cells)
    assert not np.array_equal(first.cell.kernel, second.cell.kernel)
    assert np.abs(first.cell.kernel.numpy()).max() <= 0.1


def test_an_initializer_of_tensorflow_1_is_taken():
    cell = rnn.GRUCell(U, kernel_initializer=tf.compat.v1.constant_initializer(0.25))
    cell.build((None, D))
    np.testing.assert_array_equal(cell.cell.recurrent_kernel, np.full([U, 3 * U], 0.25))


def test_weights_are_made_once():
    cell = CELLS["multi"]()
    for _ in range(2):
        cell(normal(N, U), cell.zero_state(N, tf.float32))
        assert len(cell.trainable_weights) == 6


def test_weights_survive_a_checkpoint(tmp_path):
    x = normal(N, U)
    before, after = CELLS["multi"](), CELLS["multi"]()
    expected, _ = before(x, before.zero_state(N, tf.float32))
    path = tf.train.Checkpoint(cell=before).save(str(tmp_path / "cell"))
    after(x, after.zero_state(N, tf.float32))
    tf.train.Checkpoint(cell=after).restore(path).expect_partial()
    np.testing.assert_array_equal(after(x, after.zero_state(N, tf.float32))[0], expected)


# -- what contrib could and this cannot


@pytest.mark.parametrize(
    "asked", [{"use_peepholes": True}, {"num_proj": 3}, {"cell_clip": 1.0}, {"proj_clip": 1.0}]
)
def test_an_lstm_rejects_options_that_keras_lstm_does_not_have(asked):
    with pytest.raises(ValueError, match="subclass of RNNCell.*Received: .*" + list(asked)[0]):
        rnn.LSTMCell(U, **asked)


def test_reuse_points_to_make_template():
    with pytest.raises(ValueError, match="make_template"):
        rnn.GRUCell(U, reuse=True)
    rnn.GRUCell(U, reuse=False)


def test_a_device_wrapper_points_to_tf_device():
    with pytest.raises(NotImplementedError, match=r"with tf.device\('/cpu:0'\)"):
        rnn.DeviceWrapper(rnn.GRUCell(U), "/cpu:0")


def test_no_cells_are_no_cell():
    with pytest.raises(ValueError, match="at least one cell"):
        rnn.MultiRNNCell([])
    with pytest.raises(ValueError, match="state_is_tuple=False needs cells"):
        rnn.MultiRNNCell([rnn.LSTMCell(U)], state_is_tuple=False)


# -- other hosts


def test_dynamic_rnn_stops_where_a_row_ends():
    cell, x = CELLS["multi"](), normal(N, T, U)
    outputs, state = tf.compat.v1.nn.dynamic_rnn(cell, x, sequence_length=[T, 2], dtype=tf.float32)
    expected, short = tf.compat.v1.nn.dynamic_rnn(cell, x[1:, :2], dtype=tf.float32)
    np.testing.assert_allclose(outputs[1, :2], expected[0], rtol=1e-5, atol=1e-6)
    assert not outputs[1, 2:].numpy().any()
    np.testing.assert_allclose(state[0].c[1], short[0].c[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", CELLS)
def test_keras_rnn_runs_a_cell(kind):
    cell, x = CELLS[kind](), normal(N, T, U)
    outputs, *states = keras.layers.RNN(cell, return_sequences=True, return_state=True)(x)
    expected, state = tf.compat.v1.nn.dynamic_rnn(cell, x, dtype=tf.float32)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    for one, other in zip(tf.nest.flatten(states), tf.nest.flatten(state), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_stack_takes_a_cell_of_keras():
    cell = rnn.MultiRNNCell([keras.layers.LSTMCell(U), rnn.GRUCell(U)])
    output, state = cell(normal(N, D), cell.zero_state(N, tf.float32))
    assert output.shape == (N, U) and len(state[0]) == 2


def test_a_stack_may_be_called_in_another_way():
    """As in GNMT: every cell but the lowest also sees the attention of the lowest."""

    class Gnmt(rnn.MultiRNNCell):
        def call(self, inputs, state):
            attention, lowest = self.cells[0](inputs, state[0])
            output, upper = self.cells[1](tf.concat([attention, attention], -1), state[1])
            return output, (lowest, upper)

        def build(self, input_shape):
            self.built = True  # the cells know best, at their first call

    cell = Gnmt([rnn.GRUCell(U), rnn.GRUCell(U)])
    output, state = cell(normal(N, D), cell.zero_state(N, tf.float32))
    assert output.shape == (N, U) and cell.cells[1].cell.kernel.shape == (2 * U, 3 * U)


def test_a_step_compiles():
    cell = rnn.MultiRNNCell([CELLS["lstm"](), rnn.DropoutWrapper(rnn.GRUCell(U), 1.0)])
    x, state = normal(N, D), cell.zero_state(N, tf.float32)
    expected = cell(x, state)
    found = tf.function(cell, jit_compile=True)(x, state)
    for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


# -- residual cells


def test_a_residual_cell_adds_its_inputs():
    inner = rnn.GRUCell(U)
    x, state = normal(N, U), normal(N, U)
    expected, expected_state = inner(x, state)
    output, new_state = rnn.ResidualWrapper(inner)(x, state)
    np.testing.assert_allclose(output, expected + x, rtol=1e-6)
    np.testing.assert_array_equal(new_state, expected_state)


def test_a_residual_cell_wants_inputs_as_wide_as_its_output():
    cell = rnn.ResidualWrapper(rnn.GRUCell(U))
    with pytest.raises(ValueError, match="shape of its inputs"):
        cell(normal(N, D), cell.zero_state(N, tf.float32))


# -- dropout


def test_what_is_kept_is_scaled_and_the_memory_of_an_lstm_is_never_dropped():
    cell = ones_out(0.25)
    output, state = cell(tf.ones([100, 8]), cell.zero_state(100, tf.float32))
    assert set(np.unique(state.c)) == {1.0}
    assert set(np.unique(state.h)) == {0.0, 4.0}
    assert set(np.unique(output)) == {0.0, 16.0}  # of inputs that were 4
    assert abs((state.h.numpy() > 0).mean() - 0.25) < 0.1


def test_dropout_goes_by_keep_prob_alone():
    cell = ones_out(0.5, which=("output_keep_prob",))
    for training in (None, False, True):
        output, _ = cell(tf.ones([100, U]), cell.zero_state(100, tf.float32), training=training)
        assert set(np.unique(output)) == {0.0, 2.0}


def test_a_variable_is_read_at_every_step():
    keep_prob = tf.Variable(1.0, trainable=False)
    cell = ones_out(keep_prob)
    step = tf.function(lambda: cell(tf.ones([50, U]), cell.zero_state(50, tf.float32))[0])
    assert set(np.unique(step())) == {1.0}
    keep_prob.assign(0.5)
    assert set(np.unique(step())) == {0.0, 4.0}


def test_every_step_draws_again():
    cell = ones_out(0.5, which=("output_keep_prob",))
    x, state = tf.ones([10, U]), cell.zero_state(10, tf.float32)
    assert not np.array_equal(cell(x, state)[0], cell(x, state)[0])


def test_a_seed_repeats_the_draws_and_parts_them():
    def draws():
        tf.random.set_seed(3)
        cell = ones_out(0.5, which=("output_keep_prob", "state_keep_prob"), seed=7)
        output, state = cell(tf.ones([50, U]), cell.zero_state(50, tf.float32))
        return output.numpy(), state.h.numpy()

    output, state = draws()
    np.testing.assert_array_equal(output, draws()[0])
    assert not np.array_equal(output, state)


def test_a_filter_selects_the_parts_of_a_state_that_get_dropout():
    def only_c(state):
        is_lstm = isinstance(state, rnn.LSTMStateTuple)
        return rnn.LSTMStateTuple(c=True, h=False) if is_lstm else True

    cell = ones_out(0.5, which=("state_keep_prob",), dropout_state_filter_visitor=only_c)
    _, state = cell(tf.ones([50, U]), cell.zero_state(50, tf.float32))
    assert set(np.unique(state.c)) == {0.0, 2.0} and set(np.unique(state.h)) == {1.0}


@pytest.mark.parametrize("keep_prob", [-0.1, 1.5, np.float32(2.0)])
def test_a_keep_prob_outside_of_0_and_1_is_refused(keep_prob):
    with pytest.raises(ValueError, match="output_keep_prob must be between 0 and 1"):
        rnn.DropoutWrapper(rnn.GRUCell(U), output_keep_prob=keep_prob)


def test_variational_dropout_needs_a_type_and_the_width_of_inputs_it_drops():
    with pytest.raises(ValueError, match="needs dtype"):
        rnn.DropoutWrapper(rnn.GRUCell(U), variational_recurrent=True)
    with pytest.raises(ValueError, match="needs input_size"):
        rnn.DropoutWrapper(
            rnn.GRUCell(U), input_keep_prob=0.5, variational_recurrent=True, dtype=tf.float32
        )


def variational(which=("output_keep_prob",)):
    return ones_out(0.5, which=which, variational_recurrent=True, dtype=tf.float32, input_size=8)


def decode(cell, rows=N, **options):
    helper = seq2seq.TrainingHelper(tf.ones([rows, T, 8]), tf.fill([rows], T))
    decoder = seq2seq.BasicDecoder(cell, helper, cell.zero_state(rows, tf.float32))
    return seq2seq.dynamic_decode(decoder, **options)[0].rnn_output


@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "inside"])
@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_a_decoding_has_one_variational_mask_and_the_next_one_another(graph, wrapped):
    cell = variational()
    if wrapped:
        cell = rnn.MultiRNNCell([rnn.DropoutWrapper(cell, 1.0)])
    run = tf.function(decode) if graph else decode
    masks = []
    for rows in (N, N, N, 3, N, N):  # another batch size in between: another trace
        outputs = run(cell, rows=rows).numpy()
        assert set(np.unique(outputs)) <= {0.0, 2.0}
        assert (outputs == outputs[:1, :1]).all()  # the same for all steps, and rows
        masks.append(tuple(outputs[0, 0]))
    assert len(set(masks)) > 1
    decode(cell)  # nothing of a graph is left behind


def test_without_a_decoder_the_first_step_draws_and_zero_state_begins_again():
    cell, masks = variational(), []
    for _ in range(8):
        state = cell.zero_state(N, tf.float32)
        steps = [cell(tf.ones([N, 8]), state)[0].numpy() for _ in range(3)]
        assert all(np.array_equal(step, steps[0]) for step in steps)
        masks.append(tuple(steps[0][0]))
    assert len(set(masks)) > 1


def test_variational_masks_reach_inputs_and_states():
    cell = variational(("input_keep_prob", "state_keep_prob"))
    state = cell.zero_state(N, tf.float32)
    _, first = cell(tf.ones([N, 8]), state)
    _, second = cell(tf.ones([N, 8]), state)
    assert set(np.unique(first.h)) <= {0.0, 2.0} and set(np.unique(first.c)) == {1.0}
    np.testing.assert_array_equal(first.h, second.h)


def test_a_decoding_with_dropout_compiles():
    cell = variational()
    run = tf.function(lambda: decode(cell, maximum_iterations=T), jit_compile=True)
    outputs = run().numpy()
    assert (outputs == outputs[:1, :1]).all()


# -- where a sequence begins


def outputs_of(run):
    """Masks of eight sequences, each of which has one for all its steps: [8, width]."""
    masks = []
    for _ in range(8):
        outputs = np.asarray(run())  # [N, T, width]
        assert (outputs == outputs[:1, :1]).all()
        masks.append(outputs[0, 0])
    return np.array(masks)


def are_drawn_anew(masks):
    return len(np.unique(masks, axis=0)) > 1


def of_dynamic_rnn(cell):
    """Every sequence goes on from the state of the one before."""
    states = [cell.zero_state(N, tf.float32)]

    def run():
        outputs, state = tf.compat.v1.nn.dynamic_rnn(
            cell, tf.ones([N, T, 8]), tf.fill([N], T), initial_state=states[-1]
        )
        states.append(state)
        return outputs

    return run


def of_keras(cell):
    states = [cell.zero_state(N, tf.float32)]
    layer = keras.layers.RNN(cell, return_sequences=True, return_state=True)

    def run():
        outputs, *state = layer(tf.ones([N, T, 8]), initial_state=list(states[-1]))
        states.append(state)
        return outputs

    return run


def of_a_function(cell):
    state = cell.zero_state(N, tf.float32)

    @tf.function
    def run(state):
        outputs, state = tf.compat.v1.nn.dynamic_rnn(cell, tf.ones([N, T, 8]), initial_state=state)
        return outputs

    return lambda: run(state)


def of_steps_in_a_function(cell):
    state = cell.zero_state(N, tf.float32)

    @tf.function(autograph=False)
    def run(state):
        outputs = []
        for _ in range(T):
            output, state = cell(tf.ones([N, 8]), state)
            outputs.append(output)
        return tf.stack(outputs, 1)

    return lambda: run(state)


def by_steps(cell, states):
    """Steps that are called one by one, from given states."""
    states = iter(states)

    def run():
        state, outputs = next(states), []
        for _ in range(T):
            output, state = cell(tf.ones([N, 8]), state)
            outputs.append(output)
        return tf.stack(outputs, 1)

    return run


def given(count):
    return [rnn.LSTMStateTuple(tf.zeros([N, U]), tf.zeros([N, U])) for _ in range(count)]


def of_steps_from_one_state(cell):
    return by_steps(cell, given(1) * 8)


def of_steps_from_other_states(cell):
    return by_steps(cell, [cell.zero_state(N, tf.float32), *given(7)])


RUNS = [of_dynamic_rnn, of_keras, of_a_function, of_steps_in_a_function]
RUNS += [of_steps_from_one_state, of_steps_from_other_states]


@pytest.mark.parametrize("make", RUNS, ids=lambda make: make.__name__)
def test_every_sequence_from_a_given_state_has_a_variational_mask_of_its_own(make):
    assert are_drawn_anew(outputs_of(make(variational())))


@pytest.mark.parametrize("make", [of_dynamic_rnn, of_a_function], ids=lambda make: make.__name__)
def test_a_variational_mask_inside_of_other_cells_belongs_to_one_sequence(make):
    class Around(rnn.RNNCell):
        def __init__(self, cell):
            super().__init__()
            self.cell = cell

        state_size = property(lambda self: self.cell.state_size)
        output_size = property(lambda self: self.cell.output_size)

        def zero_state(self, batch_size, dtype):
            return self.cell.zero_state(batch_size, dtype)

        def call(self, inputs, state):
            return self.cell(inputs, state)

    assert are_drawn_anew(outputs_of(make(Around(rnn.DropoutWrapper(variational(), 1.0)))))


def test_a_state_that_is_carried_by_hand_needs_a_word_that_a_sequence_begins():
    cell = variational()
    masks, state = [], cell.zero_state(N, tf.float32)
    for _ in range(8):
        cell.draw_masks()
        outputs = []
        for _ in range(T):
            output, state = cell(tf.ones([N, 8]), tf.nest.map_structure(tf.identity, state))
            outputs.append(output)
        assert all(np.array_equal(output, outputs[0]) for output in outputs)
        masks.append(outputs[0][0])
    assert are_drawn_anew(masks)


def test_states_that_a_search_reorders_at_every_step_stay_in_their_sequence():
    cell, (state,) = variational(), given(1)
    outputs = []
    for _ in range(T):
        output, state = cell(tf.ones([N, 8]), state)
        state = tf.nest.map_structure(lambda x: tf.gather(x, [1, 0, *range(2, N)]), state)
        outputs.append(output)
    assert all(np.array_equal(output, outputs[0]) for output in outputs)


def test_a_cell_that_was_first_called_in_a_function_runs_anywhere_else():
    cell, (state,) = variational(), given(1)
    step = tf.function(lambda x, state: cell(x, state)[0])
    step(tf.ones([N, 8]), state)
    assert cell(tf.ones([N, 8]), state)[0].shape == (N, U)
    other = tf.function(lambda x, state: cell(x, state)[0], jit_compile=True)
    assert other(tf.ones([N, 8]), state).shape == (N, U)
    assert decode(cell).shape == (N, T, U)


def test_one_function_does_not_take_the_mask_of_another():
    cell, (state,) = variational(), given(1)

    @tf.function
    def outer(x, state):
        first = cell(x, state)[0]
        inner(x, state)
        return first, cell(x, state)[0]

    @tf.function
    def inner(x, state):
        return cell(x, state)[0]

    for _ in range(3):
        first, second = outer(tf.ones([N, 8]), state)
        np.testing.assert_array_equal(first, second)
