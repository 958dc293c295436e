"""The assignment of weights: by name if shapes are ambiguous, and never guessed."""

import re

import keras
import numpy as np
import pytest

from keras_attention.migrate import Checkpoint, Rules, plan, read
from keras_attention.migrate.places import places_of_model
from keras_attention.seq2seq import AttentionWrapper, BahdanauAttention
from models import RNNSeq2Seq
from tests.migrate import targets
from tests.migrate.paths import old


def mapping(planned):
    return {assignment.new: assignment.old for assignment in planned.assignments}


def error(weights, model, rules=None):
    with pytest.raises(ValueError) as caught:
        plan(Checkpoint(weights, {}), model, rules)
    return str(caught.value)


def of_one_size(source, model, monkeypatch):
    """The old names with shapes that tell nothing, and a model of that size."""
    expected = mapping(plan(read(old(source)), model()))
    for width in ("SOURCE_WORDS", "TARGET_WORDS", "EMBEDDING"):
        monkeypatch.setattr(targets, width, targets.UNITS)
    small = targets.built(cell="lstm", layers=2, attention_units=targets.UNITS, mix=targets.UNITS)
    shapes = {
        place.names[leaf]: tuple(variable.shape)
        for place in places_of_model(small)
        for leaf, variable in place.weights.items()
    }
    weights = {}
    for new, (name,) in expected.items():
        shape = shapes[new]
        if name in weights and len(shape) == 2:  # a kernel of contrib: inputs over state
            shape = (weights[name].shape[0] + shape[0], shape[1])
        weights[name] = np.zeros(shape, np.float32)
    return weights, small, expected


MODELS = [
    ("tf1_lstm", targets.tf1_lstm),
    ("tfa_lstm", targets.tfa_lstm),
    ("tfa_lstm.weights.h5", targets.tfa_lstm),
]


@pytest.mark.parametrize("source, model", MODELS)
def test_names_decide_if_all_shapes_are_equal(source, model, monkeypatch):
    weights, small, expected = of_one_size(source, model, monkeypatch)
    assert mapping(plan(Checkpoint(weights, {}), small)) == expected


@pytest.mark.parametrize("source, model", MODELS)
def test_the_order_of_the_names_does_not_matter(source, model, monkeypatch):
    weights, small, expected = of_one_size(source, model, monkeypatch)
    names = list(weights)
    for seed in range(5):
        np.random.default_rng(seed).shuffle(names)
        shuffled = {name: weights[name] for name in names}
        assert mapping(plan(Checkpoint(shuffled, {}), small)) == expected


def test_the_scopes_of_other_programs_are_understood(monkeypatch):
    weights, small, expected = of_one_size("tf1_lstm", targets.tf1_lstm, monkeypatch)

    def other(name):
        for pattern, replacement in (
            ("^seq2seq/embedding_(en|de)coder", r"embeddings/\1coder/embedding_\1coder"),
            ("^seq2seq/memory_layer", "dynamic_seq2seq/decoder/memory_layer"),
            ("^seq2seq/", "dynamic_seq2seq/"),
            ("attention_wrapper", "attention"),
            ("lstm_cell", "basic_lstm_cell"),
            ("decoder/dense", "decoder/output_projection"),
        ):
            name = re.sub(pattern, replacement, name)
        return name

    renamed = {other(name): value for name, value in weights.items()}
    found = mapping(plan(Checkpoint(renamed, {}), small))
    assert found == {new: tuple(map(other, names)) for new, names in expected.items()}


def test_two_indistinguishable_layers_are_an_error(monkeypatch):
    """Keras 2 named them `embedding` and `embedding_1`, ours are of the source and the target."""
    weights, small, expected = of_one_size("tfa_lstm.h5", targets.tfa_lstm, monkeypatch)
    message = error(weights, small)
    assert message.count("not the only one") == 8
    assert "old, without a new one: seq2_seq/embedding_1 {embeddings [6, 6]}" in message
    rules = Rules(map={".*embedding_1/": "target_embedding/", ".*embedding/": "source_embedding/"})
    assert mapping(plan(Checkpoint(weights, {}), small, rules)) == expected


