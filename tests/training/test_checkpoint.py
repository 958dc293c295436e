import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_attention
from keras_attention.training import ClipByGlobalNorm, TrainingCheckpoint

X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
Y = X.sum(1, keepdims=True)


def build(units=4):
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(units, kernel_initializer=keras.initializers.GlorotUniform(1)),
            keras.layers.Dropout(0.5, seed=2),
            keras.layers.Dense(1, kernel_initializer=keras.initializers.GlorotUniform(3)),
        ]
    )
    model.compile(ClipByGlobalNorm(keras.optimizers.Adam(0.01), 1.0), "mse")
    return model


def train(model, begin, end):
    model.fit(X, Y, 4, epochs=end, initial_epoch=begin, shuffle=False, verbose=0)
    return model


def state(model):
    return [v.numpy() for v in [*model.variables, *model.optimizer.variables]]


def assert_same_state(first, second):
    for mine, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(mine, other)


def checkpoint_of(model, folder, **kwargs):
    return TrainingCheckpoint(folder, model, model.optimizer, **kwargs)


def three_saves(folder):
    """A model with two checkpoints on disk, and its state at each."""
    model, states = build(), {}
    checkpoint = checkpoint_of(model, folder)
    for epoch in (1, 2, 3):
        train(model, epoch - 1, epoch)
        checkpoint.save({"epoch": epoch})
        states[epoch] = state(model)
    return states


