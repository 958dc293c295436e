"""List the ops of a SavedModel: can a server with only TensorFlow, and TF-Text, run it?"""

import os
from collections.abc import Iterator
from typing import NamedTuple

from tensorflow.core.protobuf import saved_model_pb2

from keras_attention.export.op_ages import in_order, op_ages

# Core ops that call back into the Python process which made them.
_PYTHON = ("EagerPyFunc", "PyFunc", "PyFuncStateless")

# Attributes that do not change values. (A TensorFlow without an attribute ignores it.)
_HARMLESS = ("VarHandleOp.debug_name",)


class Audit(NamedTuple):
    """The first three map an op to its nodes; those in functions are "function:node"."""

    ops: dict[str, list[str]]
    outside: dict[str, list[str]]  # not in TensorFlow, but in the TF-Text of TF Serving
    forbidden: dict[str, list[str]]  # Python ops, and ops of no known release
    producer: int  # graph version of the TensorFlow that wrote it
    min_consumer: int  # minimum graph version of a reader
    oldest_serving: str | None  # "2.13"; None: no TF Serving
    reason: str


def audit(directory: str) -> Audit:
    """Read every node of a SavedModel, in its graphs and in all of their functions.

    The ops of each release are in `op_ages`. The installed TensorFlow is not used for this,
    because other libraries may have registered ops in this process.

    Raises ValueError if there is no readable saved_model.pb.
    """
    graphs = [meta_graph.graph_def for meta_graph in meta_graphs(directory)]
    functions = {f.signature.name for graph in graphs for f in graph.library.function}
    ages, ops, needed = op_ages(), {}, {}
    for place, node in (found for graph in graphs for found in _nodes(graph)):
        if node.op not in functions:  # the op may be the name of a function
            ops.setdefault(node.op, []).append(place)
            attributes = [f"{node.op}.{name}" for name in node.attr]
            needed.update(dict.fromkeys([node.op, *attributes]))
    served = in_order(ages.text.values())[0]
    unserved = {name.split(".")[0] for name in needed if ages.text.get(name, served) != served}
    outside = {op: ops[op] for op in sorted(ops.keys() & (ages.text.keys() - unserved))}
    allowed = (ages.core.keys() | outside.keys()) - set(_PYTHON)
    forbidden = {op: ops[op] for op in sorted(ops.keys() - allowed)}
    min_consumer = max((graph.versions.min_consumer for graph in graphs), default=0)
    oldest, reason = None, f"{', '.join(forbidden)}: not in any TF Serving"
    if not forbidden:
        oldest, reason = _oldest(needed, min_consumer)
    return Audit(
        dict(sorted(ops.items())),
        outside,
        forbidden,
        max((graph.versions.producer for graph in graphs), default=0),
        min_consumer,
        oldest,
        reason,
    )


def check_servable(directory: str) -> None:
    """Raise ValueError, naming ops and nodes, if TF Serving cannot run a SavedModel.

    TF Serving has TensorFlow's own ops, except those that call Python, and the ops of TF-Text's
    oldest known release, which servers kept for years.
    """
    forbidden = audit(directory).forbidden
    if forbidden:
        found = "; ".join(
            f"{op} at {', '.join(nodes[:3])}{' and others' if nodes[3:] else ''}"
            for op, nodes in forbidden.items()
        )
        raise ValueError(
            "Expected ops of TensorFlow itself, or of the TF-Text in TF Serving. Received: "
            f"{found}. Compute this outside of the exported functions, or with TensorFlow's ops."
        )


def report(found: Audit) -> str:
    """The lines that the command prints."""
    nodes = sum(map(len, found.ops.values()))
    lines = [f"{len(found.ops)} ops in {nodes} nodes"]
    lines += [f"of TF-Text: {', '.join(found.outside) or 'none'}"]
    lines += [
        f"forbidden: {op}, at {', '.join(places)}" for op, places in found.forbidden.items()
    ] or ["forbidden: none"]
    lines += [f"graph version {found.producer}, readable from {found.min_consumer} on"]
    oldest = "none" if found.oldest_serving is None else found.oldest_serving
    return "\n".join([*lines, f"oldest TF Serving that should load it: {oldest} ({found.reason})"])


def meta_graphs(directory: str) -> list:
    """The graphs in saved_model.pb, at least one; ValueError if it cannot be read."""
    path = os.path.join(directory, "saved_model.pb")
    try:
        with open(path, "rb") as file:
            content = file.read()
        saved = saved_model_pb2.SavedModel.FromString(content)
    except Exception as error:  # the DecodeError of protobuf has no public base class
        raise ValueError(
            f"Expected a SavedModel's directory. Received: {directory!r}, whose saved_model.pb "
            f"cannot be read ({type(error).__name__}: {error})."
        ) from error
    if not saved.meta_graphs:
        raise ValueError(f"Expected a SavedModel. Received: {path}, which holds no graph.")
    return list(saved.meta_graphs)


def _nodes(graph) -> Iterator[tuple]:
    """-> (where, node) of all nodes of a graph and its functions."""
    yield from ((node.name, node) for node in graph.node)
    for function in graph.library.function:
        name = function.signature.name
        yield from ((f"{name}:{node.name}", node) for node in function.node_def)


def _oldest(needed, min_consumer) -> tuple[str | None, str]:
    """-> (TF Serving "2.13", reason): the oldest with all ops, attributes and the graph version.

    TF Serving's releases have the numbers of the TensorFlow that they contain.
    """
    ages = op_ages()
    releases = in_order(ages.graphs)
    readers = [release for release in releases if ages.graphs[release] >= min_consumer]
    if not readers:
        return None, f"the newest known TensorFlow, {releases[-1]}, cannot read such graphs"
    since = {name: ages.core[name] for name in needed if name in ages.core}
    since = {name: release for name, release in since.items() if name not in _HARMLESS}
    newest = in_order([readers[0], *since.values()])[-1]
    oldest = ".".join(newest.split(".")[:2])
    if newest == releases[0]:
        return oldest, f"TensorFlow {newest} has all of it; older ones were not checked"
    came = [name for name, release in since.items() if release == newest]
    what = f"{', '.join(came)} came" if came else f"graphs of version {min_consumer} came"
    before = releases[releases.index(newest) - 1]
    return oldest, f"{what} after TensorFlow {before}, in {newest} or a release between"
