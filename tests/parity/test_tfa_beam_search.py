"""Beside tensorflow_addons: `BeamSearchDecoder` finds the same hypotheses in the same steps."""

import keras
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
    name_case,
    run,
    tensor,
)

B, S, D, T, WIDTH, UNITS, V, START, END = 3, 5, 4, 5, 5, 6, 7, 1, 2
LENGTHS = tf.constant([5, 2, 3])
MEMORY, TABLE = tensor("memory", B, S, D), tensor("embedding", V, WIDTH)
PREDICTED = ".outputs.predicted_ids"
STEP = ".outputs.beam_search_decoder_output"


class Chances(keras.layers.Layer):
    """A cell that knows log p(token | source, step, token before) by heart; inputs are one-hot."""

    get_initial_state = None  # theirs asks whether a cell has it

    def __init__(self, log_p):
        super().__init__(dtype=log_p.dtype.name)
        self.log_p, self.output_size, self.state_size = log_p, log_p.shape[-1], [1, 1]

    def call(self, inputs, states, training=None):
        source, step = states  # [N, 1]
        place = tf.cast(tf.concat([source, step], 1), tf.int32)
        return tf.einsum("nv,nvw->nw", inputs, tf.gather_nd(self.log_p, place)), [source, step + 1]


def chances(sources, vocabulary, dtype="float32", spread=2.0):
    """log p [sources, T, V, V], where some hypotheses end early."""
    logits = spread * draw("chances", sources, T, vocabulary, vocabulary, dtype=dtype)
    return tf.nn.log_softmax(tf.constant(logits))


def looked_up(log_p, width, dtype="float32", graph=False, end=END, **options):
    """A search over a table of chances."""
    sources, _, _, vocabulary = log_p.shape

    def make(library):
        cell = Chances(log_p)
        # Theirs cannot give all scores without an output layer.
        layer = keras.layers.Activation("linear", dtype=dtype)
        decoder = library.BeamSearchDecoder(
            cell, width, output_layer=layer, maximum_iterations=T, dtype=dtype, **options
        )

        def answer():
            source = tf.range(sources)[:, None]
            state = [tf.cast(x, dtype) for x in (source, 0 * source)]
            outputs, final, lengths = decoder(
                tf.eye(vocabulary, dtype=dtype),
                start_tokens=tf.fill([sources], START),
                end_token=end,
                initial_state=library.tile_batch(state, width),
            )
            return {"outputs": outputs, "final": final, "lengths": lengths}

        return tf.function(answer, autograph=False) if graph else answer, {}

    return make


def attentive(width=3, mechanisms=("BahdanauAttention",), graph=False, dtype="float32", **options):
    """A search with a cell that attends to a tiled memory."""
    history = options.pop("alignment_history", False)

    def make(library):
        made = [getattr(library, name)(UNITS, dtype=dtype) for name in mechanisms]
        many = len(made) > 1
        wrapper = library.AttentionWrapper(
            keras.layers.LSTMCell(UNITS, dtype=dtype),
            made if many else made[0],
            attention_layer_size=[4] * len(made) if many else 4,
            alignment_history=history,
            dtype=dtype,
        )
        head = keras.layers.Dense(V, dtype=dtype)
        decoder = library.BeamSearchDecoder(
            wrapper, width, output_layer=head, maximum_iterations=T, dtype=dtype, **options
        )

        def answer(memory, h):
            memory, lengths, begin = library.tile_batch((memory, LENGTHS, [h, 2 * h]), width)
            for mechanism in made:
                mechanism.setup_memory(memory, memory_sequence_length=lengths)
            state = wrapper.get_initial_state(batch_size=tf.shape(memory)[0], dtype=h.dtype)
            outputs, final, lengths = decoder(
                tf.cast(TABLE, dtype),
                start_tokens=tf.fill(tf.shape(h)[:1], START),
                end_token=tf.constant(END),
                initial_state=state.clone(cell_state=begin),
            )
            return {"outputs": outputs, "final": final, "lengths": lengths}

        if graph:
            answer(MEMORY, tensor("h", B, UNITS))
            shapes = [tf.TensorSpec([None, S, D]), tf.TensorSpec([None, UNITS])]
            answer = tf.function(answer, shapes, autograph=False)
        return answer, {"wrapper": wrapper, "head": head}

    return make, MEMORY, tensor("h", B, UNITS)


