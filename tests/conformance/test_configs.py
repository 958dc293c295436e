"""`from_config` leaves the configuration as it is: two things can be made from one."""

import copy
import inspect

import keras
import pytest

import models
from keras_attention import layers, seq2seq, training
from keras_attention.layers import (
    Attention,
    CopyHead,
    DistanceAttention,
    FixedAttention,
    GeneralScore,
    HardAttention,
    HierarchicalAttention,
    IntraDecoderCell,
    LinearAttention,
    LinearAttentionCell,
    LinearCrossEntropy,
    LocalMonotonicAttention,
    LocalPredictiveAttention,
    LSTMNCell,
    MemoryEfficientAttention,
    MultiHeadAttention,
    NTMCell,
    RelativeAttention,
    RestrictedAttention,
    StridedAttention,
    TiedEmbedding,
    TransformerBlock,
    TransformerCell,
    TransformerStack,
)
from keras_attention.seq2seq import (
    AttentionRNN,
    AttentionWrapper,
    BahdanauAttention,
    BahdanauMonotonicAttention,
    BasicDecoder,
    BeamSearchDecoder,
    GreedyEmbeddingSampler,
    LuongAttention,
    LuongMonotonicAttention,
    SampleEmbeddingSampler,
    ScheduledEmbeddingTrainingSampler,
    ScheduledOutputTrainingSampler,
    SequenceLoss,
    TrainingSampler,
)
from keras_attention.training import AccumulateGradients, ClipByGlobalNorm, WithAlignments
from models import RelativeTransformer, RNNSeq2Seq, Transformer, TransformerLM, TransformerTagger

SMALL = {"layers": 1, "width": 4, "heads": 2, "ff_width": 4}


def cells():
    """Keras empties the configuration of a stack."""
    return keras.layers.StackedRNNCells([keras.layers.GRUCell(4)])


def wrapper():
    attend = [keras.layers.Dense(4)]
    return AttentionWrapper(cells(), [BahdanauAttention(4)], attention_layer=attend)


def rate():
    return keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.5)


# Each thing that is made from the configurations of its parts, and the configurations it keeps.
MADE = {
    Attention: lambda: Attention(layers.AdditiveScore(3)),
    CopyHead: lambda: CopyHead(keras.layers.TimeDistributed(keras.layers.Dense(3)), 3),
    HardAttention: HardAttention,
    HierarchicalAttention: lambda: HierarchicalAttention(
        keras.layers.TimeDistributed(keras.layers.Dense(3)), keras.layers.RNN(cells()), 3
    ),
    IntraDecoderCell: lambda: IntraDecoderCell(cells(), 3),
    LSTMNCell: lambda: LSTMNCell(3, 2),
    LinearAttentionCell: lambda: LinearAttentionCell(
        LinearAttention(2, key_width=2, output_width=4)
    ),
    LocalMonotonicAttention: LocalMonotonicAttention,
    LocalPredictiveAttention: LocalPredictiveAttention,
    NTMCell: lambda: NTMCell(3, cells(), slots=3, width=2),
    MultiHeadAttention: lambda: MultiHeadAttention(2, core=layers.cores.Banded(2)),
    DistanceAttention: lambda: DistanceAttention(2),
    FixedAttention: lambda: FixedAttention(2, 3),
    LinearAttention: lambda: LinearAttention(2),
    LinearCrossEntropy: lambda: LinearCrossEntropy(tied_to=TiedEmbedding(5, 3)),
    MemoryEfficientAttention: lambda: MemoryEfficientAttention(2),
    RelativeAttention: lambda: RelativeAttention(2, 3),
    RestrictedAttention: lambda: RestrictedAttention(2, 3),
    StridedAttention: lambda: StridedAttention(2, 3),
    TransformerBlock: lambda: TransformerBlock(2, 4, self_attention=MultiHeadAttention(2)),
    TransformerCell: lambda: TransformerCell(TransformerStack(1, 2, 4, causal=True)),
    TransformerStack: lambda: TransformerStack(1, 2, 4, self_attention=MultiHeadAttention(2)),
    AttentionRNN: lambda: AttentionRNN(wrapper()),
    AttentionWrapper: wrapper,
    BahdanauAttention: lambda: BahdanauAttention(4),
    BahdanauMonotonicAttention: lambda: BahdanauMonotonicAttention(4),
    LuongAttention: lambda: LuongAttention(4),
    LuongMonotonicAttention: lambda: LuongMonotonicAttention(4),
    BasicDecoder: lambda: BasicDecoder(cells(), TrainingSampler(), keras.layers.Dense(3)),
    BeamSearchDecoder: lambda: BeamSearchDecoder(
        cells(), 2, keras.layers.Embedding(3, 3), strategy=seq2seq.sample()
    ),
    GreedyEmbeddingSampler: lambda: GreedyEmbeddingSampler(keras.layers.Embedding(3, 3)),
    SampleEmbeddingSampler: lambda: SampleEmbeddingSampler(keras.layers.Embedding(3, 3)),
    ScheduledEmbeddingTrainingSampler: lambda: ScheduledEmbeddingTrainingSampler(
        0.5, embedding_fn=keras.layers.Embedding(3, 3)
    ),
    ScheduledOutputTrainingSampler: lambda: ScheduledOutputTrainingSampler(
        0.5, next_inputs_fn=keras.layers.Dense(3)
    ),
    RNNSeq2Seq: lambda: RNNSeq2Seq(9, units=4, attention=Attention(GeneralScore())),
    SequenceLoss: SequenceLoss,
    TrainingSampler: TrainingSampler,
    AccumulateGradients: lambda: AccumulateGradients(keras.optimizers.SGD(rate()), 3),
    ClipByGlobalNorm: lambda: ClipByGlobalNorm(keras.optimizers.SGD(rate()), 1.0),
    WithAlignments: lambda: WithAlignments(Transformer(9, **SMALL)),
    RelativeTransformer: lambda: RelativeTransformer(9, **SMALL),
    Transformer: lambda: Transformer(9, **SMALL, self_attention=MultiHeadAttention(2)),
    TransformerLM: lambda: TransformerLM(9, **SMALL, self_attention=MultiHeadAttention(2)),
    TransformerTagger: lambda: TransformerTagger(9, 3, **SMALL),
}
WITHOUT = {
    "AttentionMechanism": "says no score",
    "Sampler": "abstract",
    "CustomSampler": "holds functions of the caller",
    "InferenceSampler": "holds functions of the caller",
}


def test_everything_with_a_from_config_of_its_own_is_in_the_table():
    public = {
        name: getattr(package, name)
        for package in (layers, seq2seq, training, models)
        for name in package.__all__
    }
    own = {
        name
        for name, thing in public.items()
        if inspect.isclass(thing) and hasattr(thing, "from_config")
        if thing.from_config.__func__.__module__.startswith(("keras_attention", "models"))
    }
    assert own == {kind.__name__ for kind in MADE} | set(WITHOUT)


@pytest.mark.parametrize("kind", MADE, ids=lambda kind: kind.__name__)
def test_from_config_leaves_its_argument_as_it_is(kind):
    config = MADE[kind]().get_config()
    before = copy.deepcopy(config)
    first = kind.from_config(config)
    assert config == before
    second = kind.from_config(config)
    assert first is not second and first.get_config() == second.get_config()
