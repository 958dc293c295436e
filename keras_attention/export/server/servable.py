"""A loaded SavedModel, and its signatures as functions of arrays."""

import contextlib
import dataclasses
import logging
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf import json_format, message
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

__all__ = ["Servable", "Signature", "is_saved_model", "load"]

_FILE, _TAG = "saved_model.pb", "serve"
_INIT = "__saved_model_init_op"  # run once by a session; not a signature to serve
_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)  # signatures of two versions are never equal
class Signature:
    """A function of named arrays, with the specs of its inputs and outputs.

    `function` is called with a tensor for each name of `inputs` and returns a dict of tensors or
    arrays. `within(seconds)`, if given, returns the same function with a time limit: it raises
    TimeoutError and stops computing.
    """

    name: str
    inputs: Mapping[str, tf.TensorSpec]
    outputs: Mapping[str, tf.TensorSpec]
    function: Callable[..., Mapping[str, Any]]
    within: Callable[[float], Callable[..., Mapping[str, Any]]] | None = None

    def __call__(
        self, inputs: Mapping[str, np.ndarray], seconds: float | None = None
    ) -> dict[str, np.ndarray]:
        """Arrays by name -> arrays by name; strings are bytes in arrays of objects.

        `seconds`: the time limit, if the signature can be stopped.

        Raises ValueError for inputs that do not match the specs, and for assertions of the graph,
        and TimeoutError after `seconds`.
        """
        tensors = self._tensors(inputs)
        function = self.function
        if seconds is not None and self.within is not None:
            function = self.within(seconds)
        try:
            outputs = function(**tensors)
            return {name: _array(value) for name, value in outputs.items()}
        except (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError) as error:
            raise ValueError(f"The model rejects the inputs: {_reason(error)}") from error

    def _tensors(self, inputs) -> dict[str, tf.Tensor]:
        if inputs.keys() != self.inputs.keys():
            raise ValueError(
                f"Expected the inputs {sorted(self.inputs)} of {self.name!r}. Received: "
                f"{sorted(inputs)}"
            )
        tensors = {}
        for name, spec in self.inputs.items():
            array = np.asarray(inputs[name])
            try:
                tensors[name] = tf.convert_to_tensor(array, spec.dtype)
                spec.shape.assert_is_compatible_with(array.shape)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"Expected {name!r} of shape {spec.shape} as {spec.dtype.name}. Received: "
                    f"shape {array.shape}, {array.dtype}"
                ) from error
        return tensors


class Servable(NamedTuple):
    """One version of a model."""

    version: int
    signatures: dict[str, Signature]
    signature_def: dict[str, Any]  # from its file, in the JSON format of TF Serving
    owner: Any  # keeps the variables alive

    def signature(self, name: Any = None) -> Signature:
        """The signature of this name, or the default one. Raises ValueError if there is none."""
        name = name or "serving_default"
        if not isinstance(name, str) or name not in self.signatures:
            raise ValueError(
                f"Expected one of the signatures {sorted(self.signatures)}. Received: {name!r}"
            )
        return self.signatures[name]


def is_saved_model(directory: str) -> bool:
    """Whether a SavedModel is here."""
    return os.path.isfile(os.path.join(directory, _FILE))


