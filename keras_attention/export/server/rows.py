"""Which requests may share a batch, and each one's own part of what the batch gives.

A reply must not depend on who shared the batch. Rows are a request's own, but an axis as long as
the longest row of the batch is not: it has to be cut to what the request itself fills. How long
that is, a signature with the outputs of `keras_attention.export` tells: `lengths` the target steps
T, `source_tokens` the source steps S. Of other variable axes a server cannot know it; signatures
that have some are run for one request at a time.
"""

from collections.abc import Mapping

import numpy as np

from keras_attention.export.server.servable import Signature

__all__ = ["can_share", "own"]

_AXES = {
    "replies": "BK",
    "scores": "BK",
    "lengths": "BK",
    "ids": "BKT",
    "tokens": "BKT",
    "source_tokens": "BS",
    "alignments": "BKTS",
}


def can_share(signature: Signature) -> bool:
    """Whether every input and output has a free batch axis, and no other axis that it cannot cut.

    A scalar input is no such: nobody but the model knows what it means for the rows beside (a
    seed draws the same for every first row).
    """
    specs = [*signature.inputs.values(), *signature.outputs.values()]
    if any(not spec.shape.rank or spec.shape[0] is not None for spec in specs):
        return False
    axes = _axes(signature)
    return all(
        size is not None or (name in axes and axes[name][axis] in _lengths_known(signature))
        for name, spec in signature.outputs.items()
        for axis, size in enumerate(spec.shape.as_list())
        if axis > 0
    )


def own(signature: Signature, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A request's rows of the outputs, without the steps that they do not fill.

    This is done to what a request alone was given, too: its reply is the same in any company.
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
    """The letters of the outputs, if these are the outputs of an export."""
    lengths = signature.outputs.get("lengths")
    if lengths is None or lengths.shape.rank != 2:
        return {}
    return {
        name: axes
        for name, axes in _AXES.items()
        if name in signature.outputs and signature.outputs[name].shape.rank == len(axes)
    }


def _lengths_known(signature) -> str:
    """The letters whose length a request's own rows tell, or that is the same for all."""
    # A batch is of requests with inputs of one shape: S of ids [B, S] needs no cut.
    of_inputs = any(spec.shape.rank == 2 for spec in signature.inputs.values())
    return "KTS" if of_inputs or "source_tokens" in signature.outputs else "KT"