def test_a_list_is_matched_with_a_list_of_as_many_only():
    """Of lstm, lstm_1 and lstm_2 the second may be any: three are not two and another one."""

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.bottom = keras.layers.LSTMCell(2)
            self.decoder = [keras.layers.LSTMCell(2), keras.layers.LSTMCell(2)]
            for cell in (self.bottom, *self.decoder):
                cell.build((None, 2))

    shapes = {"kernel": (2, 8), "recurrent_kernel": (2, 8), "bias": (8,)}
    weights = {
        f"decoder/{layer}/{leaf}": np.zeros(shape, np.float32)
        for layer in ("lstm", "lstm_1", "lstm_2")
        for leaf, shape in shapes.items()
    }
    assert error(weights, Model()).count("old, without a new one: decoder/lstm") == 3
    rules = Rules(
        map={
            "^decoder/lstm/": "bottom/",
            "^decoder/lstm_1/": "decoder/0/",
            "^decoder/lstm_2/": "decoder/1/",
        }
    )
    found = mapping(plan(Checkpoint(weights, {}), Model(), rules))
    assert found["decoder/1/bias"] == ("decoder/lstm_2/bias",)


def test_longer_paths_also_distinguish():
    """The decoder's cell is reached as `inner_cell` first, which says nothing of a decoder."""
    model = RNNSeq2Seq(11, 12, units=6, layers=2, cell="lstm", bidirectional=False, bridge="pass")
    model.build()
    places = {place.name: place for place in places_of_model(model)}
    assert "decoder" in places["inner_cell_1"].words
    assert len([v for p in places.values() for v in p.weights]) == len(model.weights)


@pytest.mark.parametrize("make", [keras.Sequential, None])
def test_layers_of_functional_and_sequential_models_go_by_their_names(make):
    layers = [keras.layers.Embedding(5, 4, name="emb"), keras.layers.LSTM(3, name="enc")]
    if make:
        model = make(layers)
        model.build((None, None))
    else:
        inputs = keras.Input([None], dtype="int32")
        model = keras.Model(inputs, layers[1](layers[0](inputs)))
    assert {place.name for place in places_of_model(model)} == {
        "layers/emb",
        "layers/enc/cell",
    }


def test_a_tied_weight_has_one_place():
    model = RNNSeq2Seq(11, units=6, share_embeddings=True, tie_output=True)
    model.build()
    names = [name for place in places_of_model(model) for name in place.names.values()]
    assert sorted(names).count("source_embedding/embeddings") == 1
    assert len(names) == len(set(names)) == len(model.weights)


def test_a_cell_alone_is_filled_like_a_model():
    cell = AttentionWrapper(keras.layers.LSTMCell(6), BahdanauAttention(6), 6)
    memory = cell.prepare_memory(np.zeros([1, 2, 6], np.float32))
    state = cell.get_initial_state(batch_size=1, memory=memory)
    cell(np.zeros([1, 5], np.float32), state, memory=memory)
    scope = "decoder/attention_wrapper"
    weights = {
        f"{scope}/basic_lstm_cell/kernel": np.zeros([17, 24]),
        f"{scope}/basic_lstm_cell/bias": np.zeros([24]),
        f"{scope}/bahdanau_attention/attention_v": np.zeros([6]),
        f"{scope}/bahdanau_attention/query_layer/kernel": np.zeros([6, 6]),
        "memory_layer/kernel": np.zeros([6, 6]),
        f"{scope}/attention_layer/kernel": np.zeros([12, 6]),
    }
    found = mapping(plan(Checkpoint(weights, {}), cell))
    assert found["_mechanisms/0/query_layer/kernel"] == (
        f"{scope}/bahdanau_attention/query_layer/kernel",
    )
    assert found["_mechanisms/0/memory_layer/kernel"] == ("memory_layer/kernel",)


