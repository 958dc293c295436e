"""`--mode=eval`: one JSON object about the held-out pairs."""

import collections
import json
import re
import sys

import numpy as np
import tensorflow as tf

from apps.chatbot import corpus, store
from apps.chatbot import settings as stored
from apps.chatbot.examples import encode
from apps.chatbot.infer import shown
from apps.chatbot.responder import Responder
from apps.chatbot.train import dev_loss
from keras_attention import text
from keras_attention.data import Limits, batches

AT_ONCE = 64

# Scripts without blanks between words: Chinese characters; Thai, Lao, Tibetan, Burmese, Khmer, Tai
# Le, New Tai Lue, Tai Tham, Balinese, kana, Bopomofo, Yi, Javanese, kana of half width.
HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u1b00-\u1b7f"
    "\u3040-\u30ff\u3100-\u312f\u31a0-\u31bf\ua000-\ua4cf\ua980-\ua9df\uff66-\uff9f]"
)


def run(
    directory: str,
    explicit_flags: dict,
    limits: Limits | None = None,
    bleu_tokenize: str | None = None,
) -> dict:
    """Evaluate the best model of `directory` on `--data` if it is named, else on its test pairs.

    `limits`: of the data. `bleu_tokenize`: of sacrebleu; None: by the script of the targets.
    """
    data = explicit_flags.pop("data", None)
    settings = stored.load(directory, explicit_flags)
    model, tokenizer = store.load_model(directory, settings)
    responder = Responder(model, tokenizer, settings)
    pairs, families = _pairs(directory, data, settings, limits)
    ids = encode(tokenizer, pairs, settings)
    if not ids.places:
        raise ValueError(
            f"No pair is at most max_length={settings['max_length']} tokens long on both sides."
        )
    too_long = len(pairs) - len(ids.places)
    pairs = [pairs[place] for place in ids.places]
    families = families and [families[place] for place in ids.places]
    store.compile_model(model, settings)
    scores = model.evaluate(batches(*ids[:2], AT_ONCE), return_dict=True, verbose=0)
    sources, targets = map(list, zip(*pairs))
    answers = _answers(responder, sources)
    report = {
        "pairs": len(pairs),
        "too_long": too_long,
        "loss": dev_loss(scores),
        "perplexity": scores["perplexity"] if np.isfinite(scores["perplexity"]) else None,
        "token_accuracy": scores["token_accuracy"],
        "exact_match": _mean(map(_same, answers, targets)),
        **overlap(answers, targets, bleu_tokenize or bleu_tokenizer(targets)),
        "distinct_1": distinct(answers, 1),
        "distinct_2": distinct(answers, 2),
    }
    if settings["task"] == "couplet":
        report["right_length"] = _mean(len(a) == len(s) for a, s in zip(answers, sources))
    if families:
        report["families"] = _by_family(families, answers, targets)
    if report["bleu"] is None:
        print(
            "eval: no BLEU and chrF without sacrebleu: pip install sacrebleu, the extra [metrics].",
            file=sys.stderr,
        )
    print(json.dumps(report, ensure_ascii=False, allow_nan=False))
    return report


def _pairs(directory, data, settings, limits) -> tuple[list, list | None]:
    """The pairs to evaluate on, and their families, if they have any."""
    if data:
        found = corpus.read(data, settings, limits)
        if found.ignored or found.skipped:
            print(f"eval: {data}: {found.summary()}", file=sys.stderr)
        return found.pairs, None
    corpus.check_there(settings, "Name what to evaluate on: --data=FILE")
    pairs = corpus.held_out(settings, limits)
    try:
        corpus.check_unchanged(directory, pairs.record, settings)
    except ValueError as error:  # the result is not comparable
        print(f"eval: {error}", file=sys.stderr)
    return pairs.test, pairs.families


def _answers(responder: Responder, sources: list[str]) -> list[str]:
    """The best reply to each source, as in infer; sources of equal length are batched."""
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    answers = [""] * len(sources)
    for begin in range(0, len(order), AT_ONCE):
        rows = order[begin : begin + AT_ONCE]
        for row, replies in zip(rows, responder.replies([sources[i] for i in rows])):
            answers[row] = shown(replies[0])
    return answers


def bleu_tokenizer(targets: list[str]) -> str:
    """The tokenizer of sacrebleu for the script that the targets are written in.

    `13a` needs blanks between words. Where a fifth of the texts or more has none, it is `zh` for
    Chinese, which takes each character as a word, and `char` for Japanese, Thai, Tibetan and the
    other ones.

    >>> [bleu_tokenizer([target]) for target in ("How are you?", "你好吗？", "元気ですか")]
    ['13a', 'zh', 'char']
    """
    han, other = (sum(bool(script.search(text)) for text in targets) for script in (HAN, UNSPACED))
    if 5 * other >= len(targets) and 5 * other >= han:
        return "char"
    return "zh" if 5 * han >= len(targets) else "13a"


def overlap(answers: list[str], targets: list[str], tokenize: str) -> dict:
    """BLEU and chrF of sacrebleu, with the signature of BLEU; None each if it is not installed.

    Raises ValueError if sacrebleu has no such tokenizer, or it needs another package.
    """
    try:
        import sacrebleu
    except ImportError:
        return dict.fromkeys(("bleu", "chrf", "bleu_signature"))
    try:
        bleu, chrf = sacrebleu.BLEU(tokenize=tokenize), sacrebleu.CHRF()
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"sacrebleu cannot use --bleu_tokenize={tokenize}: {error}. Choose another one, such "
            "as char."
        ) from error
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
