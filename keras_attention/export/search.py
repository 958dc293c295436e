"""Save endpoints as a SavedModel that is checked before it gets its name."""

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
    """Write `endpoints` as a SavedModel, replacing an existing one; on failure change nothing.

    Before it gets its name, its graph is audited, and `lines` (or ids, if there is no tokenizer)
    are run in a process without our code, which must return the same outputs.

    Args:
        directory: the path.
        endpoints: the functions to serve.
        lines: inputs of that check, and of a server's warm-up.
        compare: the outputs that must be equal; default: all. Leave out those of random draws.
        warm_up: write the warm-up requests; default: if tensorflow-serving-api is installed.

    Returns the audit. Raises ValueError for a directory that holds other files, a graph that no
    standard server can run, or an unknown output, RuntimeError for differing outputs, ImportError
    for `warm_up=True` without the extra [serving], OSError if the disk is full.
    """
    if warm_up is None:
        warm_up = importlib.util.find_spec("tensorflow_serving") is not None
    requests = warm_up_requests(endpoints, lines)
    (inputs,) = requests[0].inputs.values()
    outputs = endpoints.functions["serving_default"].get_concrete_function().structured_outputs
    compare = list(outputs) if compare is None else compare
    if not set(compare) <= outputs.keys():
        raise ValueError(f"Expected outputs among {list(outputs)}. Received: compare={compare}")
    found = []

    def check(new: str) -> None:
        check_servable(new)
        found.append(audit(new))
        answers = endpoints.functions["serving_default"](inputs)
        expected = {name: answers[name].numpy() for name in compare}
        check_in_clean_process(new, inputs, expected, ["tensorflow_text"] * bool(found[0].outside))
        if warm_up:
            write_warm_up(new, requests)

    save(directory, endpoints, endpoints.functions, check)
    return found[0]


def warm_up_requests(endpoints: Endpoints, lines: Sequence[str | bytes]) -> list[Request]:
    """The same lines for each signature, `serving_default` first; fixed ids without a tokenizer.

    Not for `generate_with_settings`: a TF Serving with batching also batches its warm-up requests,
    cannot batch a scalar, and refuses a model whose warm-up fails.
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
