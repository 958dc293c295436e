"""A run that was killed and started again ends with the same bits."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.layers import TransformerStack
from keras_attention.training import Resume

X = np.random.default_rng(0).integers(1, 9, [22, 5])
Y = X.sum(1, keepdims=True) % 7
VALID = (X[:8], Y[:8])


def make_epoch(epoch, batch):
    order = np.random.default_rng([3, epoch]).permutation(len(X))
    return tf.data.Dataset.from_tensor_slices((X[order], Y[order])).batch(4).skip(batch)


class Body(keras.layers.Layer):
    """Drops out with the generator that all such layers share."""

    def call(self, x, training=False):
        return keras.random.dropout(x, 0.2) if training else x


def rnn():
    return [
        keras.layers.Embedding(9, 4),
        Body(),
        keras.layers.SimpleRNN(4, dropout=0.2, recurrent_dropout=0.2),
    ]


def transformer():
    return [
        keras.layers.Embedding(9, 4),
        TransformerStack(1, 2, 8, dropout=0.3),
        keras.layers.GlobalAveragePooling1D(),
    ]


def small():
    return [keras.layers.Embedding(9, 3), keras.layers.GlobalAveragePooling1D()]


def fresh(body=small, policy="float32", **compiled):
    keras.utils.set_random_seed(1)
    keras.config.set_dtype_policy(policy)
    try:
        top = [keras.layers.Dropout(0.3), keras.layers.Dense(7, "softmax", dtype="float32")]
        model = keras.Sequential([keras.Input((5,), dtype="int32"), *body(), *top])
        optimizer = keras.optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=3)
        if policy == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, dynamic_growth_steps=4)
        settings = {"optimizer": optimizer, "loss": "sparse_categorical_crossentropy", **compiled}
        model.compile(metrics=["accuracy"], **settings)
    finally:
        keras.config.set_dtype_policy("float32")
    return model


MODELS: dict = {}


def build(body=small, policy="float32", **compiled):
    """A model as it was made, but without compiling its step again."""
    key = str((body, policy, compiled))
    if key not in MODELS:
        model = fresh(body, policy, **compiled)
        model.optimizer.build(model.trainable_variables)
        MODELS[key] = model, state(model)
    model, first = MODELS[key]
    for variable, value in zip([*model.variables, *model.optimizer.variables], first):
        variable.assign(value)
    keras.utils.set_random_seed(1)
    return model


def listeners():
    return [
        keras.callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau(
            "val_loss", factor=0.5, patience=1, cooldown=1, min_delta=0.5
        ),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.9 * rate),
    ]


class Killed(Exception):
    pass


class Kill(keras.callbacks.Callback):
    """Raises after a step, as late as the process may be killed."""

    def __init__(self, step, signal=None):
        super().__init__()
        self.left, self.signal = step, signal

    def get_state(self):
        return None

    def set_state(self, state):
        pass

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            if self.signal is None:
                raise Killed
            signal.raise_signal(self.signal)


def train(directory, kill=None, model=None, more=(), data=make_epoch, epochs=4, **kwargs):
    """A process that may be killed: its model, logs and Resume."""
    model = model or build()
    settings = {name: kwargs.pop(name) for name in (*SETTINGS,) if name in kwargs}
    resume = Resume(directory, **{"every_steps": 2, **settings})
    killer = [Kill(kill)] if type(kill) is int else [kill] if kill else []
    x = resume.data(data) if data is not None else X
    arguments = {"validation_data": VALID, "verbose": 0, "shuffle": False, **kwargs}
    callbacks = [resume, *more, *killer]
    try:
        model.fit(x, epochs=epochs, callbacks=callbacks, **arguments)
    except Killed:
        return None
    return model, model.history, resume, state(model)


SETTINGS = ("every_steps", "every_minutes", "background", "max_to_keep", "progress", "also")


def state(model):
    return [v.numpy() for v in [*model.variables, *model.optimizer.variables]]


def assert_same(found, expected):
    for one, other in zip(found[3], expected[3], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_equal(found[1].history, expected[1].history)
    assert found[1].epoch == expected[1].epoch
    assert found[2].step == expected[2].step


@pytest.mark.parametrize(
    "body, policy, kills",
    [
        (rnn, "float32", (9,)),
        pytest.param(transformer, "mixed_float16", (8,), marks=pytest.mark.full),
        pytest.param(transformer, "mixed_bfloat16", (5, 6), marks=pytest.mark.full),
        pytest.param(rnn, "mixed_float16", (13,), marks=pytest.mark.full),
    ],
)
def test_a_killed_run_ends_with_the_same_bits(tmp_path, body, policy, kills):
    """Also the logs, the seeds, and what other callbacks remember."""

    def process(directory, kill=None):
        make = fresh if body is rnn else build
        return train(directory, kill, make(body, policy), listeners(), epochs=4)

    straight = process(tmp_path / "straight")
    drawn = random.random(), np.random.rand(), float(keras.random.normal([]))
    for kill in kills:
        assert process(tmp_path / "killed", kill) is None
    resumed = process(tmp_path / "killed")
    assert_same(resumed, straight)
    assert drawn == (random.random(), np.random.rand(), float(keras.random.normal([])))


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Four epochs of six batches, without an interruption, and what each callback saw."""
    seen = Seen()
    return train(tmp_path_factory.mktemp("straight"), more=[seen]), seen


