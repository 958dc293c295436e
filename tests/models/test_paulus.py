import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.data import batches
from keras_attention.decoding import no_repeat_ngram
from keras_attention.export import Endpoints, save_search
from keras_attention.training import token_objective
from models import Summarizer
from models._rouge import rouge_l
from models.paulus import MARK, marked
from tests.models.toy import check_saved, is_png, run_toy, with_random_weights
from tests.results import figure, figures

SIZES = dict(vocab_size=9, units=3, embedding_width=5, copy_slots=3, look_back=6)
SOURCE = np.array([[5, 9, 7, 9, 10, 2], [8, 11, 2, 0, 0, 0]])  # 9, 10 and 11 are unknown words
TARGET = np.array([[1, 9, 6, 10], [1, 11, 4, 2]])


def small(**settings):
    return with_random_weights(Summarizer(**{**SIZES, **settings}))


@pytest.fixture(scope="module")
def model():
    return small()


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def by_the_equations(model, source, target):
    """p(y) [T, V'] and a^e [T, S] of one pair without padding, a step at a time."""
    cell, table = model.cell, np.array(model.embedding.embeddings)
    known = [i if i < SIZES["vocab_size"] else 3 for i in [*source, *target]]
    encoded, *states = model.encoder(table[known[: len(source)]][None])
    encoded = encoded[0].numpy()
    h, c = (tf.concat(pair, -1) for pair in (states[::2], states[1::2]))
    w_e, w_d = np.array(cell.attention.score.kernel), np.array(cell.intra.kernel)
    output = np.tanh(table @ np.array(cell.output_layer.kernel))
    w_u, b_u = cell.head.switch.get_weights()
    scores, states, ps, looked_at = [], [], [], []
    for word in known[len(source) :]:
        _, (h, c) = cell.lstm(table[[word]], [h, c])
        h_d = h[0].numpy()
        scores.append(h_d @ w_e @ encoded.T)
        e = np.exp(scores[-1]) / (np.exp(scores[:-1]).sum(0) if states else 1)
        a = e / e.sum()
        c_d = np.zeros_like(h_d)
        if states:
            c_d = softmax(np.array([h_d @ w_d @ before for before in states])) @ states
        states.append(h_d)
        joined = np.concatenate([h_d, a @ encoded, c_d])
        u = 1 / (1 + np.exp(-(joined @ w_u + b_u)))
        p = np.pad((1 - u) * softmax(output @ joined + np.array(cell.output_layer.bias)), [0, 3])
        np.add.at(p, source, u * a)
        ps.append(p), looked_at.append(a)
    return np.array(ps), np.array(looked_at)


def test_it_computes_the_equations_of_the_paper(model):
    p = np.exp(model((SOURCE, TARGET)))
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-5)
    memory, state = model.encode(SOURCE)
    _, weights = model.decode(TARGET, memory, state, return_alignments=True)
    for row, length in enumerate((6, 3)):
        want, looked_at = by_the_equations(model, SOURCE[row, :length], TARGET[row])
        np.testing.assert_allclose(p[row], want, atol=1e-5)
        np.testing.assert_allclose(weights[row, :, :length], looked_at, atol=1e-5)
        assert not weights[row, :, length:].numpy().any()


@pytest.mark.parametrize("temporal, intra, pointer", [(1, 1, 1), (0, 1, 1), (1, 0, 0)])
def test_steps_give_what_the_whole_sequence_gives(model, temporal, intra, pointer):
    if not temporal or not intra:
        model = small(
            intra_temporal=bool(temporal), intra_decoder=bool(intra), pointer=bool(pointer)
        )
    log_p = model((SOURCE, TARGET)).numpy()
    memory, state = model.encode(SOURCE)
    for t in range(4):
        output, state = model.cell(model.embed(TARGET[:, t]), state, memory=memory)
        np.testing.assert_allclose(np.exp(output), np.exp(log_p[:, t]), atol=1e-5)


def test_the_first_step_has_a_plain_softmax():
    temporal, plain = small(), small(intra_temporal=False)
    plain.set_weights(temporal.get_weights())
    both = [np.exp(one((SOURCE, TARGET))) for one in (temporal, plain)]
    np.testing.assert_allclose(both[0][:, 0], both[1][:, 0], atol=1e-6)
    assert abs(both[0][:, 1:] - both[1][:, 1:]).max() > 1e-3


def test_a_pointer_that_always_copies_says_words_of_the_source_alone():
    model = small()
    model.cell.head.switch.bias.assign([50.0])  # u = 1
    p = np.exp(model((SOURCE, TARGET)))
    for row in range(2):
        others = np.setdiff1d(np.arange(12), SOURCE[row])
        assert p[row][:, others].max() < 1e-6