def damage(folder, how):
    data = next(folder.glob("state.data*"))
    content = bytearray(data.read_bytes())
    if how == "truncated":
        data.write_bytes(content[: len(content) // 2])
    elif how == "flipped byte":
        content[len(content) // 3] ^= 1
        data.write_bytes(content)
    elif how == "empty index":
        (folder / "state.index").write_bytes(b"")
    elif how == "no index":
        (folder / "state.index").unlink()
    elif how == "no data":
        data.unlink()


DAMAGES = ["truncated", "flipped byte", "empty index", "no index", "no data"]


def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(tmp_path):
    straight = train(build(), 0, 6)
    first = train(build(), 0, 3)
    checkpoint_of(first, tmp_path).save({"epoch": 3})
    resumed = build()
    progress = checkpoint_of(resumed, tmp_path).restore()
    train(resumed, progress["epoch"], 6)
    assert_same_state(state(resumed), state(straight))


@pytest.mark.full
def test_a_fresh_process_resumes_as_exactly(tmp_path):
    straight = train(build(), 0, 6)
    first = train(build(), 0, 3)
    checkpoint_of(first, tmp_path).save({"epoch": 3})
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_checkpoint import *\n"
        "model = build(); checkpoint = checkpoint_of(model, sys.argv[2])\n"
        "train(model, checkpoint.restore()['epoch'], 6); checkpoint.save({'epoch': 6})\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(pathlib.Path(__file__).parent), str(tmp_path)],
        cwd=pathlib.Path(keras_attention.__file__).parents[1],
        check=True,
    )
    resumed = build()
    assert checkpoint_of(resumed, tmp_path).restore() == {"epoch": 6}
    assert_same_state(state(resumed), state(straight))


def test_an_empty_directory_restores_nothing(tmp_path):
    model = build()
    before = state(model)
    assert checkpoint_of(model, tmp_path / "not" / "there").restore() is None
    assert_same_state(state(model)[: len(before)], before)


def test_the_progress_comes_back(tmp_path):
    progress = {"epoch": 3, "batch": 0, "best": 0.125, "seen": [1, None], "名": {"ü": "😀"}}
    checkpoint = checkpoint_of(build(), tmp_path)
    checkpoint.save(progress)
    assert checkpoint_of(build(), tmp_path).restore() == progress


def test_progress_that_is_no_json_is_refused_and_nothing_written(tmp_path):
    checkpoint = checkpoint_of(build(), tmp_path)
    with pytest.raises(ValueError, match="plain JSON"):
        checkpoint.save({"loss": np.float32(1)})
    assert not list(tmp_path.iterdir())


def test_the_newest_are_kept(tmp_path):
    checkpoint = checkpoint_of(build(), tmp_path, max_to_keep=2)
    for epoch in range(12):
        checkpoint.save({"epoch": epoch})
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint-000011", "checkpoint-000012"]
    assert checkpoint.restore() == {"epoch": 11}


def test_a_new_object_continues_numbering(tmp_path):
    checkpoint_of(build(), tmp_path).save({"epoch": 1})
    assert checkpoint_of(build(), tmp_path).save({"epoch": 2}).endswith("000002")


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, how):
    states = three_saves(tmp_path)
    damage(tmp_path / "checkpoint-000003", how)
    model = build()
    with pytest.warns(UserWarning, match="checkpoint-000003.*damaged.*checkpoint-000002"):
        assert checkpoint_of(model, tmp_path).restore() == {"epoch": 2}
    assert_same_state(state(model), states[2])


@pytest.mark.parametrize("how", DAMAGES)
def test_when_none_is_good_the_error_names_all_and_the_model_is_untouched(tmp_path, how):
    three_saves(tmp_path)
    for folder in tmp_path.iterdir():
        damage(folder, how)
    model = build()
    checkpoint = checkpoint_of(model, tmp_path)
    before = state(model)
    with pytest.raises(ValueError, match="checkpoint-000003.*checkpoint-000002.*start again"):
        checkpoint.restore()
    assert_same_state(state(model), before)


def test_every_flipped_byte_is_noticed(tmp_path):
    model = build()
    folder = pathlib.Path(checkpoint_of(model, tmp_path / "one").save({"epoch": 1}))
    checkpoint = checkpoint_of(model, tmp_path / "one")
    data = next(folder.glob("state.data*"))
    content = data.read_bytes()
    for place in range(0, len(content), 97):
        data.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        with pytest.raises(ValueError, match="start again"):
            checkpoint.restore()


def test_a_damaged_checkpoint_is_not_kept_instead_of_a_good_one(tmp_path):
    three_saves(tmp_path)
    damage(tmp_path / "checkpoint-000003", "truncated")
    checkpoint = checkpoint_of(build(), tmp_path)
    with pytest.warns(UserWarning):
        checkpoint.restore()
    checkpoint.save({"epoch": 3})
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint-000002", "checkpoint-000004"]


def test_what_a_killed_save_left_is_no_checkpoint_and_is_swept(tmp_path):
    three_saves(tmp_path)
    shutil.copytree(tmp_path / "checkpoint-000003", tmp_path / ".unfinished")
    (tmp_path / ".unfinished" / "stale").write_text("")
    checkpoint = checkpoint_of(build(), tmp_path)
    assert checkpoint.restore() == {"epoch": 3}
    folder = pathlib.Path(checkpoint.save({"epoch": 4}))
    assert not (tmp_path / ".unfinished").exists() and not (folder / "stale").exists()


def test_foreign_files_in_the_directory_are_left_alone(tmp_path):
    for name in ("checkpoint", "checkpoint-best", "notes.txt"):
        (tmp_path / name).write_text("mine")
    checkpoint = checkpoint_of(build(), tmp_path, max_to_keep=1)
    for epoch in (1, 2):
        checkpoint.save({"epoch": epoch})
    assert checkpoint.restore() == {"epoch": 2}
    assert (tmp_path / "checkpoint-best").read_text() == "mine"


def test_another_model_is_reported_and_stays_untouched(tmp_path):
    three_saves(tmp_path)
    model = build(units=5)
    checkpoint = checkpoint_of(model, tmp_path)
    before = state(model)
    with pytest.raises(ValueError, match=r"another model: expected .*kernel.*\(3, 5\).*\(3, 4\)"):
        checkpoint.restore()
    assert_same_state(state(model), before)


def test_another_optimizer_is_reported(tmp_path):
    three_saves(tmp_path)
    model = build()
    with pytest.raises(ValueError, match="another optimizer: expected 2 variables. Received: 10"):
        TrainingCheckpoint(tmp_path, model, keras.optimizers.SGD(momentum=0.0)).restore()


def named(*names, activation="tanh"):
    """Layers of equal shapes."""
    layers = [keras.layers.Dense(3, activation, name=name) for name in names]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


@pytest.mark.parametrize(
    "saved, wanted, words",
    [
        (keras.optimizers.Adam, keras.optimizers.AdamW, r"expected AdamW\. Received: Adam\."),
        (
            lambda: keras.optimizers.SGD(0.1, momentum=0.5),
            keras.optimizers.Lion,
            r"expected Lion\. Received: SGD\.",
        ),
        (
            lambda: ClipByGlobalNorm("adam", 1.0),
            keras.optimizers.Adam,
            r"expected Adam\. Received: ClipByGlobalNorm\(Adam\)\.",
        ),
        (
            lambda: keras.optimizers.SGD(0.1, momentum=0.5),
            lambda: keras.optimizers.SGD(0.1, use_ema=True),
            "expected .*average.* Received: .*momentum",
        ),
    ],
    ids=["adamw", "lion", "clip", "slots"],
)
def test_an_optimizer_of_another_class_with_the_same_shapes_is_reported(
    tmp_path, saved, wanted, words
):
    model = named("a", "b")
    TrainingCheckpoint(tmp_path, model, saved()).save({})
    other = wanted()
    checkpoint = TrainingCheckpoint(tmp_path, model, other)
    rate = float(other.learning_rate)
    with pytest.raises(ValueError, match=f"another optimizer: {words}"):
        checkpoint.restore()
    assert float(other.learning_rate) == rate


@pytest.mark.parametrize("names", [("b", "a"), ("a", "c"), ("layer_2", "layer_1")], ids=str)
def test_layers_of_equal_shapes_in_another_order_are_reported(tmp_path, names):
    first = named("a", "b") if "a" in names else named("layer_1", "layer_2")
    checkpoint_of(first, tmp_path).save({})
    model = named(*names)
    before = state(model)
    checkpoint = checkpoint_of(model, tmp_path)
    with pytest.raises(ValueError, match="another model: expected .*kernel. Received: .*kernel"):
        checkpoint.restore()
    assert_same_state(state(model)[: len(before)], before)


def test_how_keras_numbers_layers_in_a_process_does_not_matter(tmp_path):
    checkpoint_of(named(None, None), tmp_path).save({"epoch": 1})
    keras.layers.Dense(1)  # takes a number
    assert checkpoint_of(named(None, None), tmp_path).restore() == {"epoch": 1}


def test_checkpoints_without_a_model_name_are_accepted(tmp_path):
    """As version 0.1.0 wrote them."""
    first, model = train(build(), 0, 1), build()
    saved = tf.train.Checkpoint(
        progress=tf.Variable('{"epoch": 1}'),
        model=[v.value for v in first.variables],
        optimizer=[v.value for v in first.optimizer.variables],
    )
    saved.write(str(tmp_path / "checkpoint-000001" / "state"))
    assert checkpoint_of(model, tmp_path).restore() == {"epoch": 1}
    assert_same_state(state(model), state(first))


def test_an_unbuilt_model_and_no_room_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must be built"):
        TrainingCheckpoint(tmp_path, keras.Sequential([keras.layers.Dense(1)]), "adam")
    with pytest.raises(ValueError, match="max_to_keep must be a whole number of at least 1"):
        checkpoint_of(build(), tmp_path, max_to_keep=0)


def test_loss_scaling_state_is_restored_too(tmp_path):
    model = build()
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    optimizer.build(model.trainable_variables)
    optimizer.dynamic_scale.assign(2.0)
    checkpoint = TrainingCheckpoint(tmp_path, model, optimizer)
    checkpoint.save({})
    optimizer.dynamic_scale.assign(4.0)
    assert checkpoint.restore() == {}
    assert float(optimizer.dynamic_scale) == 2.0


@pytest.mark.parametrize("room", [0, 20_000, 200_000])
def test_a_full_disk_is_one_clear_error_and_costs_no_checkpoint(tmp_path, room):
    """`room` bytes are left when the second save begins."""
    place = tmp_path / "small"
    place.mkdir()
    size = 1 << 20
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        model = build(units=8000)  # 0.4 MB with the slots of Adam
        checkpoint = checkpoint_of(model, place)
        checkpoint.save({"epoch": 1})
        fill = size - sum(f.stat().st_blocks * 512 for f in place.rglob("*")) - room
        (place / "other").write_bytes(bytes(max(0, fill)))
        with pytest.raises(OSError, match="Could not save .*checkpoint-000002.*Free some space"):
            checkpoint.save({"epoch": 2})
        assert sorted(p.name for p in place.iterdir()) == ["checkpoint-000001", "other"]
        assert checkpoint.restore() == {"epoch": 1}
        (place / "other").unlink()
        checkpoint.save({"epoch": 2})
        assert checkpoint_of(build(units=8000), place).restore() == {"epoch": 2}
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_directory_that_cannot_be_made_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Could not save"):
        checkpoint_of(build(), tmp_path / "file" / "folder").save({})


def test_it_works_for_a_model_of_several_devices_too(tmp_path):
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        model = build()
        checkpoint = checkpoint_of(model, tmp_path)
    train(model, 0, 1)
    checkpoint.save({"epoch": 1})
    plain = build()
    assert checkpoint_of(plain, tmp_path).restore() == {"epoch": 1}
    assert_same_state(state(plain), state(model))
