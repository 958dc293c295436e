"""Which requests may share a batch, and each one's part of the outputs.

A reply must not depend on the other requests in its batch. Rows belong to one request, but an axis
that is padded to the longest row of the batch must be cut to the length that the request itself
needs. The outputs of `keras_attention.export` contain that length: `lengths` the target steps T,
`source_tokens` the source steps S. For other variable axes a server cannot know it; signatures with
such axes run one request at a time.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from keras_attention.export.server.servable import Signature

__all__ = ["count", "joined", "own", "split", "batching_obstacle"]

Arrays = Mapping[str, np.ndarray]

_AXES = {
    "replies": "BK",
    "scores": "BK",
    "lengths": "BK",
    "ids": "BKT",
    "tokens": "BKT",
    "source_tokens": "BS",
    "alignments": "BKTS",
}


def batching_obstacle(signature: Signature) -> str | None:
    """Why requests of a signature cannot share a batch; None if they can.

    Every input and output needs a free batch axis, and no other axis of unknown real length. A
    scalar input has none: only the model knows its effect on the rows (a seed draws the same for
    every first row).
    """
    for name, spec in [*signature.inputs.items(), *signature.outputs.items()]:
        if not spec.shape.rank or spec.shape[0] is not None:
            return f"{name!r} has no free batch axis"
    axes, known = _axes(signature), _lengths_known(signature)
    for name, spec in signature.outputs.items():
        for axis, size in enumerate(spec.shape.as_list()):
            if axis and size is None and (name not in axes or axes[name][axis] not in known):
                return f"no output gives the real length of axis {axis} of {name!r}"
    return None


def count(signature: Signature, inputs: Arrays) -> int:
    """The number of rows of a request: the most of all inputs with a free first axis."""
    free = [n for n, spec in signature.inputs.items() if spec.shape.rank and spec.shape[0] is None]
    return max((len(inputs[name]) for name in free), default=0)


def split(signature: Signature, inputs: Arrays, size: int) -> Iterator[Arrays]:
    """The inputs in parts of at most `size` rows; not split if requests run alone."""
    rows = count(signature, inputs)
    if (
        rows <= size
        or batching_obstacle(signature)
        or any(len(one) != rows for one in inputs.values())
    ):
        yield inputs
        return
    for start in range(0, rows, size):
        yield {name: value[start : start + size] for name, value in inputs.items()}


def joined(parts: Sequence[Arrays]) -> Arrays:
    """The concatenated outputs of parts; shorter rows are padded as in a batch."""
    if len(parts) == 1:
        return parts[0]
    return {name: _below([part[name] for part in parts]) for name in parts[0]}


def _below(arrays) -> np.ndarray:
    rows, longest = sum(map(len, arrays)), np.max([array.shape[1:] for array in arrays], 0)
    nothing = b"" if arrays[0].dtype == object else 0
    whole, start = np.full([rows, *longest], nothing, arrays[0].dtype), 0
    for array in arrays:
        whole[(slice(start, start + len(array)), *map(slice, array.shape[1:]))] = array
        start += len(array)
    return whole


def own(signature: Signature, rows: Arrays) -> dict[str, np.ndarray]:
    """A request's rows of the outputs, cut to the steps that they need.

    The outputs of a request that ran alone are cut, too, so its reply is always the same.
    """
    axes = _axes(signature)
    filled = {}
    if axes:
        filled["T"] = int(np.max(rows["lengths"], initial=0))
    if axes and "source_tokens" in rows:
        used = np.flatnonzero((rows["source_tokens"] != b"").any(0))
        filled["S"] = int(np.max(used + 1, initial=0))
    return {
        name: value[tuple(slice(filled.get(axis)) for axis in axes.get(name, ""))]
        for name, value in rows.items()
    }


def _axes(signature) -> dict[str, str]:
    """The letters of the outputs' axes, if these are the outputs of an export."""
    lengths = signature.outputs.get("lengths")
    if lengths is None or lengths.shape.rank != 2:
        return {}
    return {
        name: axes
        for name, axes in _AXES.items()
        if name in signature.outputs and signature.outputs[name].shape.rank == len(axes)
    }


def _lengths_known(signature) -> str:
    """The letters whose real length the outputs contain, or that is the same for all."""
    # All inputs of a batch have the same shape: S of ids [B, S] is not cut.
    of_inputs = any(spec.shape.rank == 2 for spec in signature.inputs.values())
    return "KTS" if of_inputs or "source_tokens" in signature.outputs else "KT"
