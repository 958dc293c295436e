"""A SavedModel in memory, and its signatures as functions of arrays."""

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2

__all__ = ["Servable", "Signature", "is_saved_model", "load"]

_FILE = "saved_model.pb"


@dataclasses.dataclass(frozen=True, eq=False)  # two versions of a model are two signatures
class Signature:
    """A function of named arrays, and what it takes and gives.

    `function` is called with a tensor for each name of `inputs` and gives a dict of tensors.
    """

    name: str
    inputs: Mapping[str, tf.TensorSpec]
    outputs: Mapping[str, tf.TensorSpec]
    function: Callable[..., Mapping[str, tf.Tensor]]

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Arrays by name -> arrays by name; strings are bytes in arrays of objects.

        Raises ValueError for what the graph itself finds wrong with the inputs.
        """
        tensors = {
            name: tf.convert_to_tensor(inputs[name], spec.dtype)
            for name, spec in self.inputs.items()
        }
        try:
            outputs = self.function(**tensors)
            return {name: value.numpy() for name, value in outputs.items()}
        except (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError) as error:
            raise ValueError(f"The model refuses the inputs: {_reason(error)}") from error


class Servable(NamedTuple):
    """One version of a model."""

    version: int
    signatures: dict[str, Signature]
    signature_def: dict[str, Any]  # as its file says it, in the JSON form of TF Serving
    owner: Any  # the variables live as long as it does


def is_saved_model(directory: str) -> bool:
    """Whether a SavedModel is here."""
    return os.path.isfile(os.path.join(directory, _FILE))


def load(directory: str, version: int = 1) -> Servable:
    """Read a SavedModel with the tag `serve`.

    Raises:
        ValueError: there is none, or it has no signature.
        ImportError: it needs ops of tensorflow_text, which is not installed.
        OSError: it is damaged.
        RuntimeError: it needs ops that are not in this TensorFlow.

    >>> import tempfile
    >>> class Double(tf.Module):
    ...     @tf.function(input_signature=[tf.TensorSpec([None], name="x")])
    ...     def __call__(self, x):
    ...         return {"doubled": 2 * x}
    >>> double = Double()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tf.saved_model.save(double, folder, {"serving_default": double.__call__})
    ...     serve = load(folder).signatures["serving_default"]
    >>> serve({"x": np.array([21.0], "float32")})["doubled"].tolist()
    [42.0]
    """
    if not is_saved_model(directory):
        raise ValueError(
            f"Expected a SavedModel, a directory with {_FILE}. Received: {directory!r}. Export a "
            "model first."
        )
    try:
        loaded = _loaded(directory)
    except (tf.errors.OpError, IndexError) as error:  # IndexError: its variables are cut short
        raise OSError(f"{directory!r} cannot be loaded: {_reason(error)}") from error
    signatures = {
        name: Signature(
            name,
            dict(function.structured_input_signature[1]),
            {key: _spec(value) for key, value in function.structured_outputs.items()},
            function,
        )
        for name, function in loaded.signatures.items()
    }
    if not signatures:
        raise ValueError(f"{directory!r} has no signature that could be served. Export it anew.")
    return Servable(version, signatures, _signature_def(directory), loaded)


def _loaded(directory):
    try:
        return tf.saved_model.load(directory)
    except (RuntimeError, tf.errors.NotFoundError) as error:
        if "Op type not registered" not in str(error):
            raise
        missing = str(error).split(" in binary")[0]
        try:
            import tensorflow_text  # noqa: F401  its import registers the ops of its tokenizers
        except ImportError:
            raise ImportError(
                f"{directory!r} cannot be loaded: {missing}. If it is one of tensorflow_text's, "
                "install that: pip install tensorflow-text"
            ) from error
    return tf.saved_model.load(directory)


def _reason(error) -> str:
    """What the op says, without where in the graph it stands."""
    message = getattr(error, "message", str(error))
    lines = re.split(r"\n\s*\[\[|\s\[Op:", message)[0].splitlines()
    said = lines[-1] if lines else type(error).__name__
    return re.sub(r".*assertion failed: \[(.*?)\] \[(.*)\]", r"\1\2", said)


def _spec(value) -> tf.TensorSpec:
    return tf.TensorSpec(value.shape, value.dtype)


def _signature_def(directory) -> dict[str, Any]:
    parsed = saved_model_pb2.SavedModel()
    with open(os.path.join(directory, _FILE), "rb") as file:
        parsed.ParseFromString(file.read())
    graph = next(graph for graph in parsed.meta_graphs if "serve" in graph.meta_info_def.tags)
    return {
        name: json_format.MessageToDict(
            signature,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )
        for name, signature in sorted(graph.signature_def.items())
    }