class Seen(keras.callbacks.Callback):
    """The place and the logs of each step and epoch."""

    def __init__(self):
        super().__init__()
        self.steps, self.epochs, self.all = {}, {}, []

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_begin(self, batch, logs=None):
        self.begun = batch

    def on_train_batch_end(self, batch, logs=None):
        assert self.begun == batch
        self.steps[self.now, batch] = logs
        self.all.append((self.now, batch))

    def on_epoch_end(self, epoch, logs=None):
        self.epochs[epoch] = logs


@pytest.mark.parametrize("kill", [3, pytest.param(6, marks=pytest.mark.full), 17])
def test_callbacks_see_the_batch_numbers_and_logs_of_the_uninterrupted_run(
    tmp_path, straight, kill
):
    seen = Seen()
    assert train(tmp_path, kill, more=[seen]) is None
    assert_same(train(tmp_path, more=[seen]), straight[0])
    assert seen.steps == straight[1].steps and seen.epochs == straight[1].epochs
    assert len(seen.all) <= len(straight[1].all) + 1  # a step that was not saved is repeated


def test_a_finished_run_is_not_trained_again_and_more_epochs_go_on(tmp_path, straight):
    train(tmp_path, epochs=3)
    with pytest.warns(UserWarning, match="Nothing is trained: .* ended after epoch 3"):
        again = train(tmp_path, Kill(1), epochs=3)
    assert again[1].epoch == [0, 1, 2]
    assert_same(train(tmp_path), straight[0])


def test_a_run_that_stopped_early_stays_so(tmp_path):
    stopping = {"monitor": "accuracy", "patience": 1, "restore_best_weights": True}
    stopping["baseline"] = 1.0
    first = train(tmp_path, more=[keras.callbacks.EarlyStopping(**stopping)], epochs=9)
    assert len(first[1].epoch) < 9
    with pytest.warns(UserWarning, match="Nothing is trained: .*a callback ended it"):
        second = train(
            tmp_path, Kill(1), more=[keras.callbacks.EarlyStopping(**stopping)], epochs=9
        )
    assert_same(second, first)
    assert second[0].stop_training


@pytest.mark.full
def test_steps_per_execution_and_per_epoch(tmp_path):
    def endless(epoch, batch):
        return make_epoch(epoch, 0).repeat().skip(batch)

    how = {"data": endless, "steps_per_epoch": 7, "validation_freq": 2, "initial_epoch": 1}
    straight = train(tmp_path / "straight", model=build(steps_per_execution=3), **how)
    assert straight[2].step == 21
    killed = tmp_path / "killed"
    for kill in (2, 2, 3):
        assert train(killed, kill, build(steps_per_execution=3), **how) is None
    resumed = train(killed, model=build(steps_per_execution=3), **how)
    assert_same(resumed, straight)


@pytest.mark.full
def test_data_of_unknown_length(tmp_path):
    """Also an end of the process after the last batch, before the validation."""

    def unknown(epoch, batch):
        pairs = make_epoch(epoch, 0).unbatch().filter(lambda x, y: x[0] != epoch + 1)
        return pairs.batch(4).skip(batch)

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Keras would warn that the data ran out
        how = {"data": unknown, "every_steps": 1, "class_weight": {i: 1.0 + i for i in range(7)}}
        straight = train(tmp_path / "straight", **how)
        seen = Seen()
        for kill in (2, 6, 3):
            train(tmp_path / "killed", kill, more=[seen], **how)
        assert_same(train(tmp_path / "killed", **how), straight)


