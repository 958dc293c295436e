import numpy as np
import pytest
import tensorflow as tf

from keras_attention.export.server import Signature, load
from keras_attention.export.server.rows import can_share, own
from tests.export.server.serving import EXTRA_STEPS


@pytest.fixture(scope="module")
def signatures(parrot):
    return load(parrot).signatures


def test_signatures_of_rows_share_a_batch(signatures):
    assert can_share(signatures["serving_default"])
    assert can_share(signatures["total"]) and can_share(signatures["keep"])


def test_a_scalar_or_a_length_that_nobody_tells_runs_alone(signatures):
    assert not can_share(signatures["repeat"])  # `times` is a scalar
    assert not can_share(signatures["widest"])  # how long is a row of `padded`?


def _signature(outputs, **inputs):
    ids = {"ids": tf.TensorSpec([None, None], tf.int32)}
    return Signature("any", inputs or ids, outputs, lambda **_: {})


def test_the_source_axis_of_ids_is_that_of_all_who_share_the_batch():
    outputs = {
        "ids": tf.TensorSpec([None, 2, None], tf.int32),
        "lengths": tf.TensorSpec([None, 2], tf.int32),
        "alignments": tf.TensorSpec([None, 2, None, None]),
    }
    assert can_share(_signature(outputs))
    assert not can_share(_signature(outputs, text=tf.TensorSpec([None], tf.string)))


def test_names_alone_do_not_make_an_export():
    assert not can_share(_signature({"tokens": tf.TensorSpec([None, 2, None], tf.string)}))
    flat = {"lengths": tf.TensorSpec([None]), "scores": tf.TensorSpec([None, None])}
    assert not can_share(_signature(flat))


def test_an_output_of_unknown_rank_or_fixed_batch_runs_alone():
    for shape in (None, [], [3]):
        assert not can_share(_signature({"y": tf.TensorSpec(shape)}))


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
