"""What is in a SavedModel: can a server that knows only TensorFlow, and TF-Text, run it?"""

import os
from collections.abc import Iterator
from typing import NamedTuple

from tensorflow.core.protobuf import saved_model_pb2

from keras_attention.export.op_ages import in_order, op_ages

# Ops of the core that call back the Python process which made them.
_PYTHON = ("EagerPyFunc", "PyFunc", "PyFuncStateless")

# Attributes that change no value. (A TensorFlow that does not know an attribute ignores it.)
_HARMLESS = ("VarHandleOp.debug_name",)


class Audit(NamedTuple):
    """Each of the first three: op -> the nodes that are it, those of functions "function:node"."""

    ops: dict[str, list[str]]
    outside: dict[str, list[str]]  # of no TensorFlow, but of a TF-Text that TF Serving has
    forbidden: dict[str, list[str]]  # Python, and ops of no release that is known
    producer: int  # the version of graphs of the TensorFlow that wrote it
    min_consumer: int  # the least that a reader must have
    oldest_serving: str | None  # "2.13"; None: no server will
    reason: str


def audit(directory: str) -> Audit:
    """Read every node of a SavedModel, in its graphs and in all of their functions.

    TensorFlow is asked nothing, so that no library which registered its ops in this process makes
    them look like TensorFlow's: what each release has is in `op_ages`.

    Raises ValueError if there is no saved_model.pb that can be read.
    """
    graphs = [meta_graph.graph_def for meta_graph in meta_graphs(directory)]
    functions = {f.signature.name for graph in graphs for f in graph.library.function}
    ages, ops, needed = op_ages(), {}, {}
    for place, node in (found for graph in graphs for found in _nodes(graph)):
        if node.op not in functions:  # a function may be called by its own name
            ops.setdefault(node.op, []).append(place)
            attributes = [f"{node.op}.{name}" for name in node.attr]
            needed.update(dict.fromkeys([node.op, *attributes]))
    served = in_order(ages.text.values())[0]
    unserved = {name.split(".")[0] for name in needed if ages.text.get(name, served) != served}
    outside = {op: ops[op] for op in sorted(ops.keys() & (ages.text.keys() - unserved))}
    allowed = (ages.core.keys() | outside.keys()) - set(_PYTHON)
    forbidden = {op: ops[op] for op in sorted(ops.keys() - allowed)}
    min_consumer = max((graph.versions.min_consumer for graph in graphs), default=0)
    oldest, reason = None, f"{', '.join(forbidden)}: no TF Serving has them"
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
    """Raise ValueError, naming ops and nodes, if a SavedModel needs what TF Serving does not have.

    What it has are TensorFlow's own ops, without those that call Python, and the ops of TF-Text's
    oldest known release: servers kept that one for years.
    """
    forbidden = audit(directory).forbidden
    if forbidden:
        found = "; ".join(
            f"{op} at {', '.join(nodes[:3])}{' and others' if nodes[3:] else ''}"
            for op, nodes in forbidden.items()
        )
        raise ValueError(
            "Expected ops of TensorFlow itself, or of TF-Text as TF Serving has it. Received: "
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
    """What saved_model.pb holds, at least one; ValueError if it cannot be read."""
    path = os.path.join(directory, "saved_model.pb")
    try:
        with open(path, "rb") as file:
            content = file.read()
        saved = saved_model_pb2.SavedModel.FromString(content)
    except Exception as error:  # a protobuf's own DecodeError is of no common kind
        raise ValueError(
            f"Expected a SavedModel's directory. Received: {directory!r}, whose saved_model.pb "
            f"cannot be read ({type(error).__name__}: {error})."
        ) from error
    if not saved.meta_graphs:
        raise ValueError(f"Expected a SavedModel. Received: {path}, which holds no graph.")
    return list(saved.meta_graphs)


def _nodes(graph) -> Iterator[tuple]:
    """-> (where, node) of all of a graph."""
    yield from ((node.name, node) for node in graph.node)
    for function in graph.library.function:
        name = function.signature.name
        yield from ((f"{name}:{node.name}", node) for node in function.node_def)


def _oldest(needed, min_consumer) -> tuple[str | None, str]:
    """-> (TF Serving "2.13", why): it has all ops and attributes, and reads such graphs.

    TF Serving's releases are called after the TensorFlow that they are built on.
    """
    ages = op_ages()
    releases = in_order(ages.graphs)
    readers = [release for release in releases if ages.graphs[release] >= min_consumer]
    if not readers:
        return None, f"TensorFlow {releases[-1]}, the newest that is known, reads no such graphs"
    since = {name: ages.core[name] for name in needed if name in ages.core}
    since = {name: release for name, release in since.items() if name not in _HARMLESS}
    newest = in_order([readers[0], *since.values()])[-1]
    oldest = ".".join(newest.split(".")[:2])
    if newest == releases[0]:
        return oldest, f"TensorFlow {newest} has all of it; older ones were not looked at"
    came = [name for name, release in since.items() if release == newest]
    what = f"{', '.join(came)} came" if came else f"graphs of version {min_consumer} came"
    before = releases[releases.index(newest) - 1]
    return oldest, f"{what} after TensorFlow {before}, in {newest} or a release between"