@pytest.mark.full
def test_class_weights_are_kept(tmp_path):
    how = {"class_weight": {i: 1.0 + i for i in range(7)}, "epochs": 2}
    straight = train(tmp_path / "straight", **how)
    assert train(tmp_path / "killed", 9, **how) is None
    assert_same(train(tmp_path / "killed", **how), straight)


def test_make_may_draw_its_order_from_the_global_generators(tmp_path):
    def drawn(epoch, batch):
        order = np.random.permutation(len(X))
        pairs = tf.data.Dataset.from_tensor_slices((X[order], Y[order]))
        return pairs.shuffle(8).batch(4).skip(batch)

    straight = train(tmp_path / "straight", data=drawn)
    for kill in (4, 5):
        assert train(tmp_path / "killed", kill, data=drawn) is None
    assert_same(train(tmp_path / "killed", data=drawn), straight)


class Epochs:
    """Draws the order of each epoch from generators of its own."""

    def __init__(self):
        self.numpy, self.python = np.random.default_rng(5), random.Random(5)

    def __call__(self, epoch, batch):
        order = self.python.sample([*self.numpy.permutation(len(X))], len(X))
        return tf.data.Dataset.from_tensor_slices((X[order], Y[order])).batch(4).skip(batch)


def test_generators_that_the_function_draws_from_are_restored(tmp_path):
    def closure():
        own = Epochs()
        return lambda epoch, batch: own(epoch, batch)

    straight = train(tmp_path / "straight", data=Epochs())
    for kill in (4, 12):
        assert train(tmp_path / "killed", kill, data=closure()) is None
    assert_same(train(tmp_path / "killed", data=closure()), straight)


def test_data_with_a_state_that_is_not_restored_are_reported(tmp_path):
    seeds = keras.random.SeedGenerator(3)

    def noise(x, y):
        return x - keras.random.randint(tf.shape(x), 0, 2, tf.int64, seed=seeds), y

    def drawn(x, y):
        return x - tf.random.uniform(tf.shape(x), 0, 2, tf.int64), y

    table = tf.constant([*range(9)], tf.int64)
    for function, op in [(noise, "Assign"), (drawn, "RandomUniformInt")]:
        data = make_epoch(0, 0).map(function)
        with pytest.warns(UserWarning, match=f"functions have a state .*{op}"):
            train(tmp_path / op, data=data, epochs=1)
    resume = Resume(tmp_path / "after")
    with pytest.warns(UserWarning, match="functions have a state .*RandomUniformInt"):
        build().fit(resume.data(make_epoch).map(drawn), callbacks=[resume], verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pure = lambda e, b: make_epoch(e, b).map(lambda x, y: (tf.gather(table, x), y))  # noqa: E731
        train(tmp_path / "pure", data=pure, epochs=1)


def test_batches_that_are_done_must_be_left_out(tmp_path):
    assert train(tmp_path / "a", 9) is None
    with pytest.raises(ValueError, match="must leave out .*: 6 batches for .epoch=1, batch=2."):
        train(tmp_path / "a", data=lambda epoch, batch: make_epoch(epoch, 0))
    resume = Resume(tmp_path / "b")
    with pytest.raises(ValueError, match="Only map and prefetch may follow .* TakeDataset"):
        build().fit(resume.data(make_epoch).take(2), callbacks=[resume], verbose=0)
    build().fit(resume.data(make_epoch).prefetch(2), callbacks=[resume], verbose=0)
    assert resume.step == 6


@pytest.mark.full
def test_arrays_and_datasets_in_a_fixed_order(tmp_path):
    how = {"data": None, "y": Y, "batch_size": 4, "shuffle": False}
    straight = train(tmp_path / "straight", **how)
    assert train(tmp_path / "killed", 9, **how) is None
    assert_same(train(tmp_path / "killed", **how), straight)
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    how = {"data": dataset, "validation_batch_size": 4}
    assert train(tmp_path / "third", 9, **how) is None
    assert_same(train(tmp_path / "third", **how), straight)


def test_data_from_elsewhere_are_reported(tmp_path):
    with pytest.warns(UserWarning, match="order of the data is not restored.*and are shuffled"):
        train(tmp_path / "a", data=None, y=Y, epochs=1, shuffle=True)
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    model = build()
    with pytest.warns(UserWarning, match="order of the data is not restored"):
        model.fit(dataset, callbacks=[Resume(tmp_path / "b")], verbose=0)
    with pytest.raises(ValueError, match="With steps_per_epoch .* Resume.data"):
        model.fit(
            dataset.repeat(), steps_per_epoch=2, callbacks=[Resume(tmp_path / "c")], verbose=0
        )


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.full)]
)
def test_a_signal_saves_after_the_step_and_ends_fit(tmp_path, straight, number, capfd):
    before = signal.signal(number, signal.default_int_handler)
    try:
        seen = Seen()
        kill = Kill(9, number)
        _, _, resume, _ = train(tmp_path, kill, more=[seen], every_steps=None)
        assert resume.interrupted and (resume.epoch, resume.batch) == (1, 3)
        assert list(seen.epochs) == [0]  # no callback is told that the unfinished epoch ended
        assert "Stopping after this step" in capfd.readouterr().err
        assert signal.getsignal(number) == signal.default_int_handler
        resumed = train(tmp_path)
        assert not resumed[2].interrupted
        assert_same(resumed, straight[0])
    finally:
        signal.signal(number, before)


