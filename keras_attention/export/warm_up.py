"""Requests that a TF Serving answers to itself before it takes a model into service."""

import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from keras_attention.export.audit import meta_graphs

# Where TF Serving looks, beside `assets`; of more than a thousand records it refuses the model.
FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")
MOST = 1000


class Request(NamedTuple):
    """What one signature is asked."""

    signature: str
    inputs: Mapping[str, Any]  # name -> array


def write_warm_up(directory: str, requests: Iterable[Request], name: str = "model") -> None:
    """Write the requests into a SavedModel, in the place of those that are there.

    A server that loads the model then traces, allocates and reads tables for these requests, not
    for the first real ones. Ask what real lines ask: as long, and as many at once.

    Args:
        directory: a SavedModel.
        requests: at most 1000; each is checked against the signature that it names.
        name: what the model is called; a server does not compare it.

    Raises:
        ValueError: no SavedModel, a signature or an input that there is not, one that is missing,
            too many.
        ImportError: tensorflow-serving-api is absent.
    """
    logs = _messages()
    # Of the file alone: a model that is loaded stays in the process, and logs what it lacks.
    signatures = {
        name: signature.inputs
        for name, signature in meta_graphs(directory)[0].signature_def.items()
        if not name.startswith("__saved_model")  # what a loader runs first
    }
    records = []
    for request in requests:
        log = logs.PredictionLog()
        asked = log.predict_log.request
        asked.model_spec.name, asked.model_spec.signature_name = name, request.signature
        for key, value in _checked(request, signatures).items():
            asked.inputs[key].CopyFrom(tf.make_tensor_proto(value))
        records.append(log.SerializeToString())
    if len(records) > MOST:
        raise ValueError(f"Expected at most {MOST} requests. Received: {len(records)}")
    path = os.path.join(directory, FILE)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tf.io.TFRecordWriter(path) as writer:
        for record in records:
            writer.write(record)


def read_warm_up(directory: str) -> list[Request]:
    """The requests of a SavedModel, in their order; none if it has no such file.

    Raises:
        ValueError: the file is damaged, or logs something else than predictions.
        ImportError: tensorflow-serving-api is absent.
    """
    logs, path = _messages(), os.path.join(directory, FILE)
    if not os.path.exists(path):
        return []
    try:
        records = [record.numpy() for record in tf.data.TFRecordDataset(path)]
        return [_request(logs.PredictionLog.FromString(record)) for record in records]
    except Exception as error:  # a protobuf's own DecodeError is of no common kind
        raise ValueError(
            f"Expected records of PredictionLog, of the predict kind. Received: {path}, which "
            f"cannot be read ({type(error).__name__}: {error}). Export the model anew."
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
    asked = log.predict_log.request
    inputs = {name: tf.make_ndarray(proto) for name, proto in asked.inputs.items()}
    return Request(asked.model_spec.signature_name, inputs)


def _messages():
    try:
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError as error:
        raise ImportError(
            "Warm-up requests are messages of tensorflow-serving-api. Install the extra: pip "
            "install 'keras-attention-seq2seq[serving]'"
        ) from error
    return prediction_log_pb2
