"""From endpoints to a directory that a server loads, shown to work before it is there."""

import importlib.util
from collections.abc import Sequence

import tensorflow as tf

from keras_attention.export.audit import Audit, audit, check_servable
from keras_attention.export.endpoints import Endpoints
from keras_attention.export.saved_model import check_in_clean_process, save
from keras_attention.export.warm_up import Request, write_warm_up

__all__ = ["save_search", "warm_up_requests"]


def save_search(
    directory: str,
    endpoints: Endpoints,
    lines: Sequence[str | bytes] = ("Hello!", "你好！", ""),
    compare: Sequence[str] | None = None,
    warm_up: bool | None = None,
) -> Audit:
    """Write `endpoints` as a SavedModel, replacing one that is there; or change nothing at all.

    Before it takes its name the graph is audited, and `lines` (or ids, if there is no tokenizer)
    are answered in a process that has none of our code, as they are here.

    Args:
        directory: where to.
        endpoints: what is served.
        lines: what is asked in that process, and by a server when it warms up.
        compare: the outputs whose answers must be the same; default: all. Not those that are drawn
            anew each time.
        warm_up: write the warm-up requests; default: if tensorflow-serving-api is installed.

    Returns what the audit found. Raises ValueError for a directory that holds something else, a
    graph that no stock server runs or an output that there is not, RuntimeError for other answers,
    ImportError for `warm_up=True` without the extra [serving], OSError for a disk that is full.
    """
    if warm_up is None:
        warm_up = importlib.util.find_spec("tensorflow_serving") is not None
    requests = warm_up_requests(endpoints, lines)
    (asked,) = requests[0].inputs.values()
    outputs = endpoints.functions["serving_default"].get_concrete_function().structured_outputs
    compare = list(outputs) if compare is None else compare
    if not set(compare) <= outputs.keys():
        raise ValueError(f"Expected outputs among {list(outputs)}. Received: compare={compare}")
    found = []

    def check(new: str) -> None:
        check_servable(new)
        found.append(audit(new))
        answers = endpoints.functions["serving_default"](asked)
        expected = {name: answers[name].numpy() for name in compare}
        check_in_clean_process(new, asked, expected, ["tensorflow_text"] * bool(found[0].outside))
        if warm_up:
            write_warm_up(new, requests)

    save(directory, endpoints, endpoints.functions, check)
    return found[0]


def warm_up_requests(endpoints: Endpoints, lines: Sequence[str | bytes]) -> list[Request]:
    """The same lines for each signature, `serving_default` first; made up ids without a tokenizer.

    Not for `generate_with_settings`: a TF Serving that batches sends what warms it up through its
    batches, too. These have no room for a scalar, and of a request that fails it refuses the model.
    """
    if endpoints.tokenizer is None:
        ids = tf.fill([1, 8], endpoints.start_id)
        return [Request(name, {"ids": ids}) for name in ("serving_default", "generate")]
    text = tf.constant(list(lines), tf.string)
    fits = endpoints.tokenizer.encode(text).row_lengths() <= endpoints.max_target_length
    return [
        Request("serving_default", {"text": text}),
        Request("generate", {"ids": endpoints.source_ids(text)}),
        Request("score", {"source": text, "target": tf.where(fits, text, "")}),
    ]