def assert_same_search(make, *inputs, but=(), end=END, **settings):
    """All the same, but the final ids where their way back begins before the last step."""
    theirs, ours = assert_same(make, *inputs, slopes=False, but=(PREDICTED, *but), **settings)
    ids, parents = (theirs[f"{STEP}.{name}"] for name in ("predicted_ids", "parent_ids"))
    ids, parents = (np.moveaxis(x, 1, 0) for x in (ids, parents))
    whole = np.full(ids.shape[1], len(ids))
    traced = THEIRS.gather_tree(ids, parents, whole, end)
    np.testing.assert_array_equal(ours[PREDICTED], np.moveaxis(traced, 0, 1))
    longest = theirs[".final.lengths"].max(1)
    still = np.array(
        [(parents[n:, b] == np.arange(parents.shape[2])).all() for b, n in enumerate(longest)]
    )
    assert still.any()
    np.testing.assert_array_equal(ours[PREDICTED][still], theirs[PREDICTED][still])
    return theirs, ours


# -- the search


@pytest.mark.parametrize("weight", [0.0, 1.0])
@pytest.mark.parametrize("width", [1, 2, 3, 6])
def test_every_width_finds_the_same_in_the_same_steps(width, weight):
    make = looked_up(chances(20, 6), width, length_penalty_weight=weight)
    theirs, _ = assert_same_search(make)
    assert theirs[".lengths"].min() < T == theirs[".lengths"].max()


@pytest.mark.parametrize(
    "options",
    [
        {"output_all_scores": True},
        {"output_all_scores": True, "length_penalty_weight": 0.6},
        {"length_penalty_weight": tf.constant(0.6), "name": "beams"},
        {"parallel_iterations": 1, "swap_memory": True},
    ],
    ids=lambda x: "-".join(x),
)
def test_every_option_finds_the_same(options):
    assert_same_search(looked_up(chances(10, 6), 3, **options))


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_the_other_types_find_the_same(dtype):
    make = looked_up(chances(10, 6, dtype), 3, dtype)
    if dtype == "float64":
        assert_same_search(make, dtype=dtype)
        return
    (theirs, _), (ours, _) = (run(library, make, slopes=False) for library in LIBRARIES)
    assert set(ours) == set(theirs)
    wide = {path for path in ours if ours[path].dtype != theirs[path].dtype}
    assert wide == {f"{STEP}.scores", ".final.log_probs"}  # never narrower than float32
    for path in set(theirs) - {PREDICTED}:
        tolerance = 2e-2 if path in wide else 0  # sums of theirs lose digits at every step
        assert_close(ours[path], theirs[path], tolerance, tolerance, path)


def test_batch_major_is_the_transpose_of_time_major_in_both():
    make = looked_up(chances(10, 6), 3, output_time_major=True)
    theirs, ours = assert_same(make, slopes=False)
    again, _ = run(OURS, looked_up(chances(10, 6), 3), slopes=False)
    for path in (PREDICTED, f"{STEP}.scores", f"{STEP}.parent_ids"):
        np.testing.assert_array_equal(np.moveaxis(ours[path], 0, 1), again[path])


def test_with_more_beams_than_tokens_the_same_hypotheses_are_found_once_there_are_enough():
    """In the first steps some beams hold nothing, and what stands there is of no meaning."""
    (theirs, _), (ours, _) = (
        run(library, looked_up(chances(20, 3), 5), slopes=False) for library in LIBRARIES
    )
    for path in (PREDICTED, ".final.log_probs", ".final.lengths", ".lengths"):
        assert_close(ours[path], theirs[path], 1e-5, 1e-6, path)


