"""The command: its output, and that it writes everything or nothing."""

import json
import os

import keras
import numpy as np
import pytest

from keras_attention.migrate import write
from keras_attention.migrate.__main__ import main
from tests.migrate import targets
from tests.migrate.paths import old

MODEL = ["--model", "tests.migrate.targets:tf1_lstm"]


def refused(*arguments):
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return str(caught.value)


def rules_file(folder, **rules):
    path = folder / "rules.json"
    path.write_text(json.dumps(rules))
    return ["--rules", str(path)]


def test_list_prints_names_shapes_and_what_is_left_out(capsys):
    main([old("tf1_lstm"), "--list"])
    lines = capsys.readouterr().out.splitlines()
    assert "seq2seq/memory_layer/kernel  [6, 7]  float32" in lines
    assert "ignored: global_step (int64, not a weight)" in lines
    assert lines[-1] == "18 weights, 1,810 parameters"


def test_the_table_has_old_name_transform_new_name_and_shape(capsys):
    main([old("tf1_lstm"), *MODEL])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    scope = "seq2seq/encoder/rnn/multi_rnn_cell/cell_1/lstm_cell"
    assert lines[0] == "old transform new shape"
    assert (
        f"{scope}/kernel rows 6:12; i j f o -> i f j o "
        "encoder/cell/cells/1/recurrent_kernel [6, 24]" in lines
    )
    assert f"{scope}/bias i j f o -> i f j o; f + 1 encoder/cell/cells/1/bias [24]" in lines
    assert "seq2seq/memory_layer/kernel cell/_mechanisms/0/memory_layer/kernel [6, 7]" in lines
    assert "ignored: seq2seq/memory_layer/kernel/Adam (optimizer slot)" in lines
    assert lines[-2:] == [
        "18 old weights -> 22 variables, 1,810 parameters",
        "no --out: not written",
    ]


def test_a_keras_file_may_be_what_the_weights_go_into(tmp_path):
    model, new = str(tmp_path / "model.keras"), str(tmp_path / "new.keras")
    targets.tf1_basic().save(model)
    main([old("tf1_basic"), "--model", model, "--out", new])
    before, after = keras.saving.load_model(model), keras.saving.load_model(new)
    expected = np.load(old("tf1_basic.npz"))
    inputs = expected["source"], expected["target"]
    targets.assert_same_logits(after(inputs), expected["logits"])
    assert np.max(np.abs(before(inputs) - expected["logits"])) > 0.1


def test_the_forget_bias_of_the_old_cells_comes_from_the_rules(tmp_path, capsys):
    main([old("tf1_lstm"), *MODEL, *rules_file(tmp_path, forget_bias=0)])
    assert "f + 0 " in capsys.readouterr().out


@pytest.mark.parametrize("ending", [".weights.h5", ".keras"])
@pytest.mark.parametrize(
    "rules",
    [{"ignore": ["memory_layer"]}, {"map": {"memory_layer": "other"}}, {"keep": ["fc"], "map": 3}],
)
def test_nothing_is_written_and_nothing_lost_when_anything_is_unmatched(rules, ending, tmp_path):
    arguments = [old("tf1_lstm"), *MODEL, *rules_file(tmp_path, **rules)]
    out = tmp_path / "folder" / f"new{ending}"
    assert refused(*arguments, "--out", str(out)).startswith("ValueError: ")
    assert not out.parent.exists()
    out.parent.mkdir()
    out.write_text("precious")
    refused(*arguments, "--out", str(out))
    assert out.read_text() == "precious" and os.listdir(out.parent) == [out.name]


def test_a_file_that_does_not_read_back_equal_never_gets_its_name(tmp_path, monkeypatch):
    model = targets.tf1_basic()
    values = [np.asarray(v) for v in model.weights]
    save = keras.saving.save_weights

    def spoiled(model, path):
        model.weights[3].assign(model.weights[3] + 1)
        save(model, path)
        model.weights[3].assign(model.weights[3] - 1)

    monkeypatch.setattr(keras.saving, "save_weights", spoiled)
    (tmp_path / "new.weights.h5").write_text("precious")
    with pytest.raises(
        RuntimeError, match="read back equal.*Received other values of encoder/cell"
    ):
        write(model, str(tmp_path / "new.weights.h5"))
    assert (tmp_path / "new.weights.h5").read_text() == "precious"
    assert os.listdir(tmp_path) == ["new.weights.h5"]
    np.testing.assert_allclose(model.weights[3], values[3], rtol=1e-5)


def test_a_file_that_fills_nothing_is_noticed(tmp_path, monkeypatch):
    model = targets.tf1_basic()
    values = [np.asarray(v) for v in model.weights]
    monkeypatch.setattr(keras.saving, "load_weights", lambda model, path: None)
    with pytest.raises(RuntimeError, match="read back equal"):
        write(model, str(tmp_path / "new.weights.h5"))
    assert not os.listdir(tmp_path)
    assert all(np.array_equal(one, other) for one, other in zip(values, model.weights))


def not_a_model():
    return 3


def broken():
    return {}["nothing"]


def cell():
    layer = keras.layers.LSTMCell(4)
    layer.build((None, 3))
    return layer


HERE = "tests.migrate.test_command"


def test_a_cell_alone_is_written_as_weights_and_not_as_a_model(tmp_path):
    arguments = [old("cell_lstm"), "--model", f"{HERE}:cell", "--out"]
    assert "Write a .weights.h5 file" in refused(*arguments, str(tmp_path / "new.keras"))
    main([*arguments, str(tmp_path / "new.weights.h5")])
    one, other = cell(), cell()
    keras.saving.load_weights(one, tmp_path / "new.weights.h5")
    assert np.max(np.abs(one.bias - other.bias)) > 0.1


def test_an_error_in_the_users_own_function_is_shown_whole(capsys):
    message = refused(old("tf1_lstm"), "--model", f"{HERE}:broken")
    assert "to return a model. Received: the error above" in message
    assert "KeyError: 'nothing'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "model, reason",
    [
        ("models", "Expected FILE.keras or package.module:function"),
        ("models:nobody", "Expected a function that can be imported"),
        ("nowhere.at_all:build", "Expected a function that can be imported"),
        (f"{HERE}:not_a_model", "to return a Keras model or layer. Received: int"),
        ("missing.keras", "missing.keras"),
    ],
)
def test_a_model_that_cannot_be_had_is_an_error(model, reason):
    assert reason in refused(old("tf1_lstm"), "--model", model)


def test_a_keras_file_of_an_unknown_class_is_an_error_with_advice(tmp_path):
    path = str(tmp_path / "unknown.keras")

    @keras.saving.register_keras_serializable("tests", name="Forgotten")
    class Forgotten(keras.layers.Dense):
        pass

    keras.Sequential([keras.Input([2]), Forgotten(3)]).save(path)
    keras.saving.get_custom_objects().pop("tests>Forgotten")
    assert "Name a function that imports them" in refused(old("tf1_lstm"), "--model", path)


def test_another_ending_is_refused_before_anything_is_done(tmp_path):
    out = str(tmp_path / "new.h5")
    assert "ending in .weights.h5 or .keras" in refused(old("tf1_lstm"), *MODEL, "--out", out)
    assert not os.listdir(tmp_path)


def test_without_a_model_the_command_names_the_argument(capsys):
    with pytest.raises(SystemExit):
        main([old("tf1_lstm")])
    assert "--model MODEL is required (or --list" in capsys.readouterr().err
