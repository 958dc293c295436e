"""`tf.train.Checkpoint` and `save_weights` keep every weight of every layer and model.

All are written by the process of the tests, and restored by one fresh process, which builds each
anew. A sublayer that is reached through a list alone would be lost by a checkpoint, silently.
"""

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import models
from keras_attention.layers import (
    Bridge,
    GlimpseNetwork,
    HierarchicalAttention,
    IntraDecoderCell,
    LinearCrossEntropy,
    NTMCell,
    PatchEmbedding,
    PatchMerging,
    TiedEmbedding,
    TransformerStack,
)
from keras_attention.seq2seq import (
    AttentionRNN,
    AttentionWrapper,
    BahdanauAttention,
    BasicDecoder,
    BeamSearchDecoder,
    LuongAttention,
    TrainingSampler,
)
from models import RNNSeq2Seq, Transformer, TransformerLM, TransformerTagger
from tests.conformance.test_layers import ELSEWHERE, ROOT, ROWS, Probe
from tests.models import small


class Around(keras.Model):
    """A model around anything that owns weights, and one call that builds it."""

    def __init__(self, layer, *inputs, **more):
        super().__init__()
        self.layer = layer
        layer(*inputs, **more)
        self.built = True


def stacked(*cells):
    return keras.layers.StackedRNNCells([cell(3) for cell in cells])


def lstms():
    return stacked(keras.layers.LSTMCell, keras.layers.LSTMCell)


def attending(cell):
    mechanisms = [LuongAttention(3, scale=True), BahdanauAttention(4, normalize=True)]
    return AttentionWrapper(cell, mechanisms, attention_layer_size=[5, 6])


def built(model):
    model.build()
    return model


def layer_of_the_table(name):
    model = Probe(name, ROWS[name].make("float32"))
    model.build()
    return model


def bridge():
    states = [[tf.ones([2, 3])] * 4] * 2
    return Around(Bridge(), states, lstms().get_initial_state(batch_size=2))


def basic_decoder():
    decoder = BasicDecoder(attending(lstms()), TrainingSampler(), keras.layers.Dense(7))
    return Around(decoder, tf.ones([2, 3, 4]), memory=tf.ones([2, 5, 6]))


def beam_search_decoder():
    decoder = BeamSearchDecoder(
        attending(lstms()), 2, keras.layers.Embedding(7, 4), keras.layers.Dense(7),
        maximum_iterations=2,
    )  # fmt: skip
    return Around(decoder, None, start_tokens=[1], end_token=2, memory=tf.ones([1, 5, 6]))


def hierarchy():
    words, sentences = (keras.layers.RNN(lstms(), return_sequences=True) for _ in range(2))
    return Around(HierarchicalAttention(words, sentences, 6), tf.ones([2, 3, 4, 5]))


def image(layer):
    return lambda: Around(layer(), tf.ones([1, 4, 4, 3]))


