"""docs/migration.md is true: every name has a row, every row runs, every claim is shown here."""

import ast
import inspect
import json
import os
import pathlib
import re
import subprocess

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention import contrib, seq2seq
from tests.seq2seq.cells import KERAS_3, keras3

try:
    import tensorflow_addons as tfa
except ImportError:  # TensorFlow >= 2.16 has none
    tfa = None

ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
beside_tfa = pytest.mark.skipif(tfa is None, reason="needs the extra [addons]")

# dir(tfa.seq2seq): the classes and functions, and the submodules
TFA_NAMES = """
    AttentionMechanism AttentionWrapper AttentionWrapperState BahdanauAttention
    BahdanauMonotonicAttention BaseDecoder BasicDecoder BasicDecoderOutput BeamSearchDecoder
    BeamSearchDecoderOutput BeamSearchDecoderState CustomSampler Decoder
    FinalBeamSearchDecoderOutput GreedyEmbeddingSampler InferenceSampler LuongAttention
    LuongMonotonicAttention SampleEmbeddingSampler Sampler ScheduledEmbeddingTrainingSampler
    ScheduledOutputTrainingSampler SequenceLoss TrainingSampler dynamic_decode gather_tree
    gather_tree_from_array hardmax monotonic_attention safe_cumprod sequence_loss tile_batch
    attention_wrapper basic_decoder beam_search_decoder decoder loss sampler
""".split()
CONTRIB_NAMES = json.loads((ROOT / "tests" / "parity" / "contrib_signatures.json").read_text())


