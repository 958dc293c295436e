"""Invalid shapes are reported in the letters of the docs, before any computation."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.layers import (
    Attention,
    AttentionPooling,
    BiaffineScore,
    CopyHead,
    DirectionalAttention,
    DistanceAttention,
    FixedAttention,
    GatedCausalConv,
    GatedMLPBlock,
    GaussianNonLocal,
    GlimpseNetwork,
    HardAttention,
    HierarchicalAttention,
    IntraDecoderAttention,
    LinearAttention,
    LinearAttentionCell,
    LocalMonotonicAttention,
    LocalPredictiveAttention,
    LSTMNCell,
    MemoryEfficientAttention,
    MixerBlock,
    MultiHeadAttention,
    NTMCell,
    PointerHead,
    PositionEmbedding,
    ReinforceLoss,
    RelativeAttention,
    Residual,
    RestrictedAttention,
    SAGANAttention,
    SNAILAttentionBlock,
    Source2Token,
    StridedAttention,
    StructuredSelfAttention,
    TokenSelector,
    TransformerBlock,
    WindowAttention,
)


@pytest.mark.parametrize(
    "layer",
    [
        DirectionalAttention(3),
        Source2Token(),
        StructuredSelfAttention(2, 3),
        IntraDecoderAttention(),
    ],
    ids=lambda layer: layer.name,
)
def test_a_sequence_has_three_axes(layer):
    with pytest.raises(ValueError, match=r"must be \[B, [ST], D'?\]. Received.*shape \(2, 4\)"):
        layer(np.ones((2, 4)))


def test_a_memory_belongs_to_the_batch_of_its_query():
    with pytest.raises(ValueError, match=r"memory must be.*with B = 2, as in query.*\(3, 5, 4\)"):
        PointerHead(3)(np.ones((2, 1, 4)), np.ones((3, 5, 4)))


def test_there_is_one_id_for_every_slot_of_the_attention():
    head = CopyHead(keras.layers.Dense(7))
    with pytest.raises(ValueError, match=r"source_ids must be .*with S = 5, as in attention"):
        head(np.ones((2, 1, 4)), np.ones((2, 1, 5)), np.ones((2, 6), int))


@pytest.mark.parametrize(
    "make", [lambda: LSTMNCell(3, 4), lambda: NTMCell(3, keras.layers.GRUCell(4))]
)
def test_the_width_of_a_step_must_be_known(make):
    cell = make()
    with pytest.raises(ValueError, match=r"inputs must be \[N, D'?\] with a known D"):
        cell.build((None, None))


HEADS = {
    "full": lambda heads: MultiHeadAttention(heads),
    "efficient": lambda heads: MemoryEfficientAttention(heads),
    "linear": lambda heads: LinearAttention(heads),
    "relative": lambda heads: RelativeAttention(heads, 2),
    "distance": lambda heads: DistanceAttention(heads),
    "restricted": lambda heads: RestrictedAttention(heads, 2),
    "strided": lambda heads: StridedAttention(heads, 2),
    "fixed": lambda heads: FixedAttention(heads, 2),
}


@pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)
def test_heads_name_the_axis_that_does_not_fit(make):
    x = np.ones((2, 5, 4), "float32")
    with pytest.raises(ValueError, match=r"at least 1. Received: num_heads=0"):
        make(0)
    with pytest.raises(ValueError, match=r"must divide the width D.*Received: H=3, D=4"):
        make(3)(x)
    with pytest.raises(ValueError, match=r"query must be \[B, T, D\]. Received.*\(2, 4\)"):
        make(2)(x[:, 0])
    with pytest.raises(ValueError, match=r"query must be \[B, T, D\]. Received.*\(2, 5, 1, 4\)"):
        make(2)(x[:, :, None])
    with pytest.raises(ValueError, match=r"mask must be .* with T = 5, as in query.*\(2, 3\)"):
        make(2)(x, mask=tf.ones([2, 3], tf.bool))


@pytest.mark.parametrize("name", ["full", "efficient", "linear"])
def test_a_memory_of_heads_has_the_batch_of_its_query(name):
    with pytest.raises(ValueError, match=r"memory must be \[B, S, D'\] with B = 2, as in query"):
        HEADS[name](2)(np.ones((2, 5, 4)), memory=np.ones((3, 5, 4)))


def ones(*shape):
    return tf.ones(shape)


def mask(*shape):
    return tf.ones(shape, tf.bool)


def longer_than_at_first(layer):
    layer(ones(2, 3, 4))
    return layer(ones(2, 5, 4))


ATTENTION = {
    "dot": Attention,
    "local_monotonic": LocalMonotonicAttention,
    "local_predictive": LocalPredictiveAttention,
    "hard": HardAttention,
}


@pytest.mark.parametrize("make", ATTENTION.values(), ids=ATTENTION)
def test_an_attention_names_the_axis_that_does_not_fit(make):
    query, memory = ones(2, 3, 4), ones(2, 5, 4)
    for inputs, more, message in (
        ((query[0], memory), {}, r"query must be \[B, T, D\]. Received.*\(3, 4\)"),
        ((query, memory[0]), {}, r"memory must be \[B, S, D\]. Received.*\(5, 4\)"),
        ((query, ones(3, 5, 4)), {}, r"memory must be .* with B = 2, as in query"),
        ((query, memory), {"memory_mask": mask(2, 4)}, r"memory_mask must be .* with S = 5"),
        ((query, memory), {"mask": mask(2, 2, 5)}, r"mask must be .* with T = 3, as in query"),
    ):
        with pytest.raises(ValueError, match=message):
            make()(*inputs, **more)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: Attention(BiaffineScore(3))(ones(2, 3, 4), ones(2, 5, 4)),
            r"score must be \[B, T",
        ),
        (
            lambda: Residual()(ones(2, 3, 4), sublayer=lambda x: x[..., :2]),
            r"have the same shape.*, 2\)",
        ),
        (
            lambda: MultiHeadAttention(2)(ones(2, 3, 4), bias=ones(3, 4)),
            r"bias must broadcast to \[B, H, T, S\].*\(3, 4\) for \(2, 2, 3, 3\)",
        ),
        (
            lambda: MultiHeadAttention(2)(ones(2, 3, 4), bias=lambda q: ones(4, 2, 3, 3)),
            r"bias must broadcast.*\(4, 2, 3, 3\) for \(2, 2, 3, 3\)",
        ),
        (lambda: HardAttention("dot"), r"layers.Attention, such as .*Received: attention='dot'"),
        (lambda: LinearAttentionCell(3), r"must be a LinearAttention, .* Received: attention=3"),
        (lambda: AttentionPooling(3)(ones(2, 3, 4), mask=mask(2, 4)), r"mask must .* with S = 3"),
        (lambda: Source2Token()(ones(2, 3, 4), mask=mask(2, 4)), r"mask must be .* with S = 3"),
        (lambda: TokenSelector()(ones(2, 4)), r"inputs must be \[B, S, D\]"),
        (lambda: GatedCausalConv(3)(ones(2, 4)), r"x must be \[B, T, D\]"),
        (lambda: SNAILAttentionBlock(2, 3)(ones(2, 4)), r"x must be \[B, T, D\]"),
        (lambda: longer_than_at_first(MixerBlock(3, 4)), r"S must be at most.*S=5, length=3"),
        (lambda: longer_than_at_first(GatedMLPBlock(4)), r"S must be at most.*S=5, length=3"),
        (lambda: GatedMLPBlock(4)(ones(2, 4)), r"x must be \[B, S, D\]"),
        (lambda: GaussianNonLocal()(ones(2, 3, 4), mask=mask(2, 4)), r"mask must .* with S = 3"),
        (lambda: SAGANAttention()(ones(2, 3, 3, 4), mask=mask(2, 3, 2)), r"mask .* with X = 3"),
        (lambda: WindowAttention(2, 5)(ones(2, 4, 4, 4)), r"window has 5 positions along Y.*Y=4"),
        (lambda: WindowAttention(2, 2.5), r"whole and at least 1. Received.*window=2.5"),
        (lambda: WindowAttention(2, 2)(ones(2, 4, 6, 4), mask=mask(2, 4, 5)), r"with X = 6"),
        (lambda: GlimpseNetwork(2)(ones(2, 4, 4, 1), ones(3, 2)), r"location .* with B = 2"),
        (lambda: ReinforceLoss()(ones(2), ones(3, 4), ones(3, 4)), r"log_prob .* with B = 2"),
        (lambda: PointerHead(3)(ones(2, 3, 4), ones(2, 5, 4), taken=mask(2, 4)), r"taken .* S = 5"),
        (lambda: PositionEmbedding()(ones(2, 4)), r"x must be \[B, T, D\]"),
        (lambda: PositionEmbedding(layout="x"), r"Received: layout='x'"),
        (lambda: TransformerBlock(2, 8)(ones(2, 4)), r"query must be \[B, T, D\]"),
        (lambda: NTMCell(3, keras.layers.GRUCell(3), clip=0), r"Received: clip=0"),
        (lambda: HierarchicalAttention("gru", None), r"must be a layer, or None. Received: 'gru'"),
        (
            lambda: HierarchicalAttention(keras.layers.GRU(3), None, 3)(ones(2, 3, 4, 5)),
            r"must be \[N, S, D\]. Received.*\(None, 3\)",
        ),
    ],
)
def test_wrong_shapes_are_named_in_the_letters_of_the_docs(call, message):
    with pytest.raises(ValueError, match=message):
        call()
