"""Translate Multi30k (en -> de) with the RNN and the Transformer, and print BLEU.

    python tests/benchmarks/multi30k.py --model=transformer --data=DIRECTORY --work=DIRECTORY
    python tests/benchmarks/multi30k.py --model=rnn         --data=DIRECTORY --work=DIRECTORY

The first directory holds `multi30k/tok/{train,val,test_2016_flickr}.lc.norm.tok.{en,de}.gz`. The
second is kept: a run that was stopped goes on when the same command is run again. One joint
SentencePiece vocabulary of 10,000; beam 5. The RNN is trained by the chatbot program, whose best
epoch counts; of the Transformer the last `--average` epochs are averaged. Which length penalty
suits is seen on the lines of `val`, which are answered first. The figure comes last:
BLEU of sacrebleu on the tokenised lower-cased text (`--tokenize none`), with its signature.
"""

import argparse
import os
import pathlib
import re
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import keras
import numpy as np
import tensorflow as tf
from real_text import program

from apps.chatbot import store
from apps.chatbot.settings import load as settings_of
from keras_attention import text
from keras_attention.data import batches, read_pairs
from keras_attention.training import (
    InverseSquareRoot,
    TrainingCheckpoint,
    average_checkpoints,
    token_objective,
)
from models import Transformer

RNN = (
    "--tokenizer=sentencepiece --vocab_size=10000 --units=256 --dropout=0.3 --learning_rate=0.002 "
    "--batch_size=64 --patience=6"
)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", choices=["transformer", "rnn"], required=True)
    options.add_argument("--data", type=pathlib.Path, required=True)
    options.add_argument("--work", type=pathlib.Path, required=True)
    options.add_argument("--epochs", type=int, default=40)
    options.add_argument("--average", type=int, default=5)
    options.add_argument("--batch_size", type=int, default=64)
    options.add_argument("--peak", type=float, default=2e-3, help="of the learning rate")
    options.add_argument("--warmup", type=int, default=1000, help="steps")
    options.add_argument("--dropout", type=float, default=0.2)
    options.add_argument("--norm", choices=["post", "pre"], default="pre")
    options.add_argument("--beam_width", type=int, default=5)
    options.add_argument("--length_penalty", type=float, help="default: 0.6; Transformer: 1")
    options.add_argument("--evaluate_only", action="store_true")
    options = options.parse_args()
    if options.length_penalty is None:
        options.length_penalty = 0.6 if options.model == "rnn" else 1.0
    options.work.mkdir(parents=True, exist_ok=True)
    pairs = {part: corpus(options.data, part) for part in ("train", "val", "test_2016_flickr")}
    model, tokenizer = (rnn if options.model == "rnn" else transformer)(pairs, options)
    print(f"{options.model}: {model.count_params():,} parameters", flush=True)
    for part in ("val", "test_2016_flickr"):
        print(part, *bleu(model, tokenizer, pairs[part], options, part), flush=True)


def stem(data, part):
    return data / "multi30k" / "tok" / f"{part}.lc.norm.tok"


def corpus(data, part):
    """[(English, German)]."""
    return read_pairs(f"{stem(data, part)}.en.gz,{stem(data, part)}.de.gz")


def rnn(pairs, options):
    """The best epoch of the chatbot program."""
    if not options.evaluate_only:
        train, dev = (
            f"{stem(options.data, part)}.en.gz,{stem(options.data, part)}.de.gz"
            for part in ("train", "val")
        )
        settings = f"{RNN} --epochs={options.epochs}".split()
        program("train", options.work, f"--data={train}", f"--dev_data={dev}", *settings)
    return store.load_model(str(options.work), settings_of(str(options.work), {}))


def transformer(pairs, options):
    """The mean of the last epochs."""
    tokenizer = vocabulary(options.work, pairs["train"])
    model = make(options, tokenizer.vocab_size)
    if not options.evaluate_only:
        train(model, tokenizer, pairs, options)
    saved = sorted(options.work.glob("epoch-*.weights.h5"))[-options.average :]
    average_checkpoints(model, saved)
    print(f"mean of {', '.join(path.name for path in saved)}")
    return model, tokenizer


def vocabulary(work, pairs):
    if not any(work.glob("*.model")):
        lines = [line for pair in pairs for line in pair]
        text.Subwords.train(lines, vocab_size=10_000).save(str(work))
    return text.load(str(work))


def make(options, vocab_size):
    keras.utils.set_random_seed(0)
    model = Transformer.of("small", vocab_size, norm=options.norm, dropout=options.dropout)
    model.build()
    rate = InverseSquareRoot(options.peak, options.warmup)
    optimizer = keras.optimizers.Adam(rate, beta_2=0.98, epsilon=1e-9)
    model.compile(optimizer, **token_objective(label_smoothing=0.1))
    return model


def train(model, tokenizer, pairs, options):
    def encoded(part):
        return [
            [np.asarray(ids, np.int32) for ids in tokenizer.encode(list(side)).to_list()]
            for side in zip(*pairs[part])
        ]

    checkpoint = TrainingCheckpoint(str(options.work / "checkpoints"), model, model.optimizer)
    progress = checkpoint.restore() or {"epoch": 0}
    learned, held_out = encoded("train"), batches(*encoded("val"), 128).cache()
    for epoch in range(progress["epoch"], options.epochs):
        logs = model.fit(
            batches(*learned, options.batch_size, seed=0, epoch=epoch),
            validation_data=held_out,
            shuffle=False,
            verbose=0,
        ).history
        model.save_weights(options.work / f"epoch-{epoch + 1:03}.weights.h5")
        checkpoint.save({"epoch": epoch + 1})
        shown = ", ".join(f"{name} {values[-1]:.4f}" for name, values in logs.items())
        print(f"epoch {epoch + 1}: {shown}", flush=True)


def bleu(model, tokenizer, pairs, options, part):
    """BLEU, and sacrebleu's signature of how it was measured; writes what was said."""
    import sacrebleu

    sources, references = zip(*pairs)
    ids = [np.asarray(row, np.int32) for row in tokenizer.encode(list(sources)).to_list()]
    order = np.argsort([len(row) for row in ids])
    said = [""] * len(ids)
    done = 0

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)], autograph=False)
    def best(source):
        found = model.generate(
            source,
            beam_width=options.beam_width,
            length_penalty=options.length_penalty,
            max_length=80,
            n_best=1,
        )
        return tokenizer.decode(found.ids[:, 0])

    for (source, _), _, _ in batches([ids[i] for i in order], [[]] * len(ids), 100):
        for reply in best(source).numpy():
            said[order[done]] = re.sub(" +", " ", reply.decode("utf-8", "replace")).strip()
            done += 1
    (options.work / f"{part}.de").write_text("\n".join(said) + "\n", encoding="utf-8")
    metric = sacrebleu.BLEU(tokenize="none", force=True)
    return metric.corpus_score(said, [list(references)]), metric.get_signature()


if __name__ == "__main__":
    main()