def test_the_places_of_hypotheses_that_do_not_exist_have_length_0_in_both():
    """Of two tokens, one of them the end, there are n + 1 hypotheses after n steps."""

    def steps(library):
        width, vocabulary, end = 7, 2, 1
        place = np.arange(width) > 0
        state = library.BeamSearchDecoderState(
            cell_state=tf.zeros([1, width, 1]),
            log_probs=tf.constant([np.where(place, -np.inf, 0.0)], tf.float32),
            finished=tf.constant([place]),
            lengths=tf.zeros([1, width], tf.int64),
            accumulated_attention_probs=(),
        )
        found = []
        for time in range(4):
            logits = tensor(f"logits {time}", 1, width, vocabulary)
            _, state = library.beam_search_decoder._beam_search_step(
                time, logits, state.cell_state, state, 1, width, end, 0.6, 0.0, False
            )
            found.append([x.numpy()[0] for x in (state.log_probs, state.finished, state.lengths)])
        return found

    theirs, ours = (np.array(steps(library), float) for library in LIBRARIES)  # [T, 3, K]
    dead = theirs[:, 0] < -1e30
    np.testing.assert_array_equal(dead.sum(1), [5, 4, 3, 2])
    assert not theirs[0, 2, dead[0]].any()  # later theirs has some that follow a finished one
    for place in range(3):
        assert_close(ours[:, place][~dead], theirs[:, place][~dead], 1e-5, 1e-6)
    assert np.isneginf(ours[:, 0][dead]).all() and not ours[:, 2][dead].any()


@pytest.mark.parametrize("end", [-1, 6])
def test_an_end_token_outside_of_the_vocabulary_means_that_nothing_ends_in_both(end):
    theirs, ours = assert_same_search(looked_up(chances(10, 6), 3, end=end), end=end)
    assert not ours[".final.finished"].any() and (ours[".lengths"] == T).all()
    np.testing.assert_array_equal(ours[PREDICTED], theirs[PREDICTED])


def test_a_graph_finds_the_same():
    assert_same_search(looked_up(chances(10, 6), 3, graph=True, length_penalty_weight=0.6))


@pytest.mark.parametrize("weights", [(0.0, 0.0), (0.7, 0.0), (0.7, 0.3)], ids=str)
@pytest.mark.parametrize("all_scores", [False, True])
def test_one_step_from_the_midst_of_a_search_is_the_same(weights, all_scores):
    finished = np.array([[False, True, False], [True, True, True], [False, False, False]])

    def make(library):
        attention = tf.nn.softmax(tensor("attention", B, 3, S))
        cell_state = library.AttentionWrapperState(
            cell_state=[tensor("cell", B, 3, UNITS), tf.constant(5)],
            attention=tensor("attended", B, 3, 2),
            alignments=attention,
            alignment_history=(),
            attention_state=attention,
        )
        state = library.BeamSearchDecoderState(
            cell_state=cell_state,
            log_probs=-tf.abs(tensor("log p", B, 3)),
            finished=tf.constant(finished),
            lengths=tf.constant([[3, 2, 3], [1, 2, 2], [3, 3, 3]], tf.int64),
            accumulated_attention_probs=2 * tf.nn.softmax(tensor("seen", B, 3, S))
            if weights[1]
            else (),
        )

        def answer(logits):
            return library.beam_search_decoder._beam_search_step(
                time=3,
                logits=logits,
                next_cell_state=cell_state,
                beam_state=state,
                batch_size=B,
                beam_width=3,
                end_token=END,
                length_penalty_weight=weights[0],
                coverage_penalty_weight=weights[1],
                output_all_scores=all_scores,
            )

        return answer, {}

    assert_same(make, tensor("logits", B, 3, V), slopes=False)


# -- with attention


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"width": 1},
        {"length_penalty_weight": 0.8, "coverage_penalty_weight": 0.4},
        {"coverage_penalty_weight": 0.4, "mechanisms": ("LuongAttention", "BahdanauAttention")},
        {"mechanisms": ("LuongMonotonicAttention",), "output_all_scores": True},
        {"alignment_history": True, "reorder_tensor_arrays": False},
    ],
    ids=name_case,
)
def test_an_attentive_cell_finds_the_same_and_ends_in_the_same_state(settings):
    assert_same_search(*attentive(**settings))