def test_a_second_signal_ends_at_once_and_handlers_do_not_outlive_an_error(tmp_path):
    class Twice(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            for _ in range(2):
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "a", more=[Twice()])
    assert train(tmp_path / "b", 3) is None
    with pytest.raises(KeyboardInterrupt):  # `fit` was left: the usual handler works
        signal.raise_signal(signal.SIGINT)


def test_stop_ends_fit_as_a_signal_does(tmp_path, straight):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if resume.step == 10:
                resume.stop()

    model, resume = build(), Resume(tmp_path)
    data = resume.data(make_epoch)
    model.fit(data, epochs=4, callbacks=[resume, Stop()], validation_data=VALID, verbose=0)
    assert resume.step == 10 and not resume.interrupted
    assert_same(train(tmp_path), straight[0])


@pytest.mark.full
def test_writing_in_the_background(tmp_path, straight):
    how = {"background": True, "every_steps": 1}
    assert train(tmp_path, 9, **how) is None
    assert_same(train(tmp_path, **how), straight[0])


def test_an_error_of_the_background_is_raised(tmp_path, monkeypatch):
    from keras_attention.training.checkpoint import TrainingCheckpoint

    def full(self, snapshot):
        raise OSError("Could not save: no space")

    monkeypatch.setattr(TrainingCheckpoint, "write", full)
    for steps in (1, None):  # at the next save, and at the end
        with pytest.raises(OSError, match="no space"):
            train(tmp_path, background=True, every_steps=steps, epochs=1)


def test_saving_by_time(tmp_path):
    train(tmp_path / "a", 3, every_steps=None, every_minutes=1e-9)
    assert train(tmp_path / "a", Kill(1, signal.SIGINT))[2].step == 3
    train(tmp_path / "b", 3, every_steps=None, every_minutes=9)
    assert not any((tmp_path / "b").iterdir())


def test_progress_of_the_caller_and_variables_of_its_own(tmp_path):
    mine, count = {"run": "a"}, tf.Variable(1.0)
    train(tmp_path, progress=mine, also=[count], epochs=1)
    count.assign(5.0)
    found = {}
    train(tmp_path, progress=found, also=[count], epochs=1)
    assert found == {"run": "a"} and count.numpy() == 1.0
    with pytest.raises(ValueError, match="another also: expected 0 variables. Received: 1"):
        train(tmp_path, epochs=1)


class Rich(keras.callbacks.Callback):
    """State of every kind."""

    def __init__(self):
        super().__init__()
        self.values = {"all": [], (1, 2): {3}}
        self.random = np.random.default_rng(0)
        self.total = tf.Variable(0.0)
        self.mean = np.float32(0)
        self.window = 3  # a setting, which the user may change

    def on_train_batch_end(self, batch, logs=None):
        self.values["all"].append(self.random.random())
        self.total.assign_add(logs["loss"])
        self.mean = np.float32(np.mean(self.values["all"]))