def section(title):
    """What stands under a heading, up to the next one of its level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found, f"no section {title!r}"
    return found[1]


def blocks(text):
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def table(text, columns):
    """The rows whose every cell but the last is code (or –): their cells, without backticks."""
    rows = [re.split(r" ?\| ?", line)[1:-1] for line in text.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if len(row) == columns and row[0][0] in "`–"]
    return [[cell.strip("`") for cell in row[:-1]] + [row[-1]] for row in rows]


def run(code, space):
    """Run code; the value of its last line, if that is an expression."""
    *lines, last = ast.parse(code).body
    if not isinstance(last, ast.Expr):
        return exec(compile(code, "migration.md", "exec"), space)
    exec(compile(ast.Module(lines, []), "migration.md", "exec"), space)
    return eval(compile(ast.Expression(last.value), "migration.md", "eval"), space)


# -- the tables

ROWS = table(section("Every name"), columns=4)
NEWS = table(section("What is new"), columns=2)


@pytest.fixture(scope="module")
def prepared():
    """The names that the first block of the page makes."""
    space = {}
    run(blocks(section("Every name"))[0], space)
    return space


@pytest.mark.parametrize("old, tfas, new, changed", ROWS, ids=[row[2][:60] for row in ROWS])
def test_a_row_runs(old, tfas, new, changed, prepared):
    assert re.search(rf"\b{old if tfas == '–' else tfas}\b", new) or old == "DeviceWrapper"
    assert run(new, dict(prepared)) is not False
    for advice in re.findall(r"`(keras\.layers\.[^`]*)`", changed):
        assert callable(run(advice, dict(prepared)))


def test_every_name_of_contrib_has_a_row():
    rows = [row[0] for row in ROWS if row[0] != "–"]
    names = [*CONTRIB_NAMES["seq2seq"], *contrib.rnn.__all__]
    assert len(CONTRIB_NAMES["seq2seq"]) == 29 and set(CONTRIB_NAMES["rnn"]) <= set(names)
    assert sorted(rows) == sorted(names)


def test_every_name_of_tfa_has_a_row():
    assert len(TFA_NAMES) == 32 + 6
    assert sorted(row[1] for row in ROWS if row[1] != "–") == sorted(TFA_NAMES)


@beside_tfa
def test_the_names_of_tfa_are_those_of_tfa():
    assert sorted(TFA_NAMES) == sorted(x for x in dir(tfa.seq2seq) if not x.startswith("_"))


def test_old_names_are_where_the_page_sends_them():
    for old, tfas, *_ in ROWS:
        module = contrib.rnn if old in contrib.rnn.__all__ else contrib.seq2seq
        assert old == "–" or hasattr(module, old)
        assert tfas == "–" or hasattr(seq2seq, tfas)


@keras3("the models")
@pytest.mark.parametrize("new, what", NEWS, ids=[row[0][:60] for row in NEWS])
def test_new_names_run(new, what, prepared):
    space = dict(prepared)
    run(blocks(section("What is new"))[0], space)
    assert space["answers"].lengths[:, 0].numpy().tolist() == [5, 3]  # and the end tokens
    assert run(new, space) is not False and what


def test_every_name_without_a_row_is_listed_as_new():
    new = {name for form, _ in NEWS for name in re.findall(r"\bseq2seq\.(\w+)", form)}
    assert set(seq2seq.__all__) - set(TFA_NAMES) <= new


# -- memory is an argument


WAYS = blocks(section("Memory is an argument"))
functional = pytest.param(1, marks=keras3("functional models"))


@pytest.mark.parametrize("way", [0, functional, 2])
def test_the_ways_to_a_memory_run(way, prepared):
    assert len(WAYS) == 3
    run(WAYS[way], dict(prepared))


# -- what differs


def normal(*shape, dtype="float32"):
    return tf.cast(tf.random.normal(shape), dtype)


def attending(library, memory, dtype="float32", **settings):
    """A cell that attends to a bound memory."""
    mechanism = library.LuongAttention(4, dtype=dtype)
    mechanism.setup_memory(memory)
    inner = keras.layers.GRUCell(4, dtype=dtype)
    return library.AttentionWrapper(inner, mechanism, 4, dtype=dtype, **settings)


def searched(library, dtype="float32", history=False, **settings):
    """B=4 sources with K=3 hypotheses each."""
    memory = library.tile_batch(normal(4, 5, 4, dtype=dtype), 3)
    cell = attending(library, memory, dtype, alignment_history=history)
    logits = keras.layers.Dense(
        7, kernel_initializer=keras.initializers.RandomNormal(), dtype=dtype
    )
    decoder = library.BeamSearchDecoder(
        cell, 3, output_layer=logits, maximum_iterations=6, dtype=dtype, **settings
    )
    table = 3 * normal(7, 6, dtype=dtype)
    start = cell.get_initial_state(batch_size=12, dtype=tf.as_dtype(dtype))
    tokens = {"start_tokens": tf.fill([4], 1), "end_token": tf.constant(0)}
    found, final, _ = decoder(table, initial_state=start, **tokens)
    return cell, table, found, final


def history_is_that_of_teacher_forcing(library):
    cell, table, found, final = searched(library, history=True)
    history = tf.reshape(final.cell_state.alignment_history, [-1, 12, 5])
    state = cell.get_initial_state(batch_size=12, dtype=tf.float32)
    given = tf.pad(found.predicted_ids, [[0, 0], [1, 0], [0, 0]], constant_values=1)  # [B, 1+T, K]
    same = []
    for step, alignments in enumerate(history):
        _, state = cell(tf.gather(table, tf.reshape(given[:, step], [-1])), state)
        real = step < tf.reshape(final.lengths, [-1]).numpy()
        same.append(np.abs(alignments - state.alignments)[real].max(initial=0) < 1e-4)
    return all(same)


class ByHeart(keras.layers.Layer):
    """A cell that knows p [source, step, token before, token]; its inputs are one-hot."""

    output_size, state_size, get_initial_state = 3, [1, 1], None

    def __init__(self, p):
        super().__init__()
        self.p = tf.constant(p, tf.float32)

    def call(self, inputs, states, training=None):
        source, step = states
        p = tf.gather_nd(self.p, tf.cast(tf.concat([source, step], 1), tf.int32))
        return tf.math.log(tf.einsum("nv,nvw->nw", inputs, p)), [source, step + 1]


def lengths_are_those_of_the_ids(library):
    """Source 0 may end at once, or a step later with less p, which the penalty makes the better
    one when both have ended; source 1 goes on. Token 2 ends.
    """
    p = np.full([2, 5, 3, 3], 0.01)
    p[0, 0, 1], p[0, 1:, 0, 2], p[1, :, :, 1] = (0.45, 0.05, 0.5), 0.98, 0.98
    settings = {"length_penalty_weight": 2.0, "maximum_iterations": 5}
    same = keras.layers.Activation("linear")
    decoder = library.BeamSearchDecoder(ByHeart(p), 2, output_layer=same, **settings)
    start = [tf.constant([[0.0], [0.0], [1.0], [1.0]]), tf.zeros([4, 1])]
    tokens = {"start_tokens": tf.constant([1, 1]), "end_token": tf.constant(2)}
    found, final, _ = decoder(tf.eye(3), initial_state=start, **tokens)
    ends = np.argmax(found.predicted_ids[0] == 2, axis=0) + 1
    return ends.tolist() == final.lengths[0].numpy().tolist()


def first_inputs(library):
    sampler = library.GreedyEmbeddingSampler()
    tokens = {"start_tokens": tf.constant([1]), "end_token": tf.constant(0)}
    return [float(sampler.initialize(x * tf.eye(2), **tokens)[1][0, 1]) for x in (1.0, 5.0)]


def recursive_float64(library):
    p, previous = (tf.constant(x, tf.float64) for x in ([[0.5, 0.5]], [[1.0, 0.0]]))
    return library.monotonic_attention(p, previous, "recursive").numpy().tolist()


def coverage_float64(library):
    _, _, found, _ = searched(library, "float64", coverage_penalty_weight=0.5)
    return found.beam_search_decoder_output.scores.dtype


def unweighted_loss(library):
    return round(float(library.SequenceLoss()(tf.constant([[1, 2]]), tf.zeros([1, 2, 4]))), 4)


def loss_from_config(library):
    return library.SequenceLoss.from_config(library.SequenceLoss().get_config()).sum_over_batch


def masked_loss(library):
    loss = library.SequenceLoss()
    logits = keras.layers.Embedding(5, 4, mask_zero=True)(tf.constant([[1, 0]]))
    masked = loss(tf.constant([[1, 3]]), logits, tf.ones([1, 2]))
    return bool(np.isclose(masked, loss(tf.constant([[1]]), logits[:, :1], tf.ones([1, 1]))))


def misfit_loss(library):
    loss = library.sequence_loss(tf.zeros([2, 3, 4]), tf.ones([3, 2], tf.int32), tf.ones([2, 3]))
    return round(float(loss), 4)


def decoder_from_config(library):
    decoder = library.BasicDecoder(keras.layers.GRUCell(4), library.TrainingSampler())
    return type(decoder).from_config(decoder.get_config()).cell.units


def two_dropouts(library):
    decoder = library.BasicDecoder(keras.layers.GRUCell(4, dropout=0.5), library.TrainingSampler())
    for rows in (2, 3):
        out, _, _ = decoder(tf.ones([rows, 1, 9]), initial_state=tf.zeros([rows, 4]), training=True)
    return out.rnn_output.shape[0]


def custom_batches(library):
    sampler = library.CustomSampler(lambda x: (x > 0, x), lambda time: None, lambda time: None)
    return [(sampler.initialize(tf.zeros([n])), int(sampler.batch_size))[1] for n in (2, 5)]


def nothing_to_see(library):
    mechanism = library.LuongAttention(4)
    mechanism.setup_memory(normal(1, 2, 4), memory_mask=tf.constant([[False, False]]))
    return mechanism([normal(1, 4), None])[0].numpy().tolist()


def masked_and_measured(library):
    memory = keras.layers.Embedding(5, 4, mask_zero=True)(tf.constant([[3, 4, 0, 0]]))
    mechanism = library.LuongAttention(4, memory, memory_sequence_length=[3])
    return (mechanism([normal(1, 4), None])[0] > 0).numpy().tolist()


def compiled_history(library, limit=None):
    cell = attending(library, normal(2, 5, 4), alignment_history=True)
    decoder = library.BasicDecoder(cell, library.TrainingSampler(), maximum_iterations=limit)

    def histories(inputs):
        start = cell.get_initial_state(batch_size=2, dtype=tf.float32)
        return decoder(inputs, initial_state=start)[1].alignment_history.stack()

    inputs = normal(2, 3, 6)
    expected = histories(inputs)
    found = tf.function(histories, jit_compile=True)(inputs)
    return bool(np.abs(found - expected).max() < 1e-5)


def history_in_rnn(library):
    cell = attending(library, normal(2, 5, 4), alignment_history=True)
    return keras.layers.RNN(cell)(normal(2, 3, 6)).shape[0]


def own_scores(library):
    class Last(library.AttentionMechanism):
        """Looks at the last slot."""

        def scores(self, query, memory):
            return tf.one_hot([[2]], 3, 100.0)

    return Last()([normal(1, 4), None], memory=normal(1, 3, 4))[0].numpy().round(2).tolist()


def wants_calculate_attention(library):
    return hasattr(library.AttentionMechanism, "_calculate_attention")


def own_probability(library):
    def uniform(scores, mask):
        return tf.cast(mask, scores.dtype) / 2

    mechanism = library.LuongAttention(4, normal(1, 2, 4), probability_fn=uniform)
    return mechanism([normal(1, 4), None])[0].numpy().tolist()


def imputed_search(library):
    return searched(library, impute_finished=True)


def too_long(library):
    return library.LuongAttention(4, normal(1, 2, 4), memory_sequence_length=[3]).keys.shape[1]


def half_scores(library):
    return searched(library, "float16")[2].beam_search_decoder_output.scores.dtype


def names_of_a_config(library):
    return "custom_objects" in inspect.signature(library.LuongAttention.from_config).parameters


def reused_cell(_):
    return contrib.rnn.GRUCell(4, reuse=True)


def peepholes(_):
    return contrib.rnn.LSTMCell(4, use_peepholes=True)


def device(_):
    return contrib.rnn.DeviceWrapper(contrib.rnn.GRUCell(4), "cpu:0")


def no_steps(library):
    decoder = library.BasicDecoder(
        keras.layers.GRUCell(4), library.TrainingSampler(), maximum_iterations=0
    )
    return decoder(normal(2, 3, 6), initial_state=tf.zeros([2, 4]))


INVALID = tf.errors.InvalidArgumentError

# What the page says in bold -> what shows it: [(function, what comes here, in TFA)]
SHOWN = {
    "Alignment histories follow the hypotheses.": [
        (history_is_that_of_teacher_forcing, True, False)
    ],
    "Hypotheses are traced back from the last step.": [(lengths_are_those_of_the_ids, True, False)],
    "No stale embedding.": [(first_inputs, [1.0, 5.0], [1.0, 1.0])],
    "Every float type.": [
        (recursive_float64, [[0.5, 0.25]], INVALID),
        (coverage_float64, tf.float64, INVALID),
        (half_scores, tf.float32, tf.float16),
    ],
    "`SequenceLoss` works alone and can be saved.": [
        (unweighted_loss, 1.3863, AttributeError),
        (loss_from_config, True, TypeError),
    ],
    "Wrappers and decoders can be saved.": [(decoder_from_config, 4, TypeError)],
    "Every decoding draws new dropout masks.": [(two_dropouts, 3, INVALID)],
    "`CustomSampler` uses the batch size of each call.": [(custom_batches, [2, 5], [2, 2])],
    "A row without visible slots gets weights of zero.": [
        (nothing_to_see, [[0.0, 0.0]], [[0.5, 0.5]])
    ],
    "Lengths take precedence over a Keras mask.": [
        (masked_and_measured, [[True, True, True, False]], ValueError)
    ],
    "Lengths must fit the memory.": [(too_long, INVALID, 2)],
    "A history under XLA needs `maximum_iterations`.": [
        (compiled_history, ValueError, ValueError),
        (lambda library: compiled_history(library, 3), True, INVALID),
    ],
    "A history inside `keras.layers.RNN` is a `ValueError`.": [
        (history_in_rnn, ValueError if KERAS_3 else 2, 2)
    ],
    "`impute_finished` in a beam search is an error.": [(imputed_search, ValueError, INVALID)],
    "A custom mechanism overrides `scores(query, memory)`.": [
        (own_scores, [[0.0, 0.0, 1.0]], None),
        (wants_calculate_attention, False, True),
    ],
    "`SequenceLoss` uses masks and counts tokens of all replicas.": [(masked_loss, True, False)],
    "`SequenceLoss` and `sequence_loss` check their arguments.": [
        (misfit_loss, ValueError, 1.3863)
    ],
    "`probability_fn` may be a function.": [(own_probability, [[0.5, 0.5]], TypeError)],
    "Custom objects are registered with Keras.": [(names_of_a_config, False, True)],
    "Weights belong to objects.": [(reused_cell, ValueError, None)],
    "`LSTMCell` is that of Keras.": [(peepholes, ValueError, None)],
    "Devices are selected around the call.": [(device, NotImplementedError, None)],
    "`maximum_iterations` is positive.": [(no_steps, INVALID, INVALID)],
}
CLAIMS = re.findall(r"^- \*\*(.*?)\*\*", section("What differs on purpose"), re.MULTILINE)


def test_every_claim_is_shown_here():
    assert sorted(CLAIMS) == sorted(SHOWN)


def assert_comes(function, library, expected):
    keras.utils.set_random_seed(0)
    if isinstance(expected, type) and issubclass(expected, Exception):
        with pytest.raises(expected):
            function(library)
    else:
        assert function(library) == expected


@pytest.mark.parametrize("claim", SHOWN)
def test_it_differs_as_documented(claim):
    for function, ours, _ in SHOWN[claim]:
        assert_comes(function, seq2seq, ours)


@beside_tfa
@pytest.mark.parametrize("claim", SHOWN)
def test_tfa_behaves_as_documented(claim):
    for function, _, theirs in SHOWN[claim]:
        if theirs is not None:  # None: it is contrib's
            assert_comes(function, tfa.seq2seq, theirs)


# -- the programs


def assert_learned(loss, ids):
    """The best hypotheses are the targets, which are the sources."""
    assert loss < 0.1
    best = np.asarray(ids)[:, :4, 0]
    assert best.tolist() == [[3, 4, 5, 2], [6, 7, 2, 2], [8, 2, 2, 2]]


def of_contrib(stack):
    """Imports, model, training and search, as one program for a stack."""
    parts = blocks(section("A program for tf.contrib"))
    return "".join(part for part in parts if part.startswith((f"# {stack}\n", "# the same")))


@pytest.mark.full
def test_the_program_for_contrib_learns():
    space = {}
    run(of_contrib("keras_attention"), space)
    assert_learned(float(space["loss"]), space["ids"])


@pytest.mark.skipif(not os.environ.get("CONTRIB_PYTHON"), reason="needs TensorFlow 1.15")
def test_the_program_for_contrib_learned_in_its_time(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(of_contrib("TensorFlow 1.15") + "print([float(loss), ids.tolist()])")
    command = [os.environ["CONTRIB_PYTHON"], "-W", "ignore", program]
    env = {**os.environ, "TF2_BEHAVIOR": "0"}  # TensorFlow 2 has told this process's children
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout
    assert_learned(*json.loads(printed.splitlines()[-1]))


def of_tfa(place):
    space = {}
    keras.utils.set_random_seed(0)
    run(blocks(section("A program for tfa.seq2seq"))[place], space)
    return space


@pytest.mark.full
def test_the_program_for_tfa_learns():
    after = of_tfa(1)
    assert_learned(after["history"].history["loss"][-1], after["ids"])


@beside_tfa
def test_the_program_for_tfa_did_the_same():
    from tests.parity.tfa_pairs import weights_of

    before, after = of_tfa(0), of_tfa(1)
    assert_learned(before["history"].history["loss"][-1], before["ids"])
    theirs, ours = before["model"], after["model"]
    for part in ("source", "target", "encoder", "logits", "cell"):
        learned = weights_of(getattr(theirs, part), part)
        for place, weight in weights_of(getattr(ours, part), part).items():
            weight.assign(learned.pop(place))
        assert not learned
    source, given = before["source"], before["given"]
    np.testing.assert_allclose(ours((source, given)), theirs((source, given)), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(ours.search(source), theirs.search(source))
