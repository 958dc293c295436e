"""Semantic roles of PropBank EWT with DEEPATT and with a BiLSTM-CRF."""

from collections import Counter, defaultdict

import keras
import numpy as np
import tensorflow as tf

from experiments import Experiment, Run
from keras_attention.data import epoch_batches
from keras_attention.training import token_objective
from models import BiLSTMCRF, DeepAtt
from models._propositions import IDS, LABELS, arrays, read_propositions, toy
from models._tagging import span_f1

BATCH, WIDTH, LAYERS = 64, 128, 4


def read(run: Run, part: str) -> list:
    """The propositions of a part; words in lower case, digits as 0."""

    def plain(word):
        return "".join("0" if letter.isdigit() else letter for letter in word.lower())

    found = read_propositions(run.data / f"propbank_ewt/{part}.conll.gz")
    return run.few([p._replace(words=[plain(word) for word in p.words]) for p in found])


def train(run: Run, model, examples, ids, epochs, peak, loss) -> None:
    """Adam with a rate that rises for 300 steps and falls along a cosine."""
    lengths = [len(each.words) for each in examples]
    steps = epochs * -(-len(examples) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, max(steps - 300, 1), alpha=0.02, warmup_target=peak, warmup_steps=300
    )
    model.compile(keras.optimizers.Adam(rate, beta_2=0.98, global_clipnorm=1.0), **loss)
    row = tf.TensorSpec([None, None], tf.int32)
    signature = ((row, row), row, tf.TensorSpec([None, None], tf.float32))

    def make_epoch(epoch, batch):
        order = epoch_batches(lengths, BATCH, run.seed, epoch)[batch:]

        def generate():
            for chosen in order:
                yield arrays(model, [examples[place] for place in chosen], ids)

        return tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(2)

    run.fit(model, make_epoch, epochs)


def test(model, examples, ids) -> dict[str, float]:
    """Precision, recall, F1 of the best valid tags."""
    row = tf.TensorSpec([None, None], tf.int32)
    tag = tf.function(model.tag, input_signature=[(row, row)])
    ordered = sorted(examples, key=lambda each: len(each.words))
    found = []
    for first in range(0, len(ordered), 100):
        some = ordered[first : first + 100]
        untagged = [each._replace(tags=["O"] * len(each.words)) for each in some]
        tags = tag(arrays(model, untagged, ids)[0])
        found += model.decode_tags(tags, [len(each.words) for each in some])
    return span_f1([each.tags for each in ordered], found)


def trained(run: Run, make, epochs, peak, loss) -> dict[str, float]:
    """Both tasks with the same model: `make(vocab_size, labels)`."""
    rng = np.random.default_rng(run.seed)
    model = make(2 + len(IDS), LABELS)
    train(run, model, run.few(toy(12_800, rng)), IDS, 3, peak, loss)
    figures = {"toy F1": test(model, run.few(toy(1000, rng)), IDS)["f1"]}
    examples, unseen = read(run, "train"), read(run, "test")
    counts = Counter(word for each in examples for word in each.words)
    ids = {word: 2 + i for i, (word, n) in enumerate(counts.most_common()) if n >= 3}
    labels = sorted({tag[2:] for each in examples for tag in each.tags if tag != "O"})
    model = make(2 + len(ids), labels)
    train(run, model, examples, ids, epochs, peak, loss)
    return figures | test(model, unseen, ids)


def deepatt(nonlinear: str, epochs: int):
    def make(size, labels):
        return DeepAtt(size, labels, nonlinear, LAYERS, WIDTH, 8, 4 * WIDTH, dropout=0.1)

    return lambda run: trained(run, make, epochs, 1.5e-3, token_objective(0.1))


def bilstm_crf(run: Run) -> dict[str, float]:
    def make(size, labels):
        return BiLSTMCRF(size, labels, layers=2, units=100, width=64)

    return trained(run, make, 4, 4e-3, {})


def without_marks(run: Run) -> dict[str, float]:
    """The toy alone: which predicate is asked for, is not said."""
    rng = np.random.default_rng(run.seed)
    model = DeepAtt(2 + len(IDS), LABELS, "ffn", LAYERS, WIDTH, 8, 4 * WIDTH, dropout=0.1)
    model.marks.trainable = False
    model.build()
    model.marks.set_weights([np.zeros([2, WIDTH // 2])])
    train(run, model, run.few(toy(12_800, rng)), IDS, 3, 1.5e-3, token_objective(0.1))
    return {"toy F1": test(model, run.few(toy(1000, rng)), IDS)["f1"]}


def majority(run: Run) -> dict[str, float]:
    """The most frequent tag of a lemma at a distance from the predicate, else of the distance."""
    counts: dict = defaultdict(Counter)
    for each in read(run, "train"):
        for place, tag in enumerate(each.tags):
            for key in ((each.lemma, place - each.predicate), place - each.predicate):
                counts[key][tag] += 1
    best = {key: tags.most_common(1)[0][0] for key, tags in counts.items()}
    unseen = read(run, "test")
    found = [
        [
            best.get((each.lemma, distance), best.get(distance, "O"))
            for distance in range(-each.predicate, len(each.words) - each.predicate)
        ]
        for each in unseen
    ]
    return span_f1([each.tags for each in unseen], found)


experiment = Experiment(
    title="DEEPATT (Tan et al., 2018) and BiLSTM-CRF (Zhou & Xu, 2015)",
    task="semantic roles of PropBank EWT, 40,427 / 4,795 predicates, and of a toy grammar",
    data=("propbank_ewt/train.conll.gz", "propbank_ewt/test.conll.gz"),
    runs={
        "DEEPATT-FFN": deepatt("ffn", 4),
        "DEEPATT-CNN": deepatt("cnn", 4),
        "DEEPATT-RNN": deepatt("rnn", 2),
        "BiLSTM-CRF": bilstm_crf,
        "DEEPATT-FFN without marks": without_marks,
        "majority of lemma and distance": majority,
    },
    seeds=(0,),
    metrics={
        "f1": "F1 of the arguments without V, with all their parts, %",
        "precision": "its precision, %",
        "recall": "its recall, %",
        "toy F1": "F1 of active and passive clauses of the toy grammar, %",
    },
    published="none on EWT; CoNLL-05 WSJ: RNN 83.7, CNN 83.8, FFN 84.8 (single models)",
    differs="4 layers of 128 instead of 10 of 200; random embeddings; Adam, 4 epochs (RNN 2, for "
    "the same time as FFN); decoding allows valid tags only",
)
