"""Beside tensorflow_addons: the functions of tfa.seq2seq, on tensors alone."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tests.parity.tfa_pairs import (
    LIBRARIES,
    OURS,
    THEIRS,
    assert_close,
    assert_same,
    draw,
    run,
    tensor,
    tfa,
)

B, S, T, K, V, END = 3, 7, 6, 4, 5, 9
DTYPES = ["float32", "float64", "float16"]


def calls(name, /, *arguments, **settings):
    """A function of the library that is handed in, called with these arguments."""
    return lambda library: (
        lambda *inputs: getattr(library, name)(*inputs, *arguments, **settings),
        {},
    )


# -- attention


@pytest.mark.parametrize("dtype", DTYPES)
def test_hardmax_is_the_same(dtype):
    assert_same(calls("hardmax"), tensor("logits", B, S, dtype=dtype), dtype=dtype)
    ties = np.array([[1, 3, 3], [2, 2, 2]], dtype)
    assert_same(calls("hardmax", ties, name="best"), dtype=dtype, slopes=False)


@pytest.mark.parametrize(
    "settings", [{}, {"axis": 1}, {"axis": 0, "exclusive": True, "reverse": True}]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_safe_cumprod_is_the_same(dtype, settings):
    x = np.abs(draw("products", B, S, dtype=dtype))
    x[0, 2], x[1, 3], x[2, :] = 0.0, 1.5, 1e-7
    assert_same(calls("safe_cumprod", **settings), tf.constant(x), dtype=dtype)


@pytest.mark.parametrize("mode", ["parallel", "recursive", "hard"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_monotonic_attention_is_the_same(dtype, mode):
    p = tf.sigmoid(3 * tensor("stops", B, S, dtype=dtype))
    p = tf.round(p) if mode == "hard" else p
    previous = tf.nn.softmax(tensor("previous", B, S, dtype=dtype))
    make = calls("monotonic_attention", mode)
    if mode == "recursive" and dtype != "float32":  # where theirs knows float32 alone
        with pytest.raises(tf.errors.InvalidArgumentError):
            run(THEIRS, make, (p, previous))
        found, _ = run(OURS, make, (p, previous))
        expected, _ = run(THEIRS, make, (tf.cast(p, "float32"), tf.cast(previous, "float32")))
        assert found[""].dtype == dtype
        assert_close(found[""], expected[""], 2e-3, 2e-3)
    else:
        assert_same(make, p, previous, dtype=dtype, slopes=dtype != "float16")


def test_another_mode_is_an_error_in_both():
    for library in LIBRARIES:
        with pytest.raises(ValueError, match="mode must be 'recursive', 'parallel', or 'hard'"):
            library.monotonic_attention([[0.5]], [[1.0]], "soft")


# -- beams


def random_tree(seed):
    """ids and parents [T, B, K], and the longest lengths [B]."""
    random = np.random.RandomState(seed)
    ids = random.randint(0, END + 1, (T, B, K)).astype(np.int32)
    parents = random.randint(0, K, (T, B, K)).astype(np.int32)
    lengths = np.array([T, 3, 1], np.int32)
    return ids, parents, lengths


@pytest.fixture(params=["kernel", "graph"])
def their_gather_tree(request):
    """Their two ways to trace back, of which an installation has one or both."""
    before = tfa.options.is_custom_kernel_disabled()
    (
        tfa.options.disable_custom_kernel
        if request.param == "graph"
        else tfa.options.enable_custom_kernel
    )()
    yield
    (tfa.options.disable_custom_kernel if before else tfa.options.enable_custom_kernel)()


TREES = {
    "random": random_tree(1),
    "beyond": (*random_tree(2)[:2], np.array([T + 5, 2, 0], np.int32)),
    "one step": tuple(x[:1] for x in random_tree(3)[:2]) + (np.array([1, 1, 0], np.int32),),
    "early ends": (random_tree(4)[0] // 5 * 9, *random_tree(4)[1:]),
}


@pytest.mark.parametrize("tree", TREES)
def test_gather_tree_is_the_same(tree, their_gather_tree):
    assert_same(calls("gather_tree", *TREES[tree], END), slopes=False)


@pytest.mark.parametrize("parent", [-1, K + 1])
def test_a_invalid_parent_is_an_error_within_the_length_and_nothing_beyond(
    parent, their_gather_tree
):
    ids, parents, lengths = random_tree(5)
    parents[4, 1] = parent  # beyond the length of 3
    assert_same(calls("gather_tree", ids, parents, lengths, END), slopes=False)
    parents[2, 0] = parent
    for library in LIBRARIES:
        with pytest.raises(tf.errors.InvalidArgumentError, match="parent id"):
            library.gather_tree(ids, parents, lengths, END)


def test_the_first_invalid_parent_is_an_error_where_their_kernel_may_read_beyond():
    ids, parents, lengths = random_tree(5)
    parents[2, 0] = K
    with pytest.raises(tf.errors.InvalidArgumentError, match="parent id"):
        OURS.gather_tree(ids, parents, lengths, END)


@pytest.mark.parametrize("shape", [(T, B, K), (T, B, K, 2), (T, B * K, 2), (T, B * K, 2, 3)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gather_tree_from_array_is_the_same(shape, dtype):
    _, parents, _ = random_tree(6)
    lengths = np.random.RandomState(7).randint(1, T + 1, (B, K))
    recorded = tensor("recorded", *shape, dtype=dtype)
    make = calls("gather_tree_from_array", parents, lengths)
    assert_same(make, recorded, dtype=dtype)


def test_tile_batch_is_the_same():
    nest = {
        "h": [tensor("h", B, 4), tf.constant([1, 2, 3])],
        "c": (tensor("c", B, 2, 3, dtype="float64"),),
    }
    for multiplier in (1, 3):
        assert_same(calls("tile_batch", nest, multiplier), slopes=False)
    assert_same(calls("tile_batch", 2, name="tiles"), tensor("rows", B, 4))
    for library in LIBRARIES:
        with pytest.raises(ValueError):
            library.tile_batch(tf.constant(1.0), 2)


def test_tile_batch_keeps_the_same_static_shapes():
    signature = [tf.TensorSpec([None, 4]), tf.TensorSpec([2, None])]
    for library in LIBRARIES:
        tile = tf.function(lambda *rows: library.tile_batch(rows, 3), signature, autograph=False)  # noqa: B023
        shapes = tile.get_concrete_function().output_shapes
        assert [shape.as_list() for shape in shapes] == [[None, 4], [6, None]]


# -- what decoders and tests import beside


def test_finished_rows_give_all_their_mass_to_the_end_in_both():
    log_p = tf.nn.log_softmax(tensor("log p", B, K, V))
    finished = draw("finished", B, K) > 0

    def make(library):
        return (lambda x: library.beam_search_decoder._mask_probs(x, 2, finished)), {}

    assert_same(make, log_p)


@pytest.mark.parametrize("batch, beams", [(2, 3), (None, 3)])
@pytest.mark.parametrize("shape", [(6, 5), (2, 3), (2, 3, 5), (2, 4), (7, 5), (None, 5)])
def test_static_shapes_are_judged_the_same(shape, batch, beams):
    theirs, ours = (
        library.beam_search_decoder._check_static_batch_beam_maybe(
            tf.TensorShape(shape), batch, beams
        )
        for library in LIBRARIES
    )
    assert ours == theirs


@pytest.mark.parametrize("shape", [(T, 6), (T, 6, 2), (T, 2, 3), (T, 3, 2), (T, 7), (T, 2, 4)])
def test_shapes_at_run_time_are_judged_the_same(shape):
    raised = []
    for library in LIBRARIES:
        try:
            library.beam_search_decoder._check_batch_beam(tf.zeros(shape), 2, 3)
            raised.append(None)
        except tf.errors.InvalidArgumentError as error:
            raised.append(type(error))
    assert raised[0] == raised[1]


@pytest.mark.parametrize("time_major", [False, True])
def test_masks_that_are_no_lengths_are_refused_in_both(time_major):
    good = np.array([[True, True, False], [False, False, False], [True, True, True]])
    bad = good[:, ::-1]
    for library in LIBRARIES:
        check = library.sampler._check_sequence_is_right_padded
        check(tf.constant(good.T if time_major else good), time_major)
        with pytest.raises(tf.errors.InvalidArgumentError, match="right padded"):
            check(tf.constant(bad.T if time_major else bad), time_major)


@pytest.mark.parametrize("sample_shape", [(), 3, [2, 3]], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_seed_draws_the_same(dtype, sample_shape):
    def make(library):
        def answer(logits):
            settings = {"sample_shape": sample_shape, "seed": 3}
            return (
                library.sampler.bernoulli_sample(logits=logits, dtype=tf.bool, **settings),
                library.sampler.bernoulli_sample(probs=tf.sigmoid(logits), **settings),
                library.sampler.categorical_sample(logits, **settings),
            )

        return answer, {}

    assert_same(make, tensor("draws", B, V, dtype=dtype), slopes=False)


# -- losses

REDUCTIONS = list(itertools.product([False, True], repeat=4))
REDUCTION = (
    "average_across_timesteps",
    "average_across_batch",
    "sum_over_timesteps",
    "sum_over_batch",
)
WEIGHTS = np.array([[1, 1, 0.5, 0, 0, 0], [2, 0, 1, 1, 1, 1], [0] * 6], np.float32)
TARGETS = np.random.RandomState(8).randint(0, V, (B, T))
ONE_HOT = np.eye(V, dtype=np.float32)[TARGETS]


def logits(dtype="float32"):
    return tensor("logits", B, T, V, dtype=dtype)


@pytest.mark.parametrize("targets", [TARGETS, ONE_HOT], ids=["ids", "one-hot"])
@pytest.mark.parametrize("reduction", REDUCTIONS, ids=lambda x: "".join("ny"[y] for y in x))
def test_every_reduction_gives_the_same_loss_and_slopes_or_the_same_error(reduction, targets):
    settings = dict(zip(REDUCTION, reduction))
    make = calls("sequence_loss", tf.constant(targets), tf.constant(WEIGHTS), **settings)
    try:
        run(THEIRS, make, (logits(),))
    except ValueError as error:
        start = str(error).partition(" at same time")[0]
        with pytest.raises(ValueError, match=start):
            run(OURS, make, (logits(),))
    else:
        assert_same(make, logits())


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_losses_of_the_other_types_are_the_same(dtype):
    make = calls("sequence_loss", tf.constant(TARGETS), tf.constant(WEIGHTS, dtype))
    theirs, ours = (
        run(library, make, (logits(dtype),), slopes=False)[0][""] for library in LIBRARIES
    )
    tolerance = 2e-3 if dtype == "float16" else 1e-10
    np.testing.assert_allclose(ours, theirs, tolerance, tolerance)
    assert ours.dtype == ("float32" if dtype == "float16" else dtype)  # never narrower


@pytest.mark.parametrize("reduction", REDUCTIONS, ids=lambda x: "".join("ny"[y] for y in x))
def test_the_loss_object_reduces_as_in_tfa(reduction):
    settings = dict(zip(REDUCTION, reduction))
    arguments = TARGETS, logits(), tf.constant(WEIGHTS)
    try:
        expected = THEIRS.SequenceLoss(**settings)(*arguments)
    except ValueError:
        with pytest.raises(ValueError):
            OURS.SequenceLoss(**settings)(*arguments)
    else:
        found = OURS.SequenceLoss(**settings)(*arguments)
        np.testing.assert_allclose(found, expected, 1e-5, 1e-6)


def test_the_loss_object_has_the_same_defaults_and_a_custom_function():
    def halved(labels, logits):
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        return loss / 2

    for settings in ({}, {"softmax_loss_function": halved, "name": "halved"}):

        def make(library, settings=settings):
            loss = library.SequenceLoss(**settings)
            return (lambda x: loss(tf.constant(TARGETS), x, sample_weight=tf.constant(WEIGHTS))), {}

        assert_same(make, logits())


def test_without_weights_every_step_counts_where_their_loss_object_crashes():
    with pytest.raises(AttributeError):
        THEIRS.SequenceLoss()(TARGETS, logits())
    expected = THEIRS.SequenceLoss()(TARGETS, logits(), tf.ones([B, T]))
    np.testing.assert_allclose(OURS.SequenceLoss()(TARGETS, logits()), expected, rtol=1e-5)


def test_a_custom_function_gets_one_hot_rows_where_the_original_gets_them_torn():
    shapes, function = [], tf.nn.softmax_cross_entropy_with_logits

    def watched(labels, logits):
        shapes.append(labels.shape)
        return function(labels=labels, logits=logits) if labels.shape.rank == 2 else logits[:, 0]

    for library in LIBRARIES:
        found = library.sequence_loss(
            logits(), tf.constant(ONE_HOT), tf.constant(WEIGHTS), softmax_loss_function=watched
        )
    assert shapes == [[B * T * V], [B * T, V]]
    expected = THEIRS.sequence_loss(logits(), tf.constant(ONE_HOT), tf.constant(WEIGHTS))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "shapes, words",
    [
        (((B, V), (B, T), (B, T)), "Logits must be"),
        (((B, T, V), (B,), (B, T)), "Targets must be"),
        (((B, T, V), (B, T), (B,)), "Weights must be"),
    ],
    ids=["logits", "targets", "weights"],
)
def test_losses_refuse_the_same_ranks(shapes, words):
    for library in LIBRARIES:
        with pytest.raises(ValueError, match=words):
            library.sequence_loss(*(tf.zeros(shape) for shape in shapes))
