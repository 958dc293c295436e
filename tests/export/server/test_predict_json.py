import json

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.export.server.predict_json import decode, encode, parse

TEXT = {"text": tf.TensorSpec([None], tf.string)}
PAIR = {"ids": tf.TensorSpec([None, None], tf.int32), "weight": tf.TensorSpec([None], tf.float32)}
SCALED = {"x": tf.TensorSpec([None]), "scale": tf.TensorSpec([])}


def encoded(outputs, in_rows):
    return json.loads("".join(encode(outputs, in_rows)))


def lists(request, inputs):
    arrays, in_rows = decode(request, inputs)
    return {name: array.tolist() for name, array in arrays.items()}, in_rows


@pytest.mark.parametrize(
    "request_",
    [
        {"instances": ["a", {"b64": "/w=="}]},
        {"instances": [{"text": "a"}, {"text": {"b64": "/w=="}}]},
        {"inputs": ["a", {"b64": "/w=="}]},
        {"inputs": {"text": ["a", {"b64": "/w=="}]}},
    ],
    ids=["rows", "named rows", "columns", "named columns"],
)
def test_one_input_may_go_without_its_name(request_):
    assert lists(request_, TEXT) == ({"text": [b"a", b"\xff"]}, "instances" in request_)


def test_rows_and_columns_of_several_inputs_are_the_same():
    rows = {"instances": [{"ids": [1, 2], "weight": 0.5}, {"ids": [3, 4], "weight": 1}]}
    columns = {"inputs": {"ids": [[1, 2], [3, 4]], "weight": [0.5, 1]}}
    assert lists(rows, PAIR)[0] == lists(columns, PAIR)[0]
    arrays, _ = decode(columns, PAIR)
    assert arrays["ids"].dtype == np.int32 and arrays["weight"].dtype == np.float32


def test_a_scalar_is_sent_in_columns_only():
    assert lists({"inputs": {"x": [1, 2], "scale": 3}}, SCALED)[0] == {"x": [1, 2], "scale": 3}
    with pytest.raises(ValueError, match=r"Expected `inputs` .*\['scale'\] are scalars"):
        decode({"instances": [{"x": 1, "scale": 3}]}, SCALED)


@pytest.mark.parametrize(
    ("request_", "inputs", "says"),
    [
        ({}, TEXT, "either `instances`"),
        ({"instances": ["a"], "inputs": ["a"]}, TEXT, "either `instances`"),
        ({"instances": "a"}, TEXT, "list of rows"),
        ({"instances": []}, TEXT, "list of rows"),
        ({"instances": [{"text": "a"}, "b"]}, TEXT, "all rows with names, or none"),
        ({"instances": [{"text": "a"}, {}]}, TEXT, r"inputs \['text'\]. Received: \[\]"),
        ({"inputs": {"text": ["a"], "more": 1}}, TEXT, r"Received: \['more', 'text'\]"),
        ({"inputs": {"ids": [[1]]}}, PAIR, r"\['ids', 'weight'\]. Received: \['ids'\]"),
        ({"inputs": [[1]]}, PAIR, r"inputs \['ids', 'weight'\]"),
        ({"inputs": "a"}, TEXT, r"'text' of shape \[\?\]. Received: \[\]"),
        ({"inputs": [["a"]]}, TEXT, r"'text' of shape \[\?\]. Received: \[1, 1\]"),
        ({"inputs": [["a"], ["b", "c"]]}, TEXT, "lists of equal length"),
        ({"inputs": ["a", ["b"]]}, TEXT, "lists of equal length"),
        ({"inputs": ["a", 1]}, TEXT, "'text' as string. Received: .* int"),
        ({"inputs": ["a", None]}, TEXT, "NoneType"),
        ({"inputs": ["\ud800"]}, TEXT, "surrogates not allowed"),
        ({"inputs": [{"b64": "no base64!"}]}, TEXT, "'text' as string"),
        ({"inputs": [{"b64": 1}]}, TEXT, "'text' as string. Received: .* dict"),
        ({"inputs": {"ids": [["1"]], "weight": [1]}}, PAIR, "'ids' as int32. .* str"),
        ({"inputs": {"ids": [[1.5]], "weight": [1]}}, PAIR, "'ids' as int32. .* float"),
        ({"inputs": {"ids": [[True]], "weight": [1]}}, PAIR, "'ids' as int32. .* bool"),
        ({"inputs": {"ids": [[2**31]], "weight": [1]}}, PAIR, "out of bounds for int32"),
        ({"inputs": {"ids": [[1]], "weight": [1e39]}}, PAIR, "out of range"),
        ({"inputs": {"ids": [[1]], "weight": [10**400]}}, PAIR, "'weight' as float32"),
        ({"inputs": {"ids": [[1]], "weight": [None]}}, PAIR, "'weight' as float32. .* NoneType"),
        ({"inputs": [1]}, {"x": tf.TensorSpec([None], tf.complex64)}, "JSON cannot represent"),
    ],
)
def test_what_is_not_as_specified_is_refused_by_name(request_, inputs, says):
    with pytest.raises(ValueError, match=says):
        decode(request_, inputs)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (tf.int64, [-(2**63), 2**63 - 1]),
        (tf.uint8, [0, 255]),
        (tf.bool, [True, False]),
        (tf.float64, [0.1, 1e300]),
        (tf.float16, [0.5, 65504]),
        (tf.bfloat16, [0.5, -2.0]),
    ],
)
def test_every_type_that_json_can_bring_comes_back_as_it_was(dtype, values):
    arrays, _ = decode({"inputs": values}, {"x": tf.TensorSpec([None], dtype)})
    assert arrays["x"].dtype == dtype.as_numpy_dtype
    assert encoded({"y": arrays["x"]}, in_rows=False) == {"outputs": values}