# -- errors


def tf1(without=(), **extra):
    weights = {k: v for k, v in read(old("tf1_lstm")).weights.items() if k not in without}
    return {**weights, **extra}


def test_a_missing_weight_is_an_error_with_the_nearest_ones():
    name = "seq2seq/decoder/attention_wrapper/attention_layer/kernel"
    message = error(tf1(without=[name]), targets.tf1_lstm())
    assert "new, without an old one: cell/_attention_layers/0 {kernel [12, 8]}" in message
    assert "near: seq2seq/decoder/attention_wrapper/bahdanau_attention/query_layer" in message
    assert "old, without" not in message


def test_a_weight_too_many_is_an_error_with_the_nearest_ones():
    message = error(tf1(**{"seq2seq/decoder/gate/kernel": np.zeros([3, 4])}), targets.tf1_lstm())
    assert "old, without a new one: seq2seq/decoder/gate {kernel [3, 4]}" in message
    assert "new, without" not in message
    assert message.count("near: ") == 3


def test_another_shape_is_an_error_that_shows_both():
    kernel, bias = np.zeros([8, 13], np.float32), np.zeros([13], np.float32)
    scope = "seq2seq/decoder/dense"
    message = error(tf1(**{f"{scope}/kernel": kernel, f"{scope}/bias": bias}), targets.tf1_lstm())
    new, near = message.splitlines()[1:3]
    assert new.strip() == "new, without an old one: output_layer {kernel [8, 12], bias [12]}"
    assert near.strip() == f"near: {scope} {{bias [13], kernel [8, 13]}}: other shapes"


def test_a_layer_with_one_weight_more_does_not_fit():
    model = targets.built(cell="lstm", layers=2, attention_units=7, mix=8)
    without = [n for n in tf1() if n.endswith("attention_b")]
    message = error(tf1(without=without), model)
    assert "new, without an old one: cell/_mechanisms/0 {attention_v [7], attention_g" in message


def test_a_gru_with_reset_after_is_distinguished_from_contribs():
    cell = keras.layers.GRUCell(4)
    cell.build((None, 3))
    assert "needs reset_after=False" in error(read(old("cell_gru")).weights, cell)


def test_encoder_and_decoder_are_never_exchanged():
    layer = keras.layers.Embedding(5, 4)
    layer.build()
    model = keras.Sequential([layer])
    model.target_embedding = layer
    assert "another place" in error({"embedding_encoder": np.zeros([5, 4])}, model)


def test_two_names_of_one_weight_are_an_error_and_none_is_lost():
    weights = tf1(**{"seq2seq/decoder/dense/weights": np.zeros([8, 12], np.float32)})
    message = error(weights, targets.tf1_lstm())
    assert "old, without a new one: seq2seq/decoder/dense/weights {[8, 12]}" in message


def test_the_older_names_of_a_dense_layer_are_understood():
    def older(name):
        return re.sub("dense/bias$", "fc/biases", re.sub("dense/kernel$", "fc/weights", name))

    weights = {older(name): value for name, value in tf1().items()}
    found = mapping(plan(Checkpoint(weights, {}), targets.tf1_lstm()))
    assert found["output_layer/kernel"] == ("seq2seq/decoder/fc/weights",)
    assert found["output_layer/bias"] == ("seq2seq/decoder/fc/biases",)


def test_a_shape_alone_is_no_reason():
    layer = keras.layers.Dense(4, name="head")
    model = keras.Sequential([layer])
    model.build((None, 3))
    weights = {"tower/kernel": np.zeros([3, 4]), "tower/bias": np.zeros([4])}
    assert "no word in common" in error(weights, model)
    assert plan(Checkpoint(weights, {}), model, Rules(map={"tower": "head"}))


