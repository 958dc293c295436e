"""`--mode=eval`: one JSON object about the held-out pairs."""

import collections
import itertools
import json

import numpy as np
import tensorflow as tf

from apps.chatbot import corpus, store
from apps.chatbot import settings as stored
from apps.chatbot.responder import Responder
from apps.chatbot.train import encode
from keras_attention import text
from keras_attention.data import batches, read_pairs

AT_ONCE = 64


def run(directory: str, said: dict) -> dict:
    """Evaluate the best model of `directory` on `--data` if it is named, else on its test pairs."""
    data = said.pop("data", None)
    settings = stored.load(directory, said)
    model, tokenizer = store.load_model(directory, settings)
    responder = Responder(model, tokenizer, settings)
    turns = settings["context_turns"]
    pairs, families = (read_pairs(data, turns), None) if data else corpus.load(settings)[2:]
    fits = _fits(tokenizer, pairs, settings)
    if not any(fits):
        raise ValueError(
            f"No pair is at most max_length={settings['max_length']} tokens long on both sides."
        )
    pairs = list(itertools.compress(pairs, fits))
    families = families and list(itertools.compress(families, fits))
    store.compile_model(model, settings)
    ids = encode(tokenizer, pairs, settings["max_length"])
    scores = model.evaluate(batches(*ids, AT_ONCE), return_dict=True, verbose=0)
    answers = _answers(responder, [source for source, _ in pairs])
    targets = [target for _, target in pairs]
    report = {
        "pairs": len(pairs),
        "too_long": len(fits) - len(pairs),
        "loss": float(np.log(scores["perplexity"])),
        "perplexity": scores["perplexity"],
        "token_accuracy": scores["token_accuracy"],
        "exact_match": _mean(map(_same, answers, targets)),
        **overlap(answers, targets, "char" if settings["task"] == "couplet" else "13a"),
        "distinct_1": distinct(answers, 1),
        "distinct_2": distinct(answers, 2),
    }
    if settings["task"] == "couplet":
        sources = [source for source, _ in pairs]
        report["right_length"] = _mean(len(a) == len(s) for a, s in zip(answers, sources))
    if families:
        report["families"] = _by_family(families, answers, targets)
    print(json.dumps(report, ensure_ascii=False))
    return report


def _fits(tokenizer, pairs, settings) -> list[bool]:
    """Which pairs the model can read and say; `infer` refuses the same couplets."""
    limit = settings["max_length"]
    source, target = (tokenizer.encode(list(side)).row_lengths().numpy() for side in zip(*pairs))
    longest = np.maximum(source, target)
    if settings["task"] == "couplet":
        longest = np.maximum(longest, [len(first) for first, _ in pairs])
    return (longest <= limit).tolist()


def _answers(responder: Responder, sources: list[str]) -> list[str]:
    """The best reply to each source; equal lengths are asked together."""
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    answers = [""] * len(sources)
    for begin in range(0, len(order), AT_ONCE):
        rows = order[begin : begin + AT_ONCE]
        for row, replies in zip(rows, responder.replies([sources[i] for i in rows])):
            answers[row] = replies[0]
    return answers


def overlap(answers: list[str], targets: list[str], tokenize: str) -> dict:
    """BLEU and chrF of sacrebleu, with its signature; nothing if it is not installed."""
    try:
        import sacrebleu
    except ImportError:
        return {}
    bleu, chrf = sacrebleu.BLEU(tokenize=tokenize), sacrebleu.CHRF()
    return {
        "bleu": bleu.corpus_score(answers, [targets]).score,
        "chrf": chrf.corpus_score(answers, [targets]).score,
        "bleu_signature": str(bleu.get_signature()),
    }


def distinct(answers: list[str], n: int) -> float:
    """Distinct n-grams of words (CJK: of characters) over all of them (Li et al., 2016).

    >>> distinct(["a b a b"], 1)
    0.5
    """
    rows = text.split(tf.constant(answers, tf.string)).to_list()
    grams = [tuple(row[i : i + n]) for row in rows for i in range(len(row) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def _by_family(families, answers, targets) -> dict[str, float]:
    groups = collections.defaultdict(list)
    for family, answer, target in zip(families, answers, targets):
        groups[family].append(_same(answer, target))
    return {family: _mean(hits) for family, hits in groups.items()}


def _same(answer: str, target: str) -> bool:
    return answer.strip() == target.strip()


def _mean(values) -> float:
    return float(np.mean([float(value) for value in values]))
