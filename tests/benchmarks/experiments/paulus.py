"""Synthetic summaries with intra-attention, a pointer and reinforcement (Paulus et al., 2017)."""

import functools

import keras
import numpy as np

from experiments import Experiment, Run
from keras_attention.data import batches
from keras_attention.training import token_objective
from models import _toy as toy
from models._rouge import rouge_l
from models.paulus import UNKNOWN, Summarizer, marked

VOCABULARY, SLOTS = 60, 6
EARLY, LATE, REINFORCED = 40, 600, 200  # steps


def summaries(run: Run, steps: int, reinforced: int = 0, **parts) -> dict[str, float]:
    """Learn to say the marked words, and measure greedy answers to 500 other texts."""
    rng = np.random.default_rng(run.seed)
    sources, targets = marked(len(run.few(range(64 * LATE))), rng)
    held_out, wanted = marked(len(run.few(range(500))), rng)
    model = Summarizer(
        VOCABULARY, units=48, embedding_width=32, copy_slots=SLOTS, look_back=10,
        supervise=False, **parts,
    )  # fmt: skip
    known = targets
    if not parts.get("pointer", True):
        known = [np.where(target < VOCABULARY, target, UNKNOWN) for target in targets]

    def rows(seed):
        def make_epoch(epoch, batch):
            return batches(sources, known, 64, seed=seed, epoch=epoch, skip=batch)

        return make_epoch

    def fit(rate, seed, count):
        model.compile(keras.optimizers.Adam(rate, global_clipnorm=2.0), **token_objective())
        whole = rows(seed)
        run.fit(model, lambda e, batch: whole(e, batch).take(count - batch), 1, shuffle=False)

    fit(3e-3, run.seed, steps)
    if reinforced:
        model.rl_weight = 0.9984
        fit(3e-4, run.seed + 1000, reinforced)
    found = [ids for ids, _ in toy.answers(model, held_out, max_length=12)]
    return measures(found, wanted)


def measures(found, wanted) -> dict[str, float]:
    """In %: exact answers, unknown words that are copied, repeated pairs of words, ROUGE-L."""
    unknown = [
        word in answer
        for answer, right in zip(found, wanted)
        for word in right[right >= VOCABULARY]
    ]
    pairs = [list(zip(answer, answer[1:])) for answer in found]
    repeated = sum(len(row) - len(set(row)) for row in pairs) / max(sum(map(len, pairs)), 1)

    def padded(rows):
        return np.array([[*row, *[0] * (12 - len(row))] for row in rows])

    return {
        "exact": 100 * toy.exact([(answer, None) for answer in found], wanted),
        "unknown words": 100 * np.mean(unknown),
        "repeated pairs": 100 * repeated,
        "ROUGE-L": 100 * np.mean(rouge_l(padded(found), padded(wanted))),
    }


experiment = Experiment(
    title="Summaries with intra-attention and a pointer (Paulus et al., 2017)",
    task="say the 3 to 5 marked words of a made text of 20 to 40, half of them unknown words",
    data=(),
    runs={
        "intra-attention and pointer": functools.partial(summaries, steps=LATE),
        "no pointer": functools.partial(summaries, steps=LATE, pointer=False),
        "intra-attention and pointer, early": functools.partial(summaries, steps=EARLY),
        "no intra-temporal attention, early": functools.partial(
            summaries, steps=EARLY, intra_temporal=False
        ),
        "the same, 200 steps of RL": functools.partial(
            summaries, steps=EARLY, reinforced=REINFORCED
        ),
    },
    seeds={
        "intra-attention and pointer": (0, 1),
        "no pointer": (0,),
        "intra-attention and pointer, early": (0, 1, 2),
        "no intra-temporal attention, early": (0, 1, 2),
        "the same, 200 steps of RL": (0, 1, 2),
    },
    metrics={
        "exact": "summaries without an error, %, greedy",
        "unknown words": "those of the targets that the answer has, %",
        "repeated pairs": "pairs of words in an answer that it had before, %",
        "ROUGE-L": "F of the longest common subsequence, %",
    },
    published="CNN/Daily Mail, ROUGE-1 of the RL model 41.16",
    differs=(
        "made texts instead of news; 48 units instead of 200, random embeddings; 200 steps of the "
        "mixed objective follow on 40 of maximum likelihood, so that there is something to improve"
    ),
    notes=(
        "that intra-temporal attention repeats less, as the paper found, is not seen on this task: "
        "both attentions hardly repeat after 40 steps"
    ),
)