class Own(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.queue = iter(range(99))
        self.next = -1

    def on_train_batch_end(self, batch, logs=None):
        self.next = next(self.queue)

    def get_state(self):
        return {"next": np.array(self.next)}

    def set_state(self, state):
        self.queue = iter(range(int(state["next"]) + 1, 99))


def test_the_state_of_callbacks(tmp_path):
    whole, rich, own = Rich(), Rich(), Own()
    train(tmp_path / "a", more=[whole, Own()])
    train(tmp_path / "b", 9, more=[Rich(), Own()])
    rich.window = 5
    train(tmp_path / "b", more=[rich, own])
    assert rich.values == whole.values and type(rich.mean) is np.float32
    assert rich.mean == whole.mean and rich.total.numpy() == whole.total.numpy()
    assert rich.random.random() == whole.random.random()
    assert rich.window == 5 and own.next == 23


def test_what_is_not_restored_is_named_once(tmp_path):
    class Holder(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.file, self.function = open(tmp_path / "log", "w"), lambda: 1

    class Noise(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.hidden = [tf.Variable(2.0, name="hidden")]

        def call(self, x):
            self.hidden[0].assign_add(1.0)
            return x + tf.random.normal([1]) * self.hidden[0]

    model = fresh(lambda: [*small(), Noise()])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(tmp_path / "run", model=model, more=[Holder(), *listeners()])
    [text] = [str(w.message) for w in caught if "does not restore" in str(w.message)]
    for name in ("Holder.file (TextIOWrapper)", "Holder.function", "variable hidden"):
        assert name in text
    assert "RandomStandardNormal" in text
    assert "EarlyStopping" not in text and "LearningRate" not in text


def test_logs_that_are_written_go_on(tmp_path, straight):
    log = [keras.callbacks.CSVLogger(tmp_path / "log.csv")]
    train(tmp_path / "run", 13, more=log)
    train(tmp_path / "run", more=[keras.callbacks.CSVLogger(tmp_path / "log.csv")])
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "0", "1", "2", "3"]


@pytest.mark.full
def test_averaged_weights_of_an_epoch_are_not_trained_on(tmp_path):
    swap = keras.callbacks.SwapEMAWeights
    straight = train(tmp_path / "a", more=[swap(swap_on_epoch=True)], validation_data=None)
    train(tmp_path / "b", 14, more=[swap(swap_on_epoch=True)], validation_data=None)
    resumed = train(tmp_path / "b", more=[swap(swap_on_epoch=True)], validation_data=None)
    assert_same(resumed, straight)


@pytest.mark.full
def test_the_step_is_traced_once(tmp_path):
    class Counted(keras.Sequential):
        traces = 0

        def train_step(self, data):
            Counted.traces += 1
            return super().train_step(data)

    def unbuilt():
        keras.utils.set_random_seed(2)
        model = Counted([*small(), keras.layers.Dense(7, "softmax")])
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    straight = unbuilt()
    straight.fit(tf.data.Dataset.zip(make_epoch(0, 0)), verbose=0)
    once = Counted.traces
    first = train(tmp_path / "a", model=unbuilt())
    assert Counted.traces == 2 * once
    assert train(tmp_path / "b", 9, model=unbuilt()) is None
    assert_same(train(tmp_path / "b", model=unbuilt()), first)


@pytest.mark.full
def test_an_eager_step(tmp_path):
    how = {"run_eagerly": True}
    model = fresh(**how)
    model.second = keras.optimizers.Adam()
    with pytest.warns(UserWarning, match="does not restore: second .Adam."):
        train(tmp_path / "c", model=model, epochs=1)
    straight = train(tmp_path / "a", model=fresh(**how), epochs=1)
    assert train(tmp_path / "b", 3, model=fresh(**how), epochs=1) is None
    assert_same(train(tmp_path / "b", model=fresh(**how), epochs=1), straight)


def test_it_needs_the_callbacks_of_fit(tmp_path):
    with pytest.raises(ValueError, match="pass it in callbacks="):
        Resume(tmp_path).on_train_begin()
    resume = Resume(tmp_path)
    data = resume.data(make_epoch)
    model = build()
    with pytest.warns(UserWarning, match="add the Resume to the callbacks"):
        model.fit(data, epochs=3, verbose=0)
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    for other in (Resume(tmp_path), backup):
        with pytest.raises(ValueError, match="one Resume, and no other callback"):
            model.fit(data, callbacks=[resume, other], verbose=0)


@pytest.mark.parametrize("as_list", [False, True], ids=["alone", "list"])
def test_it_may_be_the_only_callback_or_in_a_list_of_keras(tmp_path, as_list):
    model, resume = build(), Resume(tmp_path)
    callbacks = resume
    if as_list:
        callbacks = keras.callbacks.CallbackList([resume], model=model, add_history=True)
    for _ in range(2):
        model.fit(resume.data(make_epoch), callbacks=callbacks, verbose=0)
    assert resume.step == 6


def test_bad_arguments(tmp_path):
    (tmp_path / "file").write_text("")
    for settings, message in [
        ({"directory": tmp_path / "file"}, "must be a folder. Received: the file"),
        ({"every_steps": 0}, "every_steps.* must be .* Received: 0"),
        ({"every_minutes": 0}, "every_minutes must be a number above 0"),
        ({"directory": None}, "directory must be a path. Received: None"),
        ({"directory": ""}, "directory must be a path. Received: ''"),
        ({"every_steps": "3"}, "every_steps.* must be a whole number .*Received: '3'"),
        ({"every_steps": float("nan")}, "every_steps.* must be a whole number .*Received: nan"),
        ({"every_minutes": "3"}, "every_minutes must be a number .* Received: '3'"),
        ({"max_to_keep": 2.5}, "max_to_keep must be a whole number .* Received: 2.5"),
        ({"progress": [1]}, "progress must be a dict. Received"),
        ({"progress": {"a": X}}, "progress must have values for JSON"),
        ({"also": "adam"}, "also must be a list .* Received: 'adam'"),
        ({"also": None}, "also must be a list .* Received: None"),
        ({"max_to_keep": 0}, "max_to_keep must be a whole number of at least 1. Received: 0"),
        ({"progress": {"epoch": 1}}, "progress must not have the names"),
    ]:
        with pytest.raises(ValueError, match=message):
            Resume(**{"directory": tmp_path, **settings})
    pairs = make_epoch(0, 0)
    for data, message in [
        (X, "needs a function"),
        (lambda: pairs, "must take two arguments, .epoch, batch."),
        (lambda epoch, batch: X, "must return a tf.data.Dataset"),
        (pairs.shuffle(9, seed=1).prefetch(1), "shuffles anew in each iteration"),
    ]:
        with pytest.raises(ValueError, match=message):
            Resume(tmp_path).data(data)
    with pytest.raises(ValueError, match="needs numbers|must be a|also must have"):
        train(tmp_path, also=[3])
    with pytest.raises(OSError, match="must be a folder that can be written"):
        train(tmp_path / "file" / "run")


def test_a_shuffle_without_a_seed_is_refused(tmp_path):
    from tensorflow.python.eager import context

    seed, generator = context.global_seed(), context.context()._rng
    try:
        tf.random.set_seed(None)
        with pytest.raises(ValueError, match="shuffled without a seed"):
            Resume(tmp_path).data(lambda epoch, batch: make_epoch(0, 0).shuffle(3))
    finally:
        tf.random.set_seed(seed)
        context.context()._rng = generator


def test_a_checkpoint_that_does_not_fit(tmp_path):
    assert train(tmp_path, 11) is None
    with pytest.raises(ValueError, match="another model"):
        train(tmp_path, model=fresh(lambda: [*small(), keras.layers.Dense(3)]))
    with pytest.raises(ValueError, match="another optimizer"):
        train(tmp_path, model=fresh(optimizer="sgd"))
    with pytest.raises(ValueError, match="metrics differ"):
        model = fresh()
        model.compile(model.optimizer, model.loss, metrics=["accuracy", "mae"])
        train(tmp_path, model=model)
    with pytest.raises(ValueError, match="fewer batches .*: 2 in an epoch, of which 4 are done"):
        train(tmp_path, data=lambda epoch, batch: make_epoch(epoch, batch).take(2))
    with pytest.raises(ValueError, match="belongs to epoch 0, but fit begins with epoch 3"):
        train(tmp_path / "b", 3)
        train(tmp_path / "b", initial_epoch=3)
    with pytest.raises(ValueError, match="elements of one type"):
        train(
            tmp_path / "c",
            data=lambda epoch, batch: make_epoch(0, 0).map(
                lambda x, y: (x, y) if not epoch else (x, tf.cast(y, tf.float32))
            ),
        )


def test_kill_9_in_a_process_of_its_own(tmp_path, straight):
    script = (
        "import os, signal, sys\n"
        "from tests.training.test_resume import *\n"
        "class Die(keras.callbacks.Callback):\n"
        "    def on_train_batch_begin(self, batch, logs=None):\n"
        "        if batch == 5 and self.model.optimizer.iterations > 8:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "train(sys.argv[1], more=[Die()])\n"
    )
    home = pathlib.Path(__file__).parents[2]
    died = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(home)},
        capture_output=True,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()[-2000:]
    assert_same(train(tmp_path), straight[0])