MODELS = {
    **{name: lambda name=name: layer_of_the_table(name) for name in ROWS},
    "Bridge": bridge,
    "GlimpseNetwork": lambda: Around(
        GlimpseNetwork(2, 2, 3, 4), tf.ones([1, 8, 8, 1]), tf.zeros([1, 2])
    ),
    "LinearCrossEntropy": lambda: Around(LinearCrossEntropy(5), tf.ones([1, 2, 3])),
    "PatchEmbedding": image(lambda: PatchEmbedding(5, 2)),
    "PatchMerging": image(PatchMerging),
    "TiedEmbedding": lambda: Around(TiedEmbedding(5, 3), tf.constant([[1]])),
    "wrapper_of_stacked_cells": lambda: Around(
        AttentionRNN(attending(lstms())), tf.ones([2, 3, 4]), memory=tf.ones([2, 5, 6])
    ),
    "wrapper_of_stacks_in_a_stack": lambda: Around(
        AttentionRNN(
            AttentionWrapper(
                keras.layers.StackedRNNCells([lstms(), lstms()]), LuongAttention(3), 5
            )
        ),
        tf.ones([2, 3, 4]),
        memory=tf.ones([2, 5, 6]),
    ),
    "basic_decoder": basic_decoder,
    "beam_search_decoder": beam_search_decoder,
    "basic_decoder_of_stacked_cells": lambda: Around(
        BasicDecoder(lstms(), TrainingSampler(), keras.layers.Dense(7)), tf.ones([2, 3, 4])
    ),
    "ntm_of_stacked_cells": lambda: Around(
        keras.layers.RNN(NTMCell(4, lstms(), 6, 3)), tf.ones([2, 3, 4])
    ),
    "intra_decoder_of_stacked_cells": lambda: Around(
        keras.layers.RNN(IntraDecoderCell(lstms(), 3)), tf.ones([2, 3, 4])
    ),
    "hierarchical_of_stacked_cells": hierarchy,
    "stack_of_three": lambda: Around(
        TransformerStack(3, 2, 6, norm="pre", causal=True, cross=True), tf.ones([1, 2, 4]),
        memory=tf.ones([1, 3, 4]),
    ),
    **small.ALL,
    "rnn_seq2seq": lambda: built(RNNSeq2Seq(6, units=3)),
    "rnn_seq2seq_deep": lambda: built(
        RNNSeq2Seq(6, 7, units=3, layers=2, cell="lstm", attention="luong", dropout=0.1)
    ),
    "rnn_seq2seq_plain": lambda: built(
        RNNSeq2Seq(6, units=3, layers=2, bidirectional=False, attention=None, tie_output=True)
    ),
    "transformer": lambda: built(Transformer(6, layers=2, width=4, heads=2, ff_width=5)),
    "transformer_lm": lambda: built(TransformerLM(6, layers=2, width=4, heads=2, ff_width=5)),
    "transformer_tagger": lambda: built(
        TransformerTagger(6, 3, layers=2, width=4, heads=2, ff_width=5)
    ),
}  # fmt: skip


def test_every_layer_and_model_is_here():
    assert set(ELSEWHERE) - {"NonLocal"} <= set(MODELS)
    spelled = {name.replace("_", "").lower() for name in MODELS}
    assert {name.lower() for name in models.__all__} <= spelled


def check_restored(folder):
    """Run in a process of its own: per model how many weights there are, and which were lost."""
    folder, report = pathlib.Path(folder), {}
    for name, make in MODELS.items():
        with np.load(folder / f"{name}.npz") as written:
            expected = [written[f"arr_{place}"] for place in range(len(written))]
        report[name] = {"count": len(expected)}

        model = make()
        tf.train.Checkpoint(model=model).read(str(folder / name / "checkpoint"))
        report[name]["checkpoint"] = lost(model, expected)
        for weight in model.weights:
            weight.assign(tf.zeros_like(weight))
        model.load_weights(folder / f"{name}.weights.h5")
        report[name]["save_weights"] = lost(model, expected)
    (folder / "report.json").write_text(json.dumps(report))


def lost(model, expected):
    """The paths of the weights that do not have their expected values."""
    assert len(model.weights) == len(expected)
    pairs = zip(model.weights, expected)
    return [weight.path for weight, value in pairs if not np.array_equal(weight, value)]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for name, make in MODELS.items():
        model = make()
        model.set_weights([1 + 9 * np.random.random(weight.shape) for weight in model.weights])
        np.savez(folder / f"{name}.npz", *model.get_weights())
        tf.train.Checkpoint(model=model).write(str(folder / name / "checkpoint"))
        model.save_weights(folder / f"{name}.weights.h5")
    module = "tests.conformance.test_checkpoints"
    program = f"from {module} import check_restored; check_restored({str(folder)!r})"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads((folder / "report.json").read_text())


@pytest.mark.full
@pytest.mark.parametrize("way", ["checkpoint", "save_weights"])
def test_every_weight_is_restored_in_a_fresh_process(way, report):
    assert report.keys() == MODELS.keys()
    assert {name: found[way] for name, found in report.items() if found[way]} == {}
