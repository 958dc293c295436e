import re

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.export.server import Signature, load
from keras_attention.export.server.rows import batching_obstacle, count, joined, own, split
from tests.export.server.serving import EXTRA_STEPS


@pytest.fixture(scope="module")
def signatures(parrot):
    return load(parrot).signatures


def test_signatures_of_rows_share_a_batch(signatures):
    for name in ("serving_default", "total", "keep"):
        assert batching_obstacle(signatures[name]) is None


def test_a_scalar_or_an_unknown_length_runs_alone(signatures):
    assert batching_obstacle(signatures["repeat"]) == "'times' has no free batch axis"
    # Which of the two is named depends on their order, which a SavedModel does not keep.
    assert re.search(r"length of axis 1 of '(row|padded)'", batching_obstacle(signatures["widest"]))


@pytest.mark.parametrize(
    "kind",
    [
        "rnn char",
        *(pytest.param(kind, marks=pytest.mark.full) for kind in ("transformer char", "couplet")),
    ],
)
@pytest.mark.full
def test_of_a_real_export_only_scalars_and_scores_run_alone(kind, exported):
    """An output that is new must be known to `own`, or the batches end."""
    signatures = load(str(exported(kind).directory)).signatures
    shared = {
        name for name, signature in signatures.items() if batching_obstacle(signature) is None
    }
    assert shared == {"serving_default", "generate"}


def _signature(outputs, **inputs):
    ids = {"ids": tf.TensorSpec([None, None], tf.int32)}
    return Signature("any", inputs or ids, outputs, lambda **_: {})


def test_the_source_axis_of_ids_is_that_of_all_who_share_the_batch():
    outputs = {
        "ids": tf.TensorSpec([None, 2, None], tf.int32),
        "lengths": tf.TensorSpec([None, 2], tf.int32),
        "alignments": tf.TensorSpec([None, 2, None, None]),
    }
    assert batching_obstacle(_signature(outputs)) is None
    assert batching_obstacle(_signature(outputs, text=tf.TensorSpec([None], tf.string)))


def test_names_alone_do_not_make_an_export():
    assert batching_obstacle(_signature({"tokens": tf.TensorSpec([None, 2, None], tf.string)}))
    flat = {"lengths": tf.TensorSpec([None]), "scores": tf.TensorSpec([None, None])}
    assert batching_obstacle(_signature(flat))


def test_an_output_of_unknown_rank_or_fixed_batch_runs_alone():
    for shape in (None, [], [3]):
        assert batching_obstacle(_signature({"y": tf.TensorSpec(shape)}))


def test_rows_are_cut_to_what_they_fill(signatures):
    say = signatures["serving_default"]
    everyone = say({"text": np.array([b"ab", "好".encode(), b"a longer line"], object)})
    assert everyone["tokens"].shape == (3, 2, 14 + EXTRA_STEPS)
    mine = own(say, {name: value[:2] for name, value in everyone.items()})
    shapes = {name: value.shape for name, value in mine.items()}
    assert shapes["tokens"] == (2, 2, 3) and shapes["source_tokens"] == (2, 3)
    assert shapes["alignments"] == (2, 2, 3, 3) and shapes["replies"] == (2, 2)
    assert mine["tokens"][0, 0].tolist() == [b"a", b"b", b"</s>"]


def test_no_rows_and_rows_without_an_answer_fill_nothing(signatures):
    say = signatures["serving_default"]
    nobody = own(say, say({"text": np.array([], object)}))
    assert nobody["tokens"].shape == (0, 2, 0) and nobody["alignments"].shape == (0, 2, 0, 0)
    silent = say({"text": np.array([b"ab"], object)})
    silent["lengths"] = np.zeros([1, 2], np.int32)
    assert own(say, silent)["tokens"].shape == (1, 2, 0)


def test_a_request_is_split_into_rows_that_join_to_the_same_answer(signatures):
    say = signatures["serving_default"]
    texts = [b"ab", "好".encode(), b"a longer line", b"", b"x"]
    inputs = {"text": np.array(texts, object)}
    parts = list(split(say, inputs, 2))
    assert [part["text"].tolist() for part in parts] == [texts[:2], texts[2:4], texts[4:]]
    found = own(say, joined([say(part) for part in parts]))
    expected = own(say, say(inputs))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and found[name].tolist() == value.tolist(), name


def test_what_runs_alone_is_never_split(signatures):
    alone = {"text": np.array([b"a"] * 5, object), "times": np.array(2, np.int32)}
    assert count(signatures["repeat"], alone) == 5
    assert list(split(signatures["repeat"], alone, 2)) == [alone]
    pair = {name: tf.TensorSpec([None]) for name in ("a", "b")}
    uneven = {"a": np.ones(1, np.float32), "b": np.ones(5, np.float32)}
    signature = _signature(pair, **pair)
    assert count(signature, uneven) == 5 and list(split(signature, uneven, 2)) == [uneven]