def load(directory: str, version: int = 1) -> Servable:
    """Read a SavedModel with the tag `serve`.

    Raises:
        ValueError: there is no SavedModel, it has another tag, or no signature.
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
        graph = _served_graph(directory)
        session = _session(directory)
    except (message.DecodeError, tf.errors.OpError, IndexError) as error:  # truncated files
        raise OSError(f"{directory!r} cannot be loaded: {_reason(error)}") from error
    signatures = {
        name: _signature(name, definition, session)
        for name, definition in sorted(graph.signature_def.items())
        if name != _INIT and _is_dense(name, definition)
    }
    if not signatures:
        raise ValueError(f"{directory!r} has no signature that can be served. Export it again.")
    return Servable(version, signatures, _signature_def(graph), session)


def _session(directory) -> tf.compat.v1.Session:
    """A session with the graph, its variables and its tables; closed when it is garbage collected.

    `tf.saved_model.load` would register functions and gradients until the process ends, so each
    loaded version would stay in memory. And a call could not be stopped.
    """
    try:
        return _opened(directory)
    except (RuntimeError, tf.errors.NotFoundError, ValueError, KeyError) as error:
        if "Op type not registered" not in str(error):
            raise
        missing = str(error).split(" in binary")[0].strip("'\"")
        try:
            import tensorflow_text  # noqa: F401  the import registers the ops of its tokenizers
        except ImportError:
            raise ImportError(
                f"{directory!r} cannot be loaded: {missing}. If it is one of tensorflow_text's, "
                "install that: pip install tensorflow-text"
            ) from error
    return _opened(directory)


def _opened(directory) -> tf.compat.v1.Session:
    session = tf.compat.v1.Session(graph=tf.Graph())
    try:
        with _without_deprecations():
            tf.compat.v1.saved_model.load(session, [_TAG], directory)
    except BaseException:
        session.close()
        raise
    return session


@contextlib.contextmanager
def _without_deprecations():
    """Hide the deprecation warning of sessions, which are the only way to stop a call."""

    def other(record) -> bool:
        return "deprecated" not in str(record.msg)

    logger = tf.get_logger()
    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)


def _is_dense(name, definition) -> bool:
    for side in (definition.inputs, definition.outputs):
        for key, info in side.items():
            if info.WhichOneof("encoding") != "name":
                _LOG.warning("Signature %r is not served: %r is not a dense tensor", name, key)
                return False
    return True


def _signature(name, definition, session) -> Signature:
    given = {key: info.name for key, info in sorted(definition.inputs.items())}
    wanted = {key: info.name for key, info in sorted(definition.outputs.items())}

    def within(seconds):
        # 0 milliseconds would mean no limit.
        limit = max(1, int(1000 * seconds)) if seconds is not None else 0
        options = tf.compat.v1.RunOptions(timeout_in_ms=limit)

        def run(**tensors):
            fed = {given[key]: tensor.numpy() for key, tensor in tensors.items()}
            try:
                return session.run(wanted, fed, options)
            except tf.errors.DeadlineExceededError as error:
                raise TimeoutError(f"{name!r} took longer than {seconds:g} seconds.") from error

        return run

    return Signature(
        name,
        {key: _spec(key, definition.inputs[key]) for key in given},
        {key: _spec(key, definition.outputs[key]) for key in wanted},
        within(None),
        within,
    )


def _array(value) -> Any:
    return value.numpy() if tf.is_tensor(value) else value


def _reason(error) -> str:
    """The message of an op's error, without its place in the graph."""
    text = getattr(error, "message", str(error))
    lines = re.split(r"\n\s*\[\[|\s\[Op:", text)[0].splitlines()
    line = lines[-1] if lines else type(error).__name__
    failed = re.fullmatch(r".*assertion failed: \[(.*)\]", line)
    # Each part of an assertion's message is in brackets, texts and numbers alike.
    return re.sub(" +", " ", failed[1].replace("] [", " ")) if failed else line


def _spec(name, info) -> tf.TensorSpec:
    shape = tf.TensorShape(info.tensor_shape)
    return tf.TensorSpec(shape, tf.dtypes.as_dtype(info.dtype), name)


def _served_graph(directory) -> meta_graph_pb2.MetaGraphDef:
    parsed = saved_model_pb2.SavedModel()
    with open(os.path.join(directory, _FILE), "rb") as file:
        parsed.ParseFromString(file.read())
    tags = [list(graph.meta_info_def.tags) for graph in parsed.meta_graphs]
    for graph, of_graph in zip(parsed.meta_graphs, tags):
        if _TAG in of_graph:
            return graph
    raise ValueError(
        f"Expected a graph with the tag {_TAG!r}, the one for servers, in {directory!r}. Received: "
        f"tags={tags}. Export the model with that tag."
    )


def _signature_def(graph) -> dict[str, Any]:
    return {
        name: json_format.MessageToDict(
            signature,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )
        for name, signature in sorted(graph.signature_def.items())
    }
