"""Multi30k for the experiments that translate it: subwords, training, BLEU."""

import re
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from experiments import Run
from keras_attention import text
from keras_attention.data import batches, read_pairs

PARTS = ("train", "val", "test_2016_flickr")
FILES = tuple(
    f"multi30k/tok/{part}.lc.norm.tok.{language}.gz" for part in PARTS for language in ("en", "de")
)
BLEU = "BLEU of sacrebleu on the tokenised lower-cased test of 2016 (`--tokenize none`), beam of 5"


class Corpus(NamedTuple):
    """Pairs of texts, and the subwords of both languages."""

    tokenizer: Any
    train: list[tuple[str, str]]
    val: list[tuple[str, str]]
    test: list[tuple[str, str]]

    def encoded(self, part: str) -> list[list[np.ndarray]]:
        """Ids of all sources, and of all targets."""
        sides = zip(*getattr(self, part))
        return [
            [np.asarray(ids, np.int32) for ids in self.tokenizer.encode(list(side)).to_list()]
            for side in sides
        ]


def read(run: Run, source="en", target="de", vocab_size=5_000, count=29_000) -> Corpus:
    """The first `count` pairs for training, and one joint SentencePiece vocabulary of these."""

    def pairs(part):
        stem = run.data / "multi30k" / "tok" / f"{part}.lc.norm.tok"
        return run.few(read_pairs(f"{stem}.{source}.gz,{stem}.{target}.gz"), 500)

    learned = pairs("train")[:count]
    if not any(run.work.glob("*.model")):
        size = 600 if run.quick else vocab_size
        lines = [line for pair in learned for line in pair]
        text.Subwords.train(lines, vocab_size=size).save(str(run.work))
    return Corpus(text.load(str(run.work)), learned, pairs("val"), run.few(pairs(PARTS[2]), 20))


def train(run: Run, model, corpus: Corpus, epochs: int, batch_size=64, callbacks=()):
    """`fit` on batches of similar lengths, with the perplexity of `val` after each epoch."""
    learned = corpus.encoded("train")

    def make_epoch(epoch, batch):
        order = {"seed": run.seed, "epoch": epoch, "skip": batch}
        return batches(*learned, batch_size, **order, buckets=True)

    held_out = batches(*corpus.encoded("val"), 100).cache()
    settings = {"validation_data": held_out, "shuffle": False}
    return run.fit(model, make_epoch, epochs, callbacks, **settings)


def cosine(epochs: int, batch_size: int, rate: float = 1e-3, count: int = 29_000):
    """A learning rate that rises for 200 steps and falls to 0 along a cosine."""
    steps = -(-count // batch_size) * epochs
    return keras.optimizers.schedules.CosineDecay(
        rate / 10, steps - 200, warmup_target=rate, warmup_steps=200
    )


def bleu(run: Run, model, corpus: Corpus, length_penalty=1.0, beam_width=5) -> float:
    """BLEU of the answers to `test`, which are left in the folder of the run."""
    ids = corpus.encoded("test")[0]
    order = np.argsort([len(row) for row in ids])
    said: list[str] = []

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)], autograph=False)
    def best(source):
        found = model.generate(
            source, beam_width=beam_width, length_penalty=length_penalty, max_length=80, n_best=1
        )
        return corpus.tokenizer.decode(found.ids[:, 0])

    for (source, _), _, _ in batches([ids[i] for i in order], [[]] * len(ids), 100):
        lines = [reply.decode("utf-8", "replace") for reply in best(source).numpy()]
        said += [re.sub(" +", " ", line).strip() for line in lines]
    answers = [""] * len(said)
    for place, line in zip(order, said):
        answers[place] = line
    (run.work / "test.txt").write_text("\n".join(answers) + "\n", encoding="utf-8")
    return bleu_of(run, corpus, range(len(answers)))


def bleu_of(run: Run, corpus: Corpus, places) -> float:
    """BLEU of some of the answers in the folder of the run."""
    import sacrebleu

    answers = (run.work / "test.txt").read_text(encoding="utf-8").split("\n")
    said, references = zip(*((answers[i], corpus.test[i][1]) for i in places))
    metric = sacrebleu.BLEU(tokenize="none", force=True)
    return metric.corpus_score(said, [references]).score
