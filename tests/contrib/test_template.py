"""A function that makes its layers at every call has one set of weights all the same."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.contrib import make_template, rnn, seq2seq
from keras_attention.contrib.template import in_template


def normal(*shape):
    return tf.random.normal(shape)


def project(x):
    hidden = keras.layers.Dense(4, activation="tanh")(x)
    return keras.layers.Dense(3)(hidden)


def test_later_calls_take_the_weights_of_the_first():
    template, x = make_template("project", project), normal(2, 5)
    np.testing.assert_array_equal(template(x), template(x))
    assert [tuple(v.shape) for v in template.trainable_variables] == [(5, 4), (4,), (4, 3), (3,)]
    assert not np.array_equal(project(x), template(x))


def test_a_change_of_a_variable_is_seen():
    template, x = make_template("project", project), normal(2, 5)
    template(x)
    for variable in template.variables:
        variable.assign(tf.zeros_like(variable))
    assert not template(x).numpy().any()


@pytest.mark.parametrize("first", ["eager", "graph"])
def test_eager_calls_and_graphs_share_them(first):
    template, x = make_template("project", project), normal(2, 5)
    traces = []

    @tf.function
    def run(x):
        traces.append(1)
        return template(x)

    outputs = {}
    for kind in ("eager", "graph") if first == "eager" else ("graph", "eager"):
        outputs[kind] = (template if kind == "eager" else run)(x)
    np.testing.assert_allclose(outputs["graph"], outputs["eager"], rtol=1e-6, atol=1e-7)
    before = len(traces)
    np.testing.assert_allclose(run(tf.concat([x, x], 0))[:2], outputs["eager"], rtol=1e-5)
    assert len(traces) == before + 1 and len(template.variables) == 4


def test_layers_that_are_born_in_a_loop_are_shared():
    def loop(x):
        layer = keras.layers.Dense(3)
        return tf.while_loop(lambda i, x: i < 2, lambda i, x: (i + 1, layer(x)), (0, x))[1]

    template, x = make_template("loop", loop), normal(2, 3)
    run = tf.function(template)
    np.testing.assert_allclose(run(x), template(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(run(x[:1]), template(x)[:1], rtol=1e-5, atol=1e-6)
    assert len(template.variables) == 2


def test_variables_of_any_kind_are_shared():
    def function(x):
        first = tf.Variable(tf.random.normal([3]))
        second = tf.compat.v1.get_variable("second", [3])
        fixed = tf.Variable([2.0], trainable=False)
        return x * first * second * fixed

    template = make_template("kinds", function)
    np.testing.assert_array_equal(template(1.0), template(1.0))
    assert len(template.variables) == 3 and len(template.trainable_variables) == 2


def test_one_more_variable_than_at_first_is_refused():
    def function(x, more):
        x = keras.layers.Dense(3)(x)
        return keras.layers.Dense(3)(x) if more else x

    x = normal(2, 3)
    template = make_template("growing", function)
    template(x, more=False)
    with pytest.raises(ValueError, match="'growing' made another variable.*'kernel'"):
        template(x, more=True)
    template = make_template("shrinking", function)
    template(x, more=True)
    assert template(x, more=False).shape == (2, 3)


def test_a_first_call_that_fails_may_be_made_again():
    def function(x, fail):
        x = keras.layers.Dense(3)(x)
        if fail:
            raise RuntimeError
        return keras.layers.Dense(3)(x)

    template, x = make_template("failing", function), normal(2, 3)
    with pytest.raises(RuntimeError):
        template(x, fail=True)
    assert not in_template()
    assert template(x, fail=False).shape == (2, 3) and len(template.variables) == 4


def test_two_templates_of_one_function_have_weights_of_their_own():
    x = normal(2, 5)
    assert not np.array_equal(make_template("a", project)(x), make_template("b", project)(x))


def test_reuse_is_allowed_where_weights_are_reused():
    def function(x, reuse):
        cell = rnn.LSTMCell(3, reuse=reuse)
        return cell(x, cell.zero_state(2, tf.float32))[0]

    template, x = make_template("reusing", function), normal(2, 5)
    np.testing.assert_array_equal(template(x, None), template(x, True))


@pytest.mark.parametrize("optimizer", [keras.optimizers.Adam, tf.compat.v1.train.AdamOptimizer])
def test_optimizers_train_a_template(optimizer):
    template, optimizer = make_template("trained", project), optimizer(0.1)
    x, y = normal(8, 5), normal(8, 3)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(template(x) - y))
        slopes = tape.gradient(loss, template.trainable_variables)
        optimizer.apply_gradients(list(zip(slopes, template.trainable_variables)))
        return loss

    first = float(step())
    for _ in range(20):
        last = float(step())
    assert last < 0.5 * first


@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "graph"])
def test_get_variable_gives_each_template_its_own_and_every_call_the_same(wrap):
    def function(x):
        with tf.compat.v1.variable_scope("scope"):
            return tf.matmul(x, tf.compat.v1.get_variable("weights", [3, 2]))

    templates = [make_template(name, function) for name in ("first", "second")]
    first, second = (wrap(template) for template in templates)
    expected = first(tf.ones([1, 3]))
    np.testing.assert_array_equal(first(tf.ones([2, 3])), tf.repeat(expected, 2, axis=0))
    second(tf.ones([1, 3]))
    assert [len(template.variables) for template in templates] == [1, 1]
    templates[1].variables[0].assign(tf.zeros([3, 2]))
    np.testing.assert_array_equal(first(tf.ones([1, 3])), expected)
    np.testing.assert_array_equal(second(tf.ones([1, 3])), tf.zeros([1, 2]))


class MakesLayers(rnn.RNNCell):
    """A cell whose call makes its layers, beside one that is made once."""

    state_size = output_size = 3

    def __init__(self):
        super().__init__()
        self.once = keras.layers.Dense(3, activation="tanh")

    def call(self, inputs, state):
        hidden = self.once(tf.concat([inputs, state], -1))
        for _ in range(2):
            hidden = keras.layers.Dense(3)(hidden)
        return hidden, hidden


def decoded(x):
    cell = MakesLayers()
    helper = seq2seq.TrainingHelper(x, tf.fill([2], 4))
    start = cell.zero_state(2, tf.float32)
    decoder = seq2seq.BasicDecoder(cell, helper, start, keras.layers.Dense(2))
    return seq2seq.dynamic_decode(decoder)[0].rnn_output


def encoded(x):
    inner = [keras.layers.Dense(4), MakesLayers(), MakesLayers()]
    outputs, _ = tf.compat.v1.nn.dynamic_rnn(inner[1], inner[0](x), tf.fill([2], 4), dtype=x.dtype)
    outputs, _ = tf.compat.v1.nn.dynamic_rnn(inner[2], outputs, dtype=x.dtype)
    return keras.layers.Dense(2)(outputs)


@pytest.mark.parametrize("first", ["eager", "graph"])
@pytest.mark.parametrize("function, count", [(decoded, 8), (encoded, 16)])
def test_what_a_cell_makes_at_every_step_of_a_loop_is_made_once(function, count, first):
    template, x = make_template("loop", function), normal(2, 4, 3)
    compiled = tf.function(template)
    outputs = [run(x) for run in (template, compiled)[:: 1 if first == "eager" else -1]]
    np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-6)
    assert len(template.variables) == count
    assert len({id(variable) for variable in template.variables}) == count