def test_padding_changes_nothing(model):
    wide = np.pad(SOURCE, [[0, 0], [0, 2]]), np.pad(TARGET, [[0, 0], [0, 1]])
    np.testing.assert_allclose(
        np.exp(model(wide)[:, :4]), np.exp(model((SOURCE, TARGET))), atol=1e-5
    )


def test_it_searches_with_beams_processors_and_alignments(model, tmp_path):
    settings = dict(beam_width=3, max_length=8, return_alignments=True)
    found = model.generate(SOURCE, processors=no_repeat_ngram(2), **settings)
    assert found.alignments.shape[3] == 6 and found.ids.numpy().max() >= 9  # it can copy
    for answer in found.ids.numpy().reshape(-1, found.ids.shape[2]):
        real = answer[answer != 0].tolist()
        pairs = list(zip(real, real[1:]))
        assert len(pairs) == len(set(pairs))
    copy = check_saved(model, (SOURCE, TARGET), tmp_path)
    np.testing.assert_array_equal(
        copy.generate(SOURCE, **settings).ids, model.generate(SOURCE, **settings).ids
    )


def lcs(a, b):
    if not a or not b:
        return 0
    if a[0] == b[0]:
        return 1 + lcs(a[1:], b[1:])
    return max(lcs(a[1:], b), lcs(a, b[1:]))


def test_rouge_is_that_of_brute_force():
    rng = np.random.default_rng(0)
    rows = [[rng.integers(5, 8, rng.integers(0, 6)).tolist() for _ in range(20)] for _ in "ab"]
    padded = [[[*row, 2, *[0] * (6 - len(row))] for row in side] for side in rows]
    want = [2 * lcs(a, b) / max(len(a) + len(b), 1) for a, b in zip(*rows)]
    np.testing.assert_allclose(rouge_l(*padded), want, rtol=1e-6)


@pytest.mark.full
def test_the_reinforced_loss_is_0_where_sample_and_greedy_answer_agree(model, monkeypatch):
    search = type(model).generate

    def greedy(self, source, strategy=None, **settings):
        return search(self, source, **settings)

    monkeypatch.setattr(Summarizer, "generate", greedy)
    assert float(model.self_critical_loss(SOURCE, TARGET)) == 0


@pytest.mark.full
def test_the_reinforced_loss_raises_what_was_better_than_greedy():
    model = small()
    source = tf.constant(SOURCE)
    wanted = tf.constant([[9, 10, 2], [11, 2, 0]])
    with tf.GradientTape() as tape:
        loss = model.self_critical_loss(source, wanted, seed=3)
    assert np.isfinite(float(loss))
    gradients = tape.gradient(loss, model.trainable_weights)
    assert all(gradient is not None for gradient in gradients)


@pytest.mark.full
def test_fit_learns_with_the_mixed_objective_too():
    keras.utils.set_random_seed(0)
    model = Summarizer(12, units=4, embedding_width=6, copy_slots=6, look_back=8)
    rows = batches(*marked(16, np.random.default_rng(0), 12, length=(12, 14)), 8)
    model.compile("adam", **token_objective())
    losses = model.fit(rows, epochs=6, shuffle=False, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.rl_weight = 0.9
    model.compile("adam", **token_objective())
    assert np.isfinite(model.fit(rows, shuffle=False, verbose=0).history["loss"]).all()


@pytest.mark.full
def test_an_export_answers_in_a_clean_process(model, tmp_path):
    save_search(str(tmp_path / "served"), Endpoints(model), warm_up=False)


def test_marked_words_are_the_summary():
    for text, summary in zip(*marked(30, np.random.default_rng(1))):
        assert text[1:][text[:-1] == MARK].tolist() == summary.tolist()
        unknown = text[text >= 60]
        assert unknown.tolist() == list(range(60, 60 + len(unknown)))


@pytest.mark.parametrize("wrong", [{"units": 0}, {"rl_weight": 2}, {"look_back": -1}])
def test_invalid_arguments_are_refused(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name}={value}"):
        Summarizer(9, **wrong)


def test_it_copies_words_that_it_does_not_know():
    assert figure("paulus", "intra-attention and pointer", "exact") >= 90
    assert figure("paulus", "intra-attention and pointer", "unknown words") >= 95
    assert figure("paulus", "no pointer", "unknown words") == 0


def test_the_reinforced_objective_raises_rouge():
    before = figures("paulus", "intra-attention and pointer, early", "ROUGE-L")
    after = figures("paulus", "the same, 200 steps of RL", "ROUGE-L")
    assert np.mean(after) > np.mean(before)


@pytest.mark.slow
def test_the_toy_task_is_learnt(tmp_path):
    said = run_toy("paulus", tmp_path)
    assert is_png(tmp_path / "paulus.png")
    assert int(said.split()[-3]) >= 180
