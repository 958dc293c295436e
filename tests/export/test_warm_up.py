"""The requests that warm a server up are written, found again, and answered."""

import builtins
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_attention import text
from keras_attention.export import Endpoints, Settings, save_search
from keras_attention.export.warm_up import FILE, MOST, Request, read_warm_up, write_warm_up
from models import RNNSeq2Seq

pytest.importorskip("tensorflow_serving", reason="pip install 'keras-attention-seq2seq[serving]'")


class Model(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def shout(self, text):
        return {"shouted": text + "!"}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2], tf.float32, name="x"),
            tf.TensorSpec([], tf.int32, name="power"),
        ]
    )
    def power(self, x, power):
        return {"raised": x ** tf.cast(power, tf.float32)}


REQUESTS = [
    Request("serving_default", {"text": ["hello", "你好", "", b"\xff\x00raw"]}),
    Request("power", {"x": [[1.0, 2.0]], "power": 3}),
    Request("serving_default", {"text": np.array(["again"])}),
]


@pytest.fixture
def directory(tmp_path):
    model = Model()
    tf.saved_model.save(
        model, str(tmp_path), {"serving_default": model.shout, "power": model.power}
    )
    return str(tmp_path)


def test_requests_are_read_back_and_replayed_through_the_signatures(directory):
    write_warm_up(directory, REQUESTS)
    found = read_warm_up(directory)
    assert [request.signature for request in found] == [request.signature for request in REQUESTS]
    loaded = tf.saved_model.load(directory)
    first, second, third = (
        loaded.signatures[request.signature](
            **{name: tf.constant(value) for name, value in request.inputs.items()}
        )
        for request in found
    )
    expected = [b"hello!", "你好!".encode(), b"!", b"\xff\x00raw!"]
    assert first["shouted"].numpy().tolist() == expected
    assert second["raised"].numpy().tolist() == [[1.0, 8.0]]
    assert third["shouted"].numpy().tolist() == [b"again!"]


@pytest.mark.full
def test_what_an_export_writes_is_read_back_and_replayed(tmp_path):
    """By TF Serving's batches, too: each input has a first axis, the same for all of a request."""
    tokenizer = text.Characters.train(["hello you"])
    model = RNNSeq2Seq(tokenizer.vocab_size, units=8)
    endpoints = Endpoints(model, tokenizer, beam_width=2, settings=Settings(max_length=5))
    save_search(str(tmp_path / "served"), endpoints, ["hello", "", b"\xff\0"], warm_up=True)
    requests = read_warm_up(str(tmp_path / "served"))
    loaded = tf.saved_model.load(str(tmp_path / "served"))
    assert [request.signature for request in requests] == ["serving_default", "generate", "score"]
    for request in requests:
        assert len({np.shape(value)[0] for value in request.inputs.values()}) == 1
        inputs = {name: tf.constant(value) for name, value in request.inputs.items()}
        answer = loaded.signatures[request.signature](**inputs)
        expected = endpoints.functions[request.signature](*request.inputs.values())
        assert answer.keys() == expected.keys()
        for name, value in expected.items():
            if value.dtype == tf.string:
                assert (answer[name] == value).numpy().all()
            else:
                np.testing.assert_allclose(answer[name], value, 1e-5, 1e-5)


def test_requests_are_written_without_loading_the_model(directory, monkeypatch):
    """A loaded export stays in the process, and logs that it has no custom gradients."""
    monkeypatch.setattr(tf.saved_model, "load", None)
    write_warm_up(directory, REQUESTS)
    assert len(read_warm_up(directory)) == len(REQUESTS)
    with pytest.raises(ValueError, match=r"signatures \['power', 'serving_default'\]"):
        write_warm_up(directory, [Request("__saved_model_init_op", {})])


def test_types_are_those_of_the_signature(directory):
    write_warm_up(directory, [Request("power", {"x": np.ones([1, 2], np.float64), "power": 2})])
    (found,) = read_warm_up(directory)
    assert found.inputs["x"].dtype == np.float32 and found.inputs["power"].dtype == np.int32


def test_the_file_is_what_a_server_opens(directory):
    """A TFRecord of PredictionLog, under the name that TF Serving's documentation gives."""
    from tensorflow_serving.apis import prediction_log_pb2

    write_warm_up(directory, REQUESTS)
    path = os.path.join(directory, "assets.extra", "tf_serving_warmup_requests")
    records = [record.numpy() for record in tf.data.TFRecordDataset(path)]
    logs = [prediction_log_pb2.PredictionLog.FromString(record) for record in records]
    assert [log.WhichOneof("log_type") for log in logs] == ["predict_log"] * 3
    assert logs[1].predict_log.request.model_spec.signature_name == "power"


def test_requests_written_again_take_the_place_of_the_first(directory):
    write_warm_up(directory, REQUESTS)
    write_warm_up(directory, REQUESTS[:1])
    assert len(read_warm_up(directory)) == 1


def test_a_model_without_requests_has_none(directory):
    assert read_warm_up(directory) == []


@pytest.mark.parametrize(
    "request_, message",
    [
        (Request("predict", {}), "signatures.*power.*serving_default.*'predict'"),
        (Request("power", {"x": [[1.0, 2.0]]}), "inputs.*power.*x.*Received: .'x'"),
        (Request("power", {"x": [1.0], "power": 2}), r"x of shape \(None, 2\).*\(1,\)"),
    ],
)
def test_a_request_that_fits_no_signature_is_refused(request_, message, directory):
    with pytest.raises(ValueError, match=message):
        write_warm_up(directory, [REQUESTS[0], request_])
    assert not os.path.exists(os.path.join(directory, FILE))


def test_more_than_a_server_takes_is_refused(directory):
    with pytest.raises(ValueError, match=f"at most {MOST}"):
        write_warm_up(directory, REQUESTS[:1] * (MOST + 1))


@pytest.mark.parametrize("content", [b"no record", b""], ids=["garbage", "nothing"])
def test_a_damaged_file_is_reported(content, directory):
    write_warm_up(directory, REQUESTS)
    path = Path(directory, FILE)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + content)
    with pytest.raises(ValueError, match="Received: .*tf_serving_warmup_requests"):
        read_warm_up(directory)


def test_a_missing_package_names_the_extra(directory, monkeypatch):
    actual = builtins.__import__

    def without(name, *rest, **options):
        if name.startswith("tensorflow_serving"):
            raise ImportError(name)
        return actual(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"keras-attention-seq2seq\[serving\]"):
        write_warm_up(directory, REQUESTS)
