"""Requests that a TF Serving runs before it serves a model."""

import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from keras_attention.export.audit import meta_graphs

# TF Serving's path, beside `assets`; it refuses a model with more than a thousand records.
FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")
MOST = 1000


class Request(NamedTuple):
    """A request for one signature."""

    signature: str
    inputs: Mapping[str, Any]  # name -> array


def write_warm_up(directory: str, requests: Iterable[Request], name: str = "model") -> None:
    """Write the requests into a SavedModel, replacing existing ones.

    A server that loads the model then traces, allocates and reads tables before the first real
    requests. Use typical requests: as long, and with as many lines.

    Args:
        directory: a SavedModel.
        requests: at most 1000; each is checked against the signature that it names.
        name: the model's name; a server does not check it.

    Raises:
        ValueError: no SavedModel, an unknown signature or input, a missing input, or too many
            requests.
        ImportError: tensorflow-serving-api is absent.
    """
    logs = _messages()
    # Read the file only: a loaded model stays in the process, and logs warnings.
    signatures = {
        name: signature.inputs
        for name, signature in meta_graphs(directory)[0].signature_def.items()
        if not name.startswith("__saved_model")  # for the loader
    }
    records = []
    for request in requests:
        log = logs.PredictionLog()
        proto = log.predict_log.request
        proto.model_spec.name, proto.model_spec.signature_name = name, request.signature
        for key, value in _checked(request, signatures).items():
            proto.inputs[key].CopyFrom(tf.make_tensor_proto(value))
        records.append(log.SerializeToString())
    if len(records) > MOST:
        raise ValueError(f"Expected at most {MOST} requests. Received: {len(records)}")
    path = os.path.join(directory, FILE)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tf.io.TFRecordWriter(path) as writer:
        for record in records:
            writer.write(record)


def read_warm_up(directory: str) -> list[Request]:
    """The requests of a SavedModel, in order; none if it has no such file.

    Raises:
        ValueError: the file is damaged, or has records that are not predict requests.
        ImportError: tensorflow-serving-api is absent.
    """
    logs, path = _messages(), os.path.join(directory, FILE)
    if not os.path.exists(path):
        return []
    try:
        records = [record.numpy() for record in tf.data.TFRecordDataset(path)]
        return [_request(logs.PredictionLog.FromString(record)) for record in records]
    except Exception as error:  # the DecodeError of protobuf has no public base class
        raise ValueError(
            f"Expected records of PredictionLog, of the predict kind. Received: {path}, which "
            f"cannot be read ({type(error).__name__}: {error}). Export the model again."
        ) from error


def _checked(request, signatures) -> dict[str, tf.Tensor]:
    if request.signature not in signatures:
        raise ValueError(
            f"Expected one of the signatures {sorted(signatures)}. Received: {request.signature!r}"
        )
    specs = signatures[request.signature]
    if request.inputs.keys() != specs.keys():
        raise ValueError(
            f"Expected the inputs {sorted(specs)} for {request.signature!r}. Received: "
            f"{sorted(request.inputs)}"
        )
    tensors = {}
    for name, value in request.inputs.items():
        tensor = tf.convert_to_tensor(value, tf.as_dtype(specs[name].dtype))
        shape = tf.TensorShape(specs[name].tensor_shape)
        if not shape.is_compatible_with(tensor.shape):
            raise ValueError(
                f"Expected {name} of shape {shape} for {request.signature!r}. "
                f"Received: shape {tensor.shape}"
            )
        tensors[name] = tensor
    return tensors


def _request(log) -> Request:
    if log.WhichOneof("log_type") != "predict_log":
        raise ValueError(f"a record of {log.WhichOneof('log_type')}")
    proto = log.predict_log.request
    inputs = {name: tf.make_ndarray(value) for name, value in proto.inputs.items()}
    return Request(proto.model_spec.signature_name, inputs)


def _messages():
    try:
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError as error:
        raise ImportError(
            "Warm-up requests are messages of tensorflow-serving-api. Install the extra: pip "
            "install 'keras-attention-seq2seq[serving]'"
        ) from error
    return prediction_log_pb2
