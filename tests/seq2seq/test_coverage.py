"""The coverage penalty of a beam search whose cell attends monotonically, against NumPy."""

import keras
import numpy as np
import pytest

from keras_attention.seq2seq import (
    AttentionWrapper,
    BahdanauMonotonicAttention,
    BeamSearchDecoder,
    LuongMonotonicAttention,
)
from tests import oracles
from tests.seq2seq.cells import UNITS, WIDTH, normal

START, END, VOCABULARY, STEPS, SOURCE = 1, 0, 4, 3, 5
LENGTHS = np.array([SOURCE, 2, 1])
EVERYTHING = 40  # answers of at most three tokens: 1 + 3 + 9 + 27
EMBEDDING = np.eye(VOCABULARY, dtype="float32")
KINDS = {"luong": LuongMonotonicAttention, "bahdanau": BahdanauMonotonicAttention}


def made(kind, mode, width, weight):
    """A decoder whose weights are nowhere at their initial values, and the values of a memory."""
    mechanism = KINDS[kind](UNITS, mode=mode)
    wrapper = AttentionWrapper(keras.layers.GRUCell(UNITS), mechanism, attention_layer_size=6)
    decoder = BeamSearchDecoder(
        wrapper,
        width,
        output_layer=keras.layers.Dense(VOCABULARY),
        coverage_penalty_weight=weight,
        maximum_iterations=STEPS,
    )
    values = normal(len(LENGTHS), SOURCE, WIDTH)
    found(decoder, values)
    for variable in decoder.weights:
        variable.assign(np.random.normal(size=variable.shape))
    return decoder, values


def found(decoder, values):
    """-> for each source the hypotheses, with a score each; coverage [B, K, S]."""
    outputs, final, lengths = decoder(
        EMBEDDING,
        start_tokens=[START] * len(LENGTHS),
        end_token=END,
        memory=values,
        memory_sequence_length=LENGTHS,
    )
    ids = outputs.predicted_ids.numpy()
    hypotheses = [
        [tuple(ids[b, :length, k].tolist()) for k, length in enumerate(row)]
        for b, row in enumerate(lengths.numpy())
    ]
    scores = outputs.beam_search_decoder_output.scores[:, -1].numpy()
    return hypotheses, scores, final.accumulated_attention_probs.numpy()


class Oracle:
    """One source in NumPy: steps of the cell with monotonic attention, and a beam search."""

    def __init__(self, decoder, values):
        wrapper = decoder.cell
        self.mechanism = wrapper.attention_mechanism
        self.gru = [weight.numpy() for weight in wrapper.cell.weights]
        self.join = wrapper._attention_layers[0].kernel.numpy()
        self.head = [weight.numpy() for weight in decoder.output_layer.weights]
        self.values = values[None].astype(np.float64)

    def stops(self, query):
        """The probability that the pointer stops at each slot.  [1, S]."""
        mechanism, memory = self.mechanism, self.mechanism.memory_layer.kernel.numpy()
        if isinstance(mechanism, LuongMonotonicAttention):
            scores = oracles.luong_scores(query, self.values, memory)
        else:
            kernel, v = mechanism.query_layer.kernel.numpy(), mechanism.attention_v.numpy()
            scores = oracles.bahdanau_scores(query, self.values, kernel, memory, v)
        scores = scores + mechanism.attention_score_bias.numpy()
        return (scores > 0) * 1.0 if mechanism.mode == "hard" else oracles.sigmoid(scores)

    def begin(self):
        """The state before the first step: h, the attention, the alignments."""
        pointer = np.zeros((1, self.values.shape[1]))
        pointer[0, 0] = 1
        return np.zeros((1, UNITS)), np.zeros((1, self.join.shape[1])), pointer

    def step(self, token, state):
        """-> log p of the next token [V], state."""
        h, attention, alignments = state
        h = oracles.gru(np.concatenate([EMBEDDING[[token]], attention], -1), h, *self.gru)
        alignments = oracles.monotonic(self.stops(h), alignments)
        context = np.einsum("bs,bsd->bd", alignments, self.values)
        attention = np.concatenate([h, context], -1) @ self.join
        kernel, bias = self.head
        log_p = np.log(oracles.softmax(attention @ kernel + bias))[0]
        return log_p, (h, attention, alignments)

    def search(self, width, weight):
        """-> {hypothesis: (score, alignments [T, S])}; the penalty counts once one has finished."""
        kept = {(): (0.0, 0.0, [], self.begin())}
        for _ in range(STEPS):
            candidates = {}
            for said, (log_p, _, looked, state) in kept.items():
                if END in said:
                    score = log_p + oracles.coverage_penalty(looked, weight)
                    candidates[said] = (log_p, score, looked, state)
                    continue
                each, state = self.step(said[-1] if said else START, state)
                for token in range(VOCABULARY):
                    total = log_p + each[token]
                    candidates[(*said, token)] = (total, total, [*looked, state[2][0]], state)
            best = sorted(candidates, key=lambda said: -candidates[said][1])[:width]
            kept = {said: candidates[said] for said in best}
        return {said: (score, looked) for said, (_, score, looked, _) in kept.items()}


@pytest.mark.parametrize(
    "kind, mode, width, weight",
    [
        ("luong", "recursive", 3, 0.5),
        ("luong", "hard", EVERYTHING, 0.5),
        ("bahdanau", "parallel", EVERYTHING, 2.0),
        ("bahdanau", "hard", 3, 2.0),
    ],
)
def test_scores_and_coverage_are_those_of_numpy(kind, mode, width, weight):
    decoder, values = made(kind, mode, width, weight)
    hypotheses, scores, coverage = found(decoder, values)
    for b, length in enumerate(LENGTHS):
        expected = Oracle(decoder, values[b, :length]).search(width, weight)
        assert set(hypotheses[b]) == set(expected)
        assert not coverage[b, :, length:].any()
        for k, said in enumerate(hypotheses[b]):
            score, looked = expected[said]
            np.testing.assert_allclose(scores[b, k], score, rtol=1e-4, atol=1e-4)
            seen = np.sum(looked, 0)
            np.testing.assert_allclose(coverage[b, k, :length], seen, rtol=1e-4, atol=1e-5)


def test_the_slot_that_the_pointer_starts_from_is_seen_by_no_step():
    """A pointer that stops nowhere looks at nothing: there is no coverage, and no penalty."""
    decoder, values = made("luong", "hard", EVERYTHING, 5.0)
    decoder.cell.attention_mechanism.attention_score_bias.assign(-1e6)
    hypotheses, scores, coverage = found(decoder, values)
    assert not coverage.any()
    for b, length in enumerate(LENGTHS):
        expected = Oracle(decoder, values[b, :length]).search(EVERYTHING, 0.0)
        for said, score in zip(hypotheses[b], scores[b]):
            np.testing.assert_allclose(score, expected[said][0], rtol=1e-4, atol=1e-4)
