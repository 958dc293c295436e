"""From endpoints to a directory that a server loads, shown to work before it is there."""

import importlib.util
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_attention import text as texts
from keras_attention.export.audit import Audit, audit, demand_servable
from keras_attention.export.endpoints import Endpoints
from keras_attention.export.saved_model import check_in_clean_process, save
from keras_attention.export.settings import TYPES
from keras_attention.export.warm_up import Request, write_warm_up

__all__ = ["save_search", "warm_up_requests"]


def save_search(
    directory: str,
    endpoints: Endpoints,
    lines: Sequence[str] = ("Hello!", "你好！", ""),
    compare: Sequence[str] | None = None,
    warm_up: bool | None = None,
) -> Audit:
    """Write `endpoints` as a SavedModel, replacing one that is there; or change nothing at all.

    Before it takes its name the graph is audited, and `lines` are answered in a process that has
    none of our code, as they are here.

    Args:
        directory: where to.
        endpoints: what is served.
        lines: what is asked in that process, and by a server when it warms up.
        compare: the outputs whose answers must be the same; default: all. Not those that are drawn
            anew each time.
        warm_up: write the warm-up requests; default: if tensorflow-serving-api is installed.

    Returns what the audit found. Raises ValueError for a directory that holds something else or a
    graph that no stock server runs, RuntimeError for other answers, ImportError for `warm_up=True`
    without the extra [serving], OSError for a disk that is full.
    """
    if warm_up is None:
        warm_up = importlib.util.find_spec("tensorflow_serving") is not None
    found = []

    def check(new: str) -> None:
        demand_servable(new)
        found.append(audit(new))
        if endpoints.tokenizer is not None:
            answers = endpoints.serving_default(tf.constant(lines))
            expected = {name: value.numpy() for name, value in answers.items()}
            libraries = (
                ["tensorflow_text"] if isinstance(endpoints.tokenizer, texts.Subwords) else []
            )
            kept = {name: expected[name] for name in compare or expected}
            check_in_clean_process(new, lines, kept, libraries)
        if warm_up:
            write_warm_up(new, warm_up_requests(endpoints, lines))

    save(directory, endpoints, endpoints.functions, check)
    return found[0]


def warm_up_requests(endpoints: Endpoints, lines: Sequence[str]) -> list[Request]:
    """Each signature asked about the same lines."""
    if endpoints.tokenizer is None:
        ids = np.full([1, 8], endpoints.end_id, np.int32)
        return [Request(name, {"ids": ids}) for name in endpoints.functions]
    text = tf.constant(lines)
    as_exported = {
        name: tf.constant(value, dtype)
        for (name, value), dtype in zip(endpoints.settings._asdict().items(), TYPES)
    }
    return [
        Request("serving_default", {"text": text}),
        Request("generate_with_settings", {"text": text, **as_exported}),
        Request("generate", {"ids": endpoints.source_ids(text)}),
        Request("score", {"source": text, "target": text}),
    ]