def test_a_model_that_is_not_built_is_an_error():
    assert "Expected a built model" in error({"kernel": np.zeros([3])}, keras.layers.Dense(3))


# -- rules


def test_rules_leave_old_weights_behind_and_new_ones_as_they_are():
    model = targets.tf1_lstm()
    rules = Rules(ignore=("/dense/",), keep=("^output_layer/",))
    planned = plan(Checkpoint(tf1(), {"global_step": "int64, not a weight"}), model, rules)
    assert planned.kept == ["output_layer/kernel", "output_layer/bias"]
    assert planned.ignored["seq2seq/decoder/dense/bias"] == "by a rule"
    assert planned.ignored["global_step"] == "int64, not a weight"
    assert len(planned.assignments) == len(model.weights) - 2


def test_two_old_weights_cannot_take_one_name():
    rules = Rules(map={"_(en|de)coder$": ""})
    assert "embedding_encoder both become" in error(tf1(), targets.tf1_lstm(), rules) or (
        "embedding_decoder both become" in error(tf1(), targets.tf1_lstm(), rules)
    )


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "{", "[" * 99_999, '{"mapp": {}}', '{"map": ["a"]}'),
        *('{"ignore": "a"}', '{"keep": ["("]}'),
    ],
    ids=lambda text: text[:9],
)
def test_invalid_rules_are_an_error_with_an_example(text, tmp_path):
    path = tmp_path / "rules.json"
    path.write_text(text)
    with pytest.raises(ValueError, match='Rules are a JSON object such as .*"map"'):
        Rules.load(str(path))


def test_a_replacement_that_re_does_not_take_is_an_error():
    with pytest.raises(ValueError, match="re.sub"):
        Rules(map={"a": r"\1"}).rename("a")


# -- weights that are only counted


def two_cells():
    """Cells of other sizes: every weight of the first has a shape of its own."""
    model = keras.Sequential([keras.layers.SimpleRNN(4, return_sequences=True)])
    model.add(keras.layers.SimpleRNN(4, use_bias=False))
    model.build((None, None, 3))
    return model


def test_a_counted_weight_of_a_shape_of_its_own_finds_its_place():
    layer = keras.layers.SimpleRNNCell(4)
    layer.build((None, 3))
    shapes = {"variables/1": (3, 4), "variables/2": (4, 4), "variables/3": (4,)}
    weights = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    assert mapping(plan(Checkpoint(weights, {}), layer)) == {
        "kernel": ("variables/1",),
        "recurrent_kernel": ("variables/2",),
        "bias": ("variables/3",),
    }


def test_where_shapes_do_not_give_the_candidates_of_a_counted_weight_are_listed():
    shapes = {"variables/1": (3, 4), "variables/2": (4, 4), "variables/3": (4,)}
    shapes |= {"variables/4": (4, 4), "variables/5": (4, 4)}
    weights = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    message = error(weights, two_cells())
    names = [
        place.names[leaf]
        for place in places_of_model(two_cells())
        for leaf, variable in place.weights.items()
        if tuple(variable.shape) == (4, 4)
    ]
    assert len(names) == 3
    for number in (2, 4, 5):
        (line,) = re.findall(f"variables/{number} may be: (.*)", message)
        assert len(line.split(", ")) == 3


def test_a_projection_layer_is_an_output_layer():
    weights = read(old("tfa_lstm")).weights
    expected = mapping(plan(Checkpoint(weights, {}), targets.tfa_lstm()))
    (name,) = expected["output_layer/kernel"]
    layer = name.removesuffix("/kernel")
    renamed = {n.replace(layer, "decoder/projection_layer"): w for n, w in weights.items()}
    assert len(renamed) == len(weights) and set(renamed) != set(weights)
    found = mapping(plan(Checkpoint(renamed, {}), targets.tfa_lstm()))
    assert found["output_layer/kernel"] == ("decoder/projection_layer/kernel",)
    assert found["output_layer/bias"] == ("decoder/projection_layer/bias",)
