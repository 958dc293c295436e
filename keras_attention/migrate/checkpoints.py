"""Read old checkpoints: names and arrays."""

import os
import re
from typing import NamedTuple

import h5py
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

_OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
_TRACKED = "/.ATTRIBUTES/VARIABLE_VALUE"  # the suffix of names in a tf.train.Checkpoint
_OF_A_TRAINING = (
    (r"/\.OPTIMIZER_SLOT/", "optimizer slot"),
    (r"/(Adam|Adagrad|Adadelta|Momentum|RMSProp|Ftrl)(_\d+)?$", "optimizer slot"),
    (r"(^|/)_?(optimizer|optim|opt)(_weights)?(_\d+)?/", "of the optimizer"),
    (r"(^|/)(beta[12]_power(_\d+)?|learning_rate)$", "of the optimizer"),
    (r"(^|/)keras_api/", "metric"),
    (r"(^|/)metrics/[^/]+/vars/\d+$", "metric"),
)


class Checkpoint(NamedTuple):
    """The weights of a file, and what is ignored with the reason."""

    weights: dict[str, np.ndarray]
    ignored: dict[str, str]


def read(path: str) -> Checkpoint:
    """All weights of a checkpoint by name, without optimizer slots, counters and metrics.

    Args:
        path: the prefix of a TensorFlow checkpoint (`tf.train.Saver` of TF 1 in both formats,
            `save_weights`, `tf.train.Checkpoint`), its directory (then the latest one), a
            SavedModel, or a Keras `.h5` file of weights.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the checkpoint cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint = tf.train.Checkpoint(scale=tf.Variable([1.0, 2.0]))
    ...     read(checkpoint.save(folder + "/old")).weights
    {'scale': array([1., 2.], dtype=float32)}
    """
    is_h5 = os.path.isfile(path) and h5py.is_hdf5(path)
    return _sort(_from_h5(path) if is_h5 else _from_tensorflow(_prefix(path)))


def _prefix(path: str) -> str:
    """The name of a checkpoint in TensorFlow: that of its files without the suffix."""
    if os.path.isdir(path):
        if os.path.exists(os.path.join(path, "saved_model.pb")):
            return os.path.join(path, "variables", "variables")
        found = tf.train.latest_checkpoint(path)
    else:
        found = re.sub(r"\.(index|meta|data-\d+-of-\d+)$", "", path)
    if found is None or not tf.io.gfile.glob([found, found + ".index"]):
        raise FileNotFoundError(
            "Expected the prefix of a TensorFlow checkpoint (old/model.ckpt-100 where "
            "old/model.ckpt-100.index is), a directory with one, or a Keras .h5 file. "
            f"Received: {path}"
        )
    return found


def _from_tensorflow(prefix: str) -> dict[str, np.ndarray]:
    try:
        reader = tf.train.load_checkpoint(prefix)
        types = reader.get_variable_to_dtype_map()
        names = sorted(name for name in types if types[name] != tf.string)  # strings are configs
        known = _names_of_positions(reader, [name.removesuffix(_TRACKED) for name in names])
        return {
            known_as: reader.get_tensor(name) for name, known_as in zip(names, known, strict=True)
        }
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise ValueError(
            "Expected a complete TensorFlow checkpoint: the .index file and every .data file that "
            f"belongs to it. Received: {prefix}, where {str(error).splitlines()[0]}"
        ) from error


def _names_of_positions(reader, keys: list[str]) -> list[str]:
    """The keys; a key that is only a number (`variables/3`) is replaced by its variable's name.

    The weights of a functional model of Keras 2 have such keys. The name is not used if two
    variables have it, or another key.
    """
    if _OBJECTS not in reader.get_variable_to_dtype_map():
        return keys
    graph = TrackableObjectGraph.FromString(reader.get_tensor(_OBJECTS))
    attributes = [attribute for node in graph.nodes for attribute in node.attributes]
    names = {a.checkpoint_key.removesuffix(_TRACKED): a.full_name for a in attributes}
    known = [names.get(key) or key if is_position(key) else key for key in keys]
    return [name if known.count(name) == 1 else key for name, key in zip(known, keys)]


def is_position(name: str) -> bool:
    """Whether a name is only the number of a weight, or of a layer, in a model.

    >>> [is_position(name) for name in ("variables/3", "layer_with_weights-0/kernel", "encoder/3")]
    [True, True, False]
    """
    return bool(re.match(r"(.*/)?(variables/\d+$|layer_with_weights-\d+/)", name))


def _from_h5(path: str) -> dict[str, np.ndarray]:
    with h5py.File(path, "r") as file:
        root = file["model_weights"] if "model_weights" in file else file
        groups = [group for group in root.values() if "weight_names" in group.attrs]
        if groups:
            return _from_groups(groups)
        found = {}

        def visit(name, item):
            if isinstance(item, h5py.Dataset):
                found[name] = np.asarray(item)

        root.visititems(visit)
        return found


def _from_groups(groups) -> dict[str, np.ndarray]:
    """One group per layer. A mechanism is in two: its own, and that of its wrapper."""
    found = {}
    for group in groups:
        names = [n.decode() if isinstance(n, bytes) else n for n in group.attrs["weight_names"]]
        for name, known_as in zip(names, _with_projections(names)):
            value = np.asarray(group[name])
            if known_as in found and not np.array_equal(found[known_as], value):
                known_as = f"{group.name.strip('/')}/{known_as}"
            found[known_as] = value
    return found


def _with_projections(names: list[str]) -> list[str]:
    """Distinguish the projections of TFA's mechanisms, which may be `kernel` and `kernel`.

    They follow the mechanism's own weights, the query's before the memory's. The memory's has its
    own scope if `setup_memory` was called before the decoder.
    """
    names = [name.removesuffix(":0") for name in names]
    for scope in {_scope(name) for name in names if re.search(r"/attention_(v|g)$", name)}:
        kernels = [i for i, n in enumerate(names) if n.endswith("/kernel") and _scope(n) == scope]
        roles = [
            role
            for role in ("query_layer", "memory_layer")
            if not any(name.endswith(f"{scope}/{role}/kernel") for name in names)
        ]
        roles = roles[-len(kernels) :]  # Luong's has only that of the memory
        for i, role in zip(kernels, roles):
            names[i] = re.sub("kernel$", f"{role}/kernel", names[i])
    return names


def _scope(name: str) -> str:
    """decoder/attention_wrapper/BahdanauAttention/kernel -> BahdanauAttention."""
    return name.split("/")[-2] if "/" in name else ""


def _sort(found: dict[str, np.ndarray]) -> Checkpoint:
    ignored = {}
    for name, value in found.items():
        reasons = [reason for pattern, reason in _OF_A_TRAINING if re.search(pattern, name)]
        if name.rpartition("/")[0] in found:
            reasons.append("slot of its variable")  # nothing else is below a variable
        if not tf.as_dtype(value.dtype).is_floating:
            reasons.append(f"{value.dtype}, not a weight")
        if reasons:
            ignored[name] = reasons[0]
    return Checkpoint({n: v for n, v in found.items() if n not in ignored}, ignored)