def test_float32_survives_the_way_there_and_back():
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    reply = encoded({"y": values}, in_rows=False)
    assert (np.array(reply["outputs"], np.float32) == values).all()


def test_numbers_that_are_none_are_written_by_name():
    numbers = parse(b'{"inputs": [NaN, Infinity, -Infinity]}')
    x = decode(numbers, {"x": tf.TensorSpec([None])})[0]["x"]
    assert np.isnan(x[0]) and x[1:].tolist() == [float("inf"), -float("inf")]
    assert "".join(encode({"x": x}, False)) == '{"outputs": [NaN, Infinity, -Infinity]}'


def test_rank_is_free_where_the_signature_reports_it():
    anything = {"x": tf.TensorSpec(None, tf.int32)}
    for value in (1, [1], [[[1]]], []):
        assert lists({"inputs": value}, anything)[0] == {"x": value}


def test_bytes_are_base64_where_the_name_of_the_output_asks_for_it():
    both = {"a_bytes": np.array([b"\xff"], object), "a": np.array([b"\xff"], object)}
    assert encoded(both, True) == {"predictions": [{"a_bytes": {"b64": "/w=="}, "a": "\ufffd"}]}
    assert encoded({"a_bytes": both["a_bytes"]}, False) == {"outputs": [{"b64": "/w=="}]}


def test_several_outputs_keep_their_names_and_one_loses_it():
    outputs = {"n": np.array([1, 2]), "m": np.array([[3], [4]])}
    assert encoded(outputs, False) == {"outputs": {"n": [1, 2], "m": [[3], [4]]}}
    assert encoded(outputs, True) == {"predictions": [{"n": 1, "m": [3]}, {"n": 2, "m": [4]}]}
    assert encoded({"m": outputs["m"]}, True) == {"predictions": [[3], [4]]}


def test_no_rows_and_names_that_need_quotes_are_json_too():
    assert encoded({"n": np.array([])}, True) == {"predictions": []}
    nothing = {'q"': np.zeros([0, 3]), "n": np.zeros([0])}
    assert encoded(nothing, True) == {"predictions": []}
    assert encoded(nothing, False) == {"outputs": {'q"': [], "n": []}}


@pytest.mark.parametrize("other", [np.array(3), np.array([1, 2, 3])])
def test_outputs_without_common_rows_are_reported_in_columns_only(other):
    outputs = {"n": np.array([1, 2]), "other": other}
    assert encoded(outputs, False)["outputs"]["other"] == other.tolist()
    with pytest.raises(ValueError, match="no common rows"):
        encoded(outputs, True)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"1", b'"a"', b"null", b'{"a": 1}}', b"\xff{}", b"[" * 100_000, b"{'a': 1}"],
    ids=lambda body: repr(body[:10]),
)
def test_a_body_that_is_no_json_object_is_refused(body):
    with pytest.raises(ValueError, match="Expected (a )?JSON.*Received"):
        parse(body)