def test_a_graph_that_does_not_know_the_batch_finds_the_same_with_attention():
    assert_same_search(*attentive(graph=True, coverage_penalty_weight=0.4))


def test_attention_inside_of_stacked_cells_is_covered_the_same():
    def make(library):
        mechanism = library.LuongAttention(UNITS)
        wrapper = library.AttentionWrapper(keras.layers.GRUCell(UNITS), mechanism, 4)
        cell = keras.layers.StackedRNNCells([wrapper, keras.layers.GRUCell(UNITS)])
        head = keras.layers.Dense(V)
        mechanism.setup_memory(library.tile_batch(MEMORY, 2))
        decoder = library.BeamSearchDecoder(
            cell, 2, output_layer=head, coverage_penalty_weight=0.4, maximum_iterations=T
        )

        def answer(memory):
            mechanism.setup_memory(library.tile_batch(memory, 2))
            state = cell.get_initial_state(batch_size=2 * B, dtype=tf.float32)
            start = {"start_tokens": tf.fill([B], START), "end_token": tf.constant(END)}
            outputs, final, lengths = decoder(TABLE, initial_state=state, **start)
            return {"outputs": outputs, "final": final, "lengths": lengths}

        return answer, {"cell": cell, "head": head}

    assert_same_search(make, MEMORY)


def test_a_function_to_embed_with_finds_the_same_and_a_matrix_at_the_call_wins_over_it():
    def make(library):
        cell, head = keras.layers.GRUCell(UNITS), keras.layers.Dense(V)
        decoder, other = (
            library.BeamSearchDecoder(
                cell, 2, lambda ids: -tf.gather(TABLE, ids), head, maximum_iterations=T
            )
            for _ in range(2)
        )

        def answer(h):
            settings = {
                "start_tokens": tf.fill([B], START),
                "end_token": tf.constant(END),
                "initial_state": library.tile_batch(h, 2),
            }
            return decoder(None, **settings), other(TABLE, **settings)

        return answer, {"cell": cell, "head": head}

    assert_same(make, tensor("h", B, UNITS), slopes=False)


def test_a_search_begins_and_is_described_the_same():
    def make(library):
        decoder = library.BeamSearchDecoder(
            keras.layers.LSTMCell(UNITS), 3, output_layer=keras.layers.Dense(V)
        )

        def answer(h):
            state = library.tile_batch([h, 2 * h], 3)
            begin = decoder.initialize(TABLE, tf.fill([B], START), END, state)
            assert type(begin[2]) is library.BeamSearchDecoderState
            sizes = [x.as_list() for x in decoder.output_size]
            dtypes = [tf.as_dtype(x).name for x in decoder.output_dtype]
            return begin, sizes, dtypes, decoder.batch_size, decoder.tracks_own_finished

        return answer, {}

    assert_same(make, tensor("h", B, UNITS), slopes=False)


class Noting(keras.layers.GRUCell):
    """A cell that notes the time of every step, an array that belongs to no hypothesis."""

    state_size = property(lambda self: [self.units, tf.TensorShape([2])], lambda *_: None)

    def call(self, inputs, states, training=None):
        output, _ = super().call(inputs, states[0], training=training)
        return output, [output, states[1].write(states[1].size(), tf.fill([2], states[1].size()))]


def test_an_array_that_belongs_to_no_hypothesis_stays_as_it_is_in_both():
    def make(library):
        cell, head = Noting(UNITS), keras.layers.Dense(V)
        decoder = library.BeamSearchDecoder(cell, 2, output_layer=head, maximum_iterations=T)

        def answer(h):
            array = tf.TensorArray(tf.int32, 0, dynamic_size=True, element_shape=[2])
            state = [library.tile_batch(h, 2), array]
            start = {"start_tokens": tf.fill([B], START), "end_token": tf.constant(END)}
            return decoder(TABLE, initial_state=state, **start)

        return answer, {"cell": cell, "head": head}

    assert_same(make, tensor("h", B, UNITS), slopes=False)


# -- where theirs is wrong


