"""Every layer knows its output shape, and works inside of Keras' wrappers and models."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention import layers
from keras_attention.layers import (
    AdditiveScore,
    Attention,
    AttentionPooling,
    BiaffineScore,
    ConcatenationNonLocal,
    ConvolutionalFeedForward,
    CopyHead,
    DirectionalAttention,
    DiSAN,
    DistanceAttention,
    DistanceBlock,
    DistanceSAN,
    DotProductNonLocal,
    EmbeddedGaussianNonLocal,
    FeedForward,
    FixedAttention,
    GatedCausalConv,
    GatedMLPBlock,
    GaussianNonLocal,
    GeneralScore,
    GlimpseNetwork,
    HardAttention,
    HierarchicalAttention,
    IntraDecoderAttention,
    IntraDecoderCell,
    LinearAttention,
    LinearAttentionCell,
    LinearCrossEntropy,
    LocalMonotonicAttention,
    LocalPredictiveAttention,
    LocationScore,
    LSTMNCell,
    MemoryEfficientAttention,
    MixerBlock,
    MultiHeadAttention,
    NTMCell,
    PatchEmbedding,
    PatchMerging,
    PointerHead,
    PositionEmbedding,
    ReinforceLoss,
    RelativeAttention,
    RestrictedAttention,
    SAGANAttention,
    SNAILAttentionBlock,
    SNAILDenseBlock,
    SNAILTCBlock,
    Source2Token,
    SpatialGatingUnit,
    StepPooling,
    StridedAttention,
    StructuredSelfAttention,
    TiedEmbedding,
    TokenSelector,
    TransformerBlock,
    TransformerStack,
    WindowAttention,
)

D = 4


def steps_of(cell):
    return keras.layers.RNN(cell, return_sequences=True)


# One sequence [B, S, D]: what Sequential, TimeDistributed and the like can hold.
OF_ONE = {
    "pooling": lambda: AttentionPooling(3),
    "max": lambda: StepPooling("max"),
    "structured": lambda: StructuredSelfAttention(3, 6),
    "directional": lambda: DirectionalAttention(3),
    "source_to_token": lambda: Source2Token(),
    "disan": lambda: DiSAN(3),
    "distance": lambda: DistanceAttention(2),
    "distance_block": lambda: DistanceBlock(2, 6),
    "distance_san": lambda: DistanceSAN(2, 6),
    "feed_forward": lambda: FeedForward(6),
    "convolutional_feed_forward": lambda: ConvolutionalFeedForward(6),
    "fixed": lambda: FixedAttention(2, 2),
    "convolution": lambda: GatedCausalConv(3, 2),
    "gmlp": lambda: GatedMLPBlock(4, 16),
    "gate": lambda: SpatialGatingUnit(16),
    "intra_decoder": lambda: IntraDecoderAttention(),
    "linear": lambda: LinearAttention(2),
    "memory_efficient": lambda: MemoryEfficientAttention(2, 2),
    "mixer": lambda: MixerBlock(6, 8, length=16),
    "multi_head": lambda: MultiHeadAttention(2, output_width=6),
    "gaussian": lambda: GaussianNonLocal(batch_norm=False),
    "embedded": lambda: EmbeddedGaussianNonLocal(batch_norm=False),
    "dot_product": lambda: DotProductNonLocal(batch_norm=False),
    "concatenation": lambda: ConcatenationNonLocal(batch_norm=False),
    "positions": lambda: PositionEmbedding(),
    "relative": lambda: RelativeAttention(2, 1),
    "restricted": lambda: RestrictedAttention(2, 2),
    "sagan": lambda: SAGANAttention(),
    "snail_dense": lambda: SNAILDenseBlock(3, 2),
    "snail_tc": lambda: SNAILTCBlock(5, 3),
    "snail_attention": lambda: SNAILAttentionBlock(3, 2),
    "strided": lambda: StridedAttention(2, 2),
    "stack": lambda: TransformerStack(1, 2, 6),
    "lstmn": lambda: steps_of(LSTMNCell(6, 3)),
    "look_back": lambda: steps_of(IntraDecoderCell(keras.layers.GRUCell(6), 3)),
    "linear_cell": lambda: steps_of(
        LinearAttentionCell(LinearAttention(2, key_width=2, output_width=6))
    ),
    "ntm": lambda: steps_of(NTMCell(6, keras.layers.GRUCell(3), slots=6, width=3)),
}
# What a query [B, T, D] asks of a memory [B, S, D].
OF_TWO = {
    "attention": lambda: Attention(value_units=3),
    "attention_additive": lambda: Attention(AdditiveScore(), query_units=3, key_units=3),
    "attention_general": lambda: Attention(GeneralScore()),
    "attention_location": lambda: Attention(LocationScore(9)),
    "attention_biaffine": lambda: Attention(BiaffineScore()),
    "hard": lambda: HardAttention(),
    "local_monotonic": lambda: LocalMonotonicAttention(),
    "local_predictive": lambda: LocalPredictiveAttention(),
    "multi_head": lambda: MultiHeadAttention(2),
    "linear": lambda: LinearAttention(2),
    "memory_efficient": lambda: MemoryEfficientAttention(2, 2),
    "pointer": lambda: PointerHead(6),
    "stack": lambda: TransformerStack(1, 2, 6, cross=True),
    "block": lambda: TransformerBlock(2, 6, cross=True),
}


def han():
    return HierarchicalAttention(MultiHeadAttention(2, output_width=6), None, 8)


# The rest: inputs of other kinds, with their sizes by letters.
OTHERS = {
    "hierarchical": (han, "BTSD"),
    "patch_embedding": (lambda: PatchEmbedding(3, 2), ("B", "Y", "X", "D")),
    "patch_merging": (PatchMerging, ("B", "Y", "X", "D")),
    "window": (lambda: WindowAttention(2, 2), ("B", "Y", "X", "D")),
    "glimpse": (lambda: GlimpseNetwork(3, 2, 5, 6), ("B", "Y", "X", "D"), ("B", 2)),
    "linear_cross_entropy": (lambda: LinearCrossEntropy(7), "BSD"),
    "selector": (TokenSelector, "BSD"),
    "tied": (lambda: TiedEmbedding(7, D), "BS"),
    "copy": (lambda: CopyHead(keras.layers.Dense(6), 4), "BTD", "BTS", "BS"),
    "reinforce": (ReinforceLoss, "B", "BT", "BT"),
}
SIZES = {"B": 3, "T": 2, "S": 5, "D": D, "Y": 4, "X": 6}
OTHER_SIZES = {"B": 2, "T": 4, "S": 3, "D": D, "Y": 8, "X": 2}
UNKNOWN = {**dict.fromkeys(SIZES), "D": D}
TABLE = {name: (make, "BSD") for name, make in OF_ONE.items()}
TABLE |= {f"{name}_of_two": (make, "BTD", "BSD") for name, make in OF_TWO.items()}
TABLE |= OTHERS
ELSEWHERE = {
    "TransformerCell": "its state has a time and room for more steps",
    "NonLocal": "what its four instantiations share",
    "Bridge": "takes nested states",
}


def shapes_of(name, sizes):
    return [tuple(sizes.get(axis, axis) for axis in axes) for axes in TABLE[name][1:]]


def told(layer, shapes):
    """The shapes a layer tells, a flat list."""
    shape = layer.compute_output_shape(*shapes)
    return [shape] if shape[0] is None or isinstance(shape[0], int) else flat(shape)


def flat(nest):
    if nest is None:
        return []
    if isinstance(nest, tuple) and all(n is None or isinstance(n, int) for n in nest):
        return [nest]
    return [shape for part in nest for shape in flat(part)]


def given(layer, shapes):
    """The shapes of what a layer really gives, a flat list."""
    ints = type(layer).__name__ in ("TiedEmbedding",)
    xs = [tf.zeros(shape, tf.int32 if ints else tf.float32) for shape in shapes]
    if isinstance(layer, CopyHead):
        xs[2] = tf.zeros(shapes[2], tf.int32)
    outputs = tf.nest.flatten(layer(*xs))
    return [tuple(x.shape) for x in outputs if x is not None]


def parts(layer):
    inner = (getattr(layer, name, None) for name in ("score", "attention", "cell", "word_encoder"))
    return [layer, *layer._flatten_layers(include_self=False), *inner]


def test_every_layer_is_in_the_table():
    here = {type(part).__name__ for make, *_ in TABLE.values() for part in parts(make())}
    public = {name: getattr(layers, name) for name in layers.__all__}
    public = {name for name, thing in public.items() if issubclass(thing, keras.layers.Layer)}
    assert public - here == set(ELSEWHERE)


@pytest.mark.parametrize("name", TABLE)
def test_the_inferred_shape_is_that_of_the_output(name):
    layer = TABLE[name][0]()
    before = random.getstate()
    first = told(layer, shapes_of(name, SIZES))
    assert not layer.built and not layer.weights
    assert random.getstate() == before
    found = [given(layer, shapes_of(name, sizes)) for sizes in (SIZES, OTHER_SIZES)]
    weights = len(layer.weights)
    assert first == told(layer, shapes_of(name, SIZES)) == found[0]
    # What differs between two sizes is unknown, and nothing else.
    unknown = [tuple(a if a == b else None for a, b in zip(*pair)) for pair in zip(*found)]
    assert told(layer, shapes_of(name, UNKNOWN)) == unknown
    assert len(layer.weights) == weights


def test_nested_shapes_named_shapes_and_those_of_a_cell():
    cell = LSTMNCell(6, 3)
    state = tf.nest.map_structure(lambda x: tuple(x.shape), cell.get_initial_state(batch_size=2))
    output, told = cell.compute_output_shape((2, D), state)
    assert output == (2, 6) and type(told) is type(state) and told == state
    bridge = layers.Bridge()
    assert bridge.compute_output_shape([[(None, 3), (None, 3)]], [(None, 6)]) == [(None, 6)]
    attention = layers.MultiHeadAttention(2)
    named = {"query_shape": (2, None, D), "memory_shape": (2, 7, D), "mask_shape": (2, 7)}
    assert attention.compute_output_shape(**named) == (2, None, D)
    assert layers.Residual().compute_output_shape([None, 3, D]) == (None, 3, D)


@pytest.mark.parametrize("name", ["directional", "copy"])
def test_a_layer_takes_numbers_in_nested_lists(name):
    layer, xs = TABLE[name][0](), example(name)
    found = tf.nest.flatten(layer(*[x.tolist() for x in xs]))
    for of_lists, of_arrays in zip(found, tf.nest.flatten(layer(*xs)), strict=True):
        np.testing.assert_allclose(of_lists, of_arrays, atol=1e-6)


def test_a_layer_that_cannot_be_copied_must_be_built():
    layer = Attention(lambda query, keys: tf.matmul(query, keys, transpose_b=True))
    shapes = (2, 3, D), (2, 5, D)
    with pytest.raises(ValueError, match="build or call the layer first"):
        layer.compute_output_shape(*shapes)
    layer.build(*shapes)
    assert layer.compute_output_shape(*shapes) == (2, 3, D)


def test_a_summary_shows_the_shapes_of_built_layers():
    model = keras.Sequential([layers.FeedForward(6), layers.DiSAN(3)])
    model.build((None, 5, D))
    lines = []
    model.summary(print_fn=lambda line, **_: lines.append(line))
    assert "(None, 6)" in "\n".join(lines)


# -- inside of what Keras builds of layers


def some(names, step, first):
    """Each name; every `step`th is run by default."""
    skip = [() if place % step == first else pytest.mark.full for place in range(len(names))]
    return [pytest.param(name, marks=mark) for name, mark in zip(names, skip)]


def draw(*shape):
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def example(name, sizes=SIZES):
    """Arrays for a layer of the table."""
    xs = [draw(*shape) for shape in shapes_of(name, sizes)]
    if name == "tied":
        return [np.arange(xs[0].size).reshape(xs[0].shape) % 7]
    if name == "copy":
        xs[2] = np.arange(xs[2].size).reshape(xs[2].shape) % 5
    return xs


def functional(name):
    """(layer, model): the layer between inputs of unknown sizes."""
    layer, xs = TABLE[name][0](), example(name)
    unknown = shapes_of(name, UNKNOWN)
    inputs = [keras.Input(u[1:], dtype=str(x.dtype)) for u, x in zip(unknown, xs)]
    return layer, keras.Model(inputs, tf.nest.flatten(layer(*inputs))[0])


def first(outputs):
    return np.asarray(tf.nest.flatten(outputs)[0])


@pytest.mark.parametrize("name", some(TABLE, 8, 0))
def test_a_functional_model_of_unknown_sizes_gives_the_result_of_the_layer(name):
    layer, model = functional(name)
    for sizes in (SIZES, OTHER_SIZES):
        xs = example(name, sizes)
        np.testing.assert_allclose(model(xs), first(layer(*xs)), atol=1e-5)


@pytest.mark.parametrize("name", some(TABLE, 8, 1))
def test_a_cloned_model_has_weights_of_its_own_and_gives_the_same(name):
    _, model = functional(name)
    clone = keras.models.clone_model(model)
    assert not {id(w) for w in clone.weights} & {id(w) for w in model.weights}
    clone.set_weights(model.get_weights())
    xs = example(name)
    np.testing.assert_allclose(clone(xs), model(xs), atol=1e-5)


@pytest.mark.parametrize("name", some(TABLE, 20, 2))
def test_an_exported_model_gives_the_same_for_other_sizes(name, tmp_path):
    _, model = functional(name)
    model.export(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    xs = example(name, OTHER_SIZES)
    np.testing.assert_allclose(loaded.serve(xs), model(xs), atol=1e-5)


@pytest.mark.parametrize("name", some(OF_ONE, 8, 3))
def test_a_sequential_model_is_built_by_its_first_call(name):
    model = keras.Sequential([OF_ONE[name]()])
    x = draw(3, 5, D)
    found = model(x)
    assert model.compute_output_shape((3, 5, D)) == found.shape
    np.testing.assert_allclose(found, first(model.layers[0](x)), atol=1e-5)


@pytest.mark.parametrize("name", some(OF_ONE, 12, 1))
@pytest.mark.parametrize("steps", [2, None])
def test_time_distributed_gives_the_result_of_the_layer_of_each_step(name, steps):
    layer = OF_ONE[name]()
    inputs = keras.Input([steps, None, D])
    model = keras.Model(inputs, keras.layers.TimeDistributed(layer)(inputs))
    x = draw(3, 2, 5, D)
    expected = np.stack([first(layer(x[:, step])) for step in range(2)], 1)
    np.testing.assert_allclose(model(x), expected, atol=1e-5)
