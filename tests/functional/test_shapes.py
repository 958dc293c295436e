"""Errors of shapes name the axis in the letters of the docs, the expected and the actual size."""

import pytest
import tensorflow as tf

from keras_attention import functional
from keras_attention.functional.shapes import check_shapes, pair

x = tf.ones


def test_what_is_not_given_or_not_known_fits():
    check_shapes(query=("B T D", (None, None, 4)), memory=("B S E", (2, 5, 6)), mask=("B S", None))
    check_shapes(query=("B T", tf.TensorShape(None)), memory=("B S", (2, 3)))


def test_an_axis_with_a_question_mark_may_be_one():
    check_shapes(query=("B T D", (3, 2, 4)), mask=("B? T? S", (1, 1, 5)))
    with pytest.raises(ValueError, match=r"mask must be \[B or 1, T\] with B = 3, as in query"):
        check_shapes(query=("B T D", (3, 2, 4)), mask=("B? T", (2, 2)))


def test_a_number_is_that_number_and_lists_of_numbers_have_a_shape():
    check_shapes(place=("B 2", [[0.5, 0.5]]))
    with pytest.raises(
        ValueError, match=r"place must be \[B, 2\]. Received: place of shape \(1, 3"
    ):
        check_shapes(place=("B 2", [[0.5, 0.5, 0.5]]))


def test_an_unknown_size_takes_that_of_the_next():
    with pytest.raises(ValueError, match=r"c must be \[B\] with B = 2, as in b"):
        check_shapes(a=("B", (None,)), b=("B", (2,)), c=("B", (3,)))


def test_a_pair_is_two():
    with pytest.raises(ValueError, match=r"Received: \(2, 2, 2\)"):
        pair((2, 2, 2))


def heads():
    return x([1, 2, 3, 4]), x([1, 2, 5, 4]), x([1, 2, 5, 4])


CASES = {
    "dot": (lambda f: f(x([2, 3, 4]), x([2, 5, 6])), r"keys .* D = 4, as in query"),
    "cosine": (lambda f: f(x([2, 3, 4]), x([3, 5, 4])), r"keys .* B = 2, as in query"),
    "general": (lambda f: f(x([1, 3, 4]), x([1, 5, 6]), x([4, 5])), r"keys .* D = 5"),
    "additive": (lambda f: f(x([1, 3, 4]), x([1, 5, 4]), x([3])), r"v must be \[D\] with D = 4"),
    "concat": (lambda f: f(x([1, 3, 4]), x([1, 5, 6]), x([9, 3]), x([3])), r"\[D \+ D', U\]"),
    "location": (lambda f: f(x([1, 3, 4]), x([5, 6]), 3), r"kernel .* D = 4, as in query"),
    "attend": (lambda f: f(x([2, 3, 5]), x([2, 4, 4])), r"values .* S = 5, as in scores"),
    "banded_attention": (lambda f: f(*heads(), 1), r"keys .* T = 3, as in query"),
    "strided_attention": (lambda f: f(*(x([1, 3, 4]),) * 3, 2), r"query .*\[B, H, T, Dk\]"),
    "fixed_attention": (lambda f: f(*heads(), 2), r"keys .* T = 3, as in query"),
    "linear_attention": (
        lambda f: f(*heads()[:2], x([1, 2, 4, 4])),
        r"values .* S = 5, as in keys",
    ),
    "chunked_attention": (lambda f: f(*(x([1, 3, 4]),) * 3), r"query .*\[B, H, T, Dk\]"),
    "window_partition": (lambda f: f(x([1, 4, 4]), 2), r"x must be \[B, Y, X, D\]"),
    "relative_position_index": (lambda f: f(0), r"window must be at least 1"),
    "relative_scores": (lambda f: f(x([1, 1, 3, 4]), x([4, 4]), 3), r"\[2k \+ 1, D\]"),
    "redundancy": (lambda f: f(x([2, 3])), r"weights must be \[B, H, S\]"),
    "temporal_softmax": (lambda f: f(x([2, 3, 5]), state=x([2, 4])), r"state .* S = 5"),
    "write_memory": (
        lambda f: f(x([1, 3, 2]), x([1, 1, 4]), x([1, 1, 2]), x([1, 1, 2])),
        r"weights must be \[B, H, S\] with S = 3, as in memory",
    ),
    "copy_mixture": (
        lambda f: f(x([1, 1, 5]), x([1, 1, 3]), tf.zeros([1, 4], tf.int32), x([1, 1, 1])),
        r"source_ids must be \[B, S\] with S = 3, as in attention",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_function_names_the_axis_that_does_not_fit(name):
    call, message = CASES[name]
    with pytest.raises(ValueError, match=message):
        call(getattr(functional, name))