def test_imputation_in_a_search_is_refused_with_a_reason_where_the_original_trips_over_it():
    make = looked_up(chances(2, 6), 2, impute_finished=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Rank of input"):
        run(THEIRS, make)
    with pytest.raises(ValueError, match="Set impute_finished=False"):
        run(OURS, make)


def test_the_way_back_begins_at_the_last_step_where_the_original_begins_at_the_longest_length():
    """Source 0 ends at once with p = .5, or as "0 end" with .44, which the length penalty makes
    the better one a step after both have ended, while source 1 goes on.
    """
    p = np.full([2, T, 3, 3], 0.01, "float32")
    p[0, 0, START] = 0.45, 0.05, 0.5
    p[0, 1:, 0, END] = 0.98
    p[1, :, :, START] = 0.98
    make = looked_up(tf.math.log(p), 2, length_penalty_weight=2.0)
    (theirs, _), (ours, _) = (run(library, make, slopes=False) for library in LIBRARIES)
    for found in (theirs, ours):
        assert found[".lengths"][0].tolist() == [2, 1]
    at_once, later = [END] * T, [0] + [END] * (T - 1)
    assert theirs[PREDICTED][0].T.tolist() == [at_once, later]
    assert ours[PREDICTED][0].T.tolist() == [later, at_once]


def test_a_history_is_that_of_the_hypothesis_where_the_original_is_of_its_place_a_step_too_late():
    history = ".final.cell_state.alignment_history"
    settings = {"alignment_history": True, "mechanisms": ("LuongAttention",)}
    theirs, ours = assert_same_search(*attentive(**settings), but=[history])
    kept, _ = run(THEIRS, *_split(attentive(**settings, reorder_tensor_arrays=False)))
    raw = kept[f"{history}.stack()"]  # [T, B*K, S], as the cell wrote it, before the step chose
    parents = np.moveaxis(theirs[f"{STEP}.parent_ids"], 1, 0)  # [T, B, K]
    found = THEIRS.gather_tree_from_array(raw, parents, theirs[".final.lengths"])
    np.testing.assert_array_equal(theirs[history], found)
    chosen = tf.gather(raw.reshape(*parents.shape, S), parents, batch_dims=2)
    whole = np.full(parents.shape[1:], len(parents))
    found = THEIRS.gather_tree_from_array(tf.reshape(chosen, raw.shape), parents, whole)
    assert_close(ours[history], found.numpy(), 1e-5, 1e-6)
    assert np.abs(ours[history] - theirs[history]).max() > 0.05


def test_coverage_is_counted_in_every_type_where_the_original_knows_float32_alone():
    settings = {"mechanisms": ("LuongAttention",), "coverage_penalty_weight": 0.4}
    make, *inputs = attentive(**settings, dtype="float64")
    inputs = [tf.cast(x, "float64") for x in inputs]
    with pytest.raises((tf.errors.InvalidArgumentError, TypeError, ValueError)):
        run(THEIRS, make, inputs, slopes=False)
    found, _ = run(OURS, make, inputs, slopes=False)
    expected, _ = run(THEIRS, *_split(attentive(**settings)))
    np.testing.assert_array_equal(found[PREDICTED], expected[PREDICTED])
    assert found[f"{STEP}.scores"].dtype == "float64"
    assert_close(found[f"{STEP}.scores"], expected[f"{STEP}.scores"], 1e-5, 1e-5)


def _split(case):
    make, *inputs = case
    return make, inputs, False


# -- bad input


def begin(library, start=(START,) * B, end=END, embedding=TABLE, rows=B * 2, **options):
    decoder = library.BeamSearchDecoder(keras.layers.GRUCell(UNITS), 2, **options)
    return decoder.initialize(embedding, start, end, tf.zeros([rows, UNITS]))


@pytest.mark.parametrize(
    "mistake, words",
    [
        ({"start": START}, "start_tokens must be a vector"),
        ({"end": [END]}, "end_token must be a scalar"),
        ({"embedding": None}, "embedding"),
        ({"coverage_penalty_weight": 0.5}, "overage"),
        ({"rows": B}, ""),
    ],
    ids=name_case,
)
def test_mistakes_are_reported_with_the_same_error(mistake, words):
    for library in LIBRARIES:
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=words or None):
            begin(library, **mistake)
