"""One client, two protocols: the same requests over REST and over gRPC of TF Serving."""

import concurrent.futures
import os
import pathlib
import urllib.parse

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2

from keras_attention.export.client import Client, ServerError
from keras_attention.export.server import Servable, Signature, Versions, load
from tests.export.server import serving

EXTRA = "pip install 'keras-attention-seq2seq[serving]'"
pytest.importorskip("fastapi", reason=EXTRA)
pytest.importorskip("uvicorn", reason=EXTRA)
grpc = pytest.importorskip("grpc", reason=EXTRA)
predict_pb2 = pytest.importorskip("tensorflow_serving.apis.predict_pb2", reason=EXTRA)
status_pb2 = pytest.importorskip("tensorflow_serving.apis.get_model_status_pb2", reason=EXTRA)
metadata_pb2 = pytest.importorskip("tensorflow_serving.apis.get_model_metadata_pb2", reason=EXTRA)
service = pytest.importorskip("tensorflow_serving.apis.prediction_service_pb2_grpc", reason=EXTRA)

# For a server with an export of ours, whose gRPC is at port 8500 unless the other says so.
URL, GRPC = "TF_SERVING_URL", "TF_SERVING_GRPC"
MODEL = os.environ.get("TF_SERVING_MODEL", "chatbot")
LINES = ["Hello!", "你好", "🙂", ""]

F32, I32 = np.float32, np.int32
ASKED = {
    "serving_default": {"text": np.array(["好".encode(), b"\xff", b""], object)},
    "total": {"ids": np.array([[1, -2], [2**31 - 1, 0]], I32)},
    "repeat": {"text": np.array([b"a"], object), "times": np.array(3, I32)},
    "inverse": {"x": np.array([0.1, -0.0, np.inf, 1e-38], F32)},
}


def request(inputs, signature_name="serving_default", model="parrot"):
    """The message that asks the same."""
    message = predict_pb2.PredictRequest()
    message.model_spec.name, message.model_spec.signature_name = model, signature_name
    for name, value in inputs.items():
        message.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return message


def arrays(tensors):
    """Messages -> arrays by name."""
    return {name: tf.make_ndarray(tensor) for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def heard(parrot):
    """-> the URL of a server, and the tensors that its signatures were called with."""
    calls = []

    def record(**tensors):
        calls.append({name: tensor.numpy() for name, tensor in tensors.items()})
        return {"count": tf.constant([len(calls)])}

    def listening(directory, version):
        signatures = {
            name: Signature(name, signature.inputs, {"count": tf.TensorSpec([1])}, record)
            for name, signature in load(directory).signatures.items()
        }
        return Servable(version, signatures, {}, None)

    with serving.served(Versions(parrot, listening)) as url:
        yield url, calls


@pytest.mark.parametrize("name", list(ASKED))
def test_rest_brings_the_tensors_that_the_message_holds(name, heard):
    url, calls = heard
    Client(url, "parrot").predict(ASKED[name], signature_name=name)
    message = predict_pb2.PredictRequest.FromString(request(ASKED[name], name).SerializeToString())
    expected = arrays(message.inputs)
    assert calls[-1].keys() == expected.keys()
    for key, value in expected.items():
        found = calls[-1][key]
        assert found.dtype == value.dtype and found.shape == value.shape
        np.testing.assert_array_equal(found, value)


@pytest.mark.parametrize("name", ["serving_default", "inverse"])
def test_rows_bring_the_same_tensors(name, heard):
    url, calls = heard
    rows = [dict(zip(ASKED[name], row)) for row in zip(*ASKED[name].values())]
    Client(url, "parrot").predict_rows(rows, signature_name=name)
    for key, value in ASKED[name].items():
        np.testing.assert_array_equal(calls[-1][key], value)


def test_status_and_metadata_are_the_messages_of_tf_serving(url, parrot):
    client = Client(url, "parrot")
    told = {"model_version_status": client.status()}
    (version,) = json_format.ParseDict(told, status_pb2.GetModelStatusResponse()).ListFields()[0][1]
    assert (version.version, version.state) == (1, status_pb2.ModelVersionStatus.AVAILABLE)
    told = {"signature_def": client.metadata()}
    found = json_format.ParseDict(told, metadata_pb2.SignatureDefMap()).signature_def
    stored = saved_model_pb2.SavedModel.FromString(
        pathlib.Path(parrot, "saved_model.pb").read_bytes()
    )
    assert dict(found) == dict(stored.meta_graphs[0].signature_def)


class _Service(service.PredictionServiceServicer):
    """What TF Serving does with a message, with a model in this process."""

    def __init__(self, directory):
        self._signatures = load(directory).signatures

    def Predict(self, request, context):
        outputs = self._signatures[request.model_spec.signature_name](arrays(request.inputs))
        response = predict_pb2.PredictResponse()
        for name, value in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response


@pytest.fixture(params=["ours", "TF Serving"])
def both_ways(request, parrot):
    """-> the client, the stub and the model's name of a server that speaks both."""
    if request.param == "TF Serving":
        if URL not in os.environ:
            pytest.skip(f"set {URL}=http://HOST:8501 to ask a TF Serving that serves an export")
        url = os.environ[URL]
        target = os.environ.get(GRPC, f"{urllib.parse.urlsplit(url).hostname}:8500")
        with grpc.insecure_channel(target) as channel:
            yield Client(url, MODEL), service.PredictionServiceStub(channel), MODEL
        return
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    service.add_PredictionServiceServicer_to_server(_Service(parrot), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with serving.served(parrot) as url, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Client(url, "parrot"), service.PredictionServiceStub(channel), "parrot"
    server.stop(None).wait()


def test_a_predict_request_gets_the_same_over_grpc_and_rest(both_ways):
    client, stub, model = both_ways
    said = client.predict({"text": LINES})
    asked = request({"text": np.array([line.encode() for line in LINES], object)}, model=model)
    told = arrays(stub.Predict(asked, timeout=60).outputs)
    assert said.keys() == told.keys() and len(said["replies"]) == len(LINES)
    assert [[reply.encode() for reply in row] for row in said["replies"]] == told[
        "replies"
    ].tolist()
    assert said["lengths"] == told["lengths"].tolist()
    np.testing.assert_allclose(np.array(said["scores"]), told["scores"], 1e-5, 1e-5)
    # What one request fills is the same; TF Serving shows the steps behind it, too.
    for name in {"tokens", "source_tokens", "alignments"} & said.keys():
        found = np.array(said[name])
        shared = told[name][tuple(map(slice, found.shape))]
        if shared.dtype == object:
            shared = np.vectorize(bytes.decode)(shared)
            assert (found == shared).all(), name
        else:
            np.testing.assert_allclose(found, shared, 1e-5, 1e-5)


def test_the_client_reads_the_metadata_of_a_server(both_ways):
    client, _, _ = both_ways
    assert client.status()[0]["state"] == "AVAILABLE"
    assert client.metadata()["serving_default"]["inputs"]["text"]["dtype"] == "DT_STRING"
    with pytest.raises(ServerError) as refused:
        client.predict({"text": [[1]]})
    assert refused.value.status == 400
