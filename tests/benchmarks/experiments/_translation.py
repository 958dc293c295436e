"""Multi30k, English to German, as ids of subwords, and BLEU of what a model answers."""

import re
from typing import NamedTuple

import keras
import numpy as np
import sacrebleu

from keras_attention import text
from keras_attention.data import batches, read_pairs
from keras_attention.training import ClipByGlobalNorm, token_objective
from models import _toy as toy

PARTS = ("train", "val", "test_2016_flickr")
FILES = tuple(
    f"multi30k/tok/{part}.lc.norm.tok.{language}.gz" for part in PARTS for language in ("en", "de")
)
BATCH = 80


class Corpus(NamedTuple):
    """Pairs of lines of each part, a joint vocabulary, and the ids of the part for training."""

    pairs: dict
    tokenizer: text.Subwords
    ids: tuple

    @property
    def vocab_size(self) -> int:
        return self.tokenizer.vocab_size


def multi30k(run, vocab_size: int = 4000, pairs: int | None = None) -> Corpus:
    """The corpus, with a SentencePiece vocabulary of the training part; its first pairs alone."""
    lines = {}
    for part, (english, german) in zip(PARTS, zip(FILES[::2], FILES[1::2])):
        lines[part] = read_pairs(f"{run.data / english},{run.data / german}")
    lines["train"] = lines["train"][:pairs]
    tokenizer = text.Subwords.train(
        [line for pair in lines["train"] for line in pair], vocab_size=vocab_size
    )
    return Corpus(lines, tokenizer, encoded(tokenizer, run.few(lines["train"])))


def encoded(tokenizer, pairs) -> tuple:
    """Pairs of lines -> ids of the sources, ids of the targets."""
    sides = (tokenizer.encode(list(side)).to_list() for side in zip(*pairs))
    return tuple([np.asarray(row, np.int32) for row in side] for side in sides)


def train(run, model, ids, epochs: int, rate: float = 1e-3, clip: float = 1.0):
    """Adam whose rate falls to 0 along a cosine, and gradients of a norm of at most `clip`."""
    steps = -(-len(ids[0]) // BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(
        rate / 10, steps * epochs, warmup_target=rate, warmup_steps=min(200, steps)
    )
    model.compile(ClipByGlobalNorm(keras.optimizers.Adam(schedule), clip), **token_objective())

    def make_epoch(epoch, batch):
        return batches(*ids, BATCH, seed=run.seed, epoch=epoch, skip=batch, buckets=True)

    return run.fit(model, make_epoch, epochs, shuffle=False)


def perplexity(run, model, corpus: Corpus, part: str = "val") -> float:
    """Of the references of a part."""
    ids = encoded(corpus.tokenizer, run.few(corpus.pairs[part]))
    return model.evaluate(batches(*ids, 100), return_dict=True, verbose=0)["perplexity"]


def translations(run, model, corpus: Corpus, beam_width: int = 5) -> tuple[list, list, list]:
    """The test part's sources, what the model answers to them, and the references."""
    pairs = run.few(corpus.pairs["test_2016_flickr"], 8)
    ids, _ = encoded(corpus.tokenizer, pairs)
    found = toy.answers(model, ids, beam_width=beam_width, length_penalty=0.6, max_length=60)
    lines = corpus.tokenizer.decode([answer for answer, _ in found]).numpy()
    said = [re.sub(" +", " ", line.decode("utf-8", "replace")).strip() for line in lines]
    return [source for source, _ in pairs], said, [reference for _, reference in pairs]


def bleu(said: list, references: list) -> float:
    """sacrebleu of lower-cased, tokenised lines, `--tokenize none`."""
    return sacrebleu.BLEU(tokenize="none", force=True).corpus_score(said, [references]).score
