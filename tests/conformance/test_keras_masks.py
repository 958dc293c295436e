"""The mask of an embedding goes through every layer: honoured, and handed on as it came."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import models
from keras_attention.layers import (
    Attention,
    AttentionPooling,
    DirectionalAttention,
    DistanceAttention,
    DistanceBlock,
    DotProductNonLocal,
    EmbeddedGaussianNonLocal,
    FeedForward,
    FixedAttention,
    GatedCausalConv,
    GatedMLPBlock,
    HardAttention,
    IntraDecoderAttention,
    IntraDecoderCell,
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
    RelativeAttention,
    RestrictedAttention,
    SAGANAttention,
    SNAILAttentionBlock,
    SNAILTCBlock,
    SpatialGatingUnit,
    StridedAttention,
    TransformerBlock,
    TransformerStack,
)
from keras_attention.seq2seq import AttentionRNN, AttentionWrapper, LuongAttention
from tests.sampled import full

WIDTH = 8
IDS = np.array([[1, 2, 3, 0, 0], [4, 5, 1, 2, 3], [1, 0, 0, 0, 0]])


def steps_of(cell):
    return keras.layers.RNN(cell, return_sequences=True)


ALONE = {
    "multi_head": lambda: MultiHeadAttention(2),
    "memory_efficient": lambda: MemoryEfficientAttention(2, chunk=2),
    "linear": lambda: LinearAttention(2),
    "relative": lambda: RelativeAttention(2, reach=2),
    "distance": lambda: DistanceAttention(2),
    "distance_block": lambda: DistanceBlock(2, 6),
    "restricted": lambda: RestrictedAttention(2, radius=2),
    "strided": lambda: StridedAttention(2, stride=2),
    "fixed": lambda: FixedAttention(2, stride=2),
    "directional": lambda: DirectionalAttention(WIDTH),
    "intra_decoder": lambda: IntraDecoderAttention(),
    "mixer": lambda: MixerBlock(3, 4),
    "gmlp": lambda: GatedMLPBlock(4),
    "gate": lambda: SpatialGatingUnit(),
    "convolution": lambda: GatedCausalConv(4),
    "snail_tc": lambda: SNAILTCBlock(5, 3),
    "snail_attention": lambda: SNAILAttentionBlock(2, 3),
    "non_local": lambda: EmbeddedGaussianNonLocal(batch_norm=False),
    "non_local_dot": lambda: DotProductNonLocal(batch_norm=False),
    "sagan": lambda: SAGANAttention(),
    "feed_forward": lambda: FeedForward(4),
    "positions": lambda: PositionEmbedding(),
    "block": lambda: TransformerBlock(2, 8),
    "stack": lambda: TransformerStack(1, 2, 8),
    "lstmn": lambda: steps_of(LSTMNCell(4, 3)),
    "look_back": lambda: steps_of(IntraDecoderCell(keras.layers.GRUCell(4), 3)),
    "linear_cell": lambda: steps_of(LinearAttentionCell(LinearAttention(2, key_width=2))),
    "ntm": lambda: steps_of(NTMCell(4, keras.layers.GRUCell(4), slots=6, width=3)),
}
BESIDE = {
    "attention": Attention,
    "local_monotonic": LocalMonotonicAttention,
    "local_predictive": LocalPredictiveAttention,
    "hard": HardAttention,
    "pointer": lambda: PointerHead(3),
    "multi_head": lambda: MultiHeadAttention(2),
    "memory_efficient": lambda: MemoryEfficientAttention(2, chunk=2),
    "linear": lambda: LinearAttention(2),
    "block": lambda: TransformerBlock(2, 8, cross=True),
    "stack": lambda: TransformerStack(1, 2, 8, cross=True),
}
OF_PAIRS = ("multi_head", "memory_efficient", "distance", "distance_block", "block", "stack")


class Shown(keras.layers.Layer):
    """The mask that arrived."""

    def call(self, x, mask=None):
        return tf.zeros_like(x[..., 0]) if mask is None else tf.cast(mask, tf.float32)


def first(outputs):
    return outputs[0] if isinstance(outputs, (tuple, list)) else outputs


def draw(model):
    """Weights of which none is 0, for gates that begin closed."""
    rng = np.random.default_rng(1)
    model.set_weights([0.5 * rng.normal(size=weight.shape) for weight in model.get_weights()])


def move_padding(embedding):
    """Something else where nothing is."""
    rows = embedding.get_weights()[0]
    rows[0] = 30.0
    embedding.set_weights([rows])


OF_KERAS = ("lstmn", "look_back", "linear_cell", "ntm")  # cells in an RNN of Keras


def through_rows():
    """One of each three by default."""
    names = sorted({*ALONE} - {"block"})  # which gives a None, too
    return [name if place % 3 == 0 else full(name)[0] for place, name in enumerate(names)]


@pytest.mark.parametrize("name", through_rows())
def test_a_mask_goes_through_three_layers(name):
    inputs = keras.Input([IDS.shape[1]], dtype="int32")
    embedding = keras.layers.Embedding(6, WIDTH, mask_zero=True)
    x = embedding(inputs)
    handed = {"mask": embedding.compute_mask(inputs)} if name in OF_KERAS else {}
    for _ in range(3):
        x = first(ALONE[name]()(x, **handed))
    model = keras.Model(inputs, [x, Shown()(x, **handed)])
    draw(model)
    expected, mask = model(IDS)
    np.testing.assert_array_equal(mask, IDS != 0)
    move_padding(embedding)
    found = model(IDS)[0].numpy()[IDS != 0]
    np.testing.assert_allclose(found, expected.numpy()[IDS != 0], atol=1e-5)


@pytest.mark.parametrize("name", BESIDE)
def test_padding_of_a_memory_is_not_attended_to_and_the_mask_of_the_query_continues(name):
    inputs = [keras.Input([None], dtype="int32") for _ in range(2)]
    queries, slots = (keras.layers.Embedding(6, WIDTH, mask_zero=True) for _ in range(2))
    x = first(BESIDE[name]()(queries(inputs[0]), memory=slots(inputs[1])))
    model = keras.Model(inputs, [keras.ops.softmax(x) if name == "pointer" else x, Shown()(x)])
    draw(model)
    ids = [IDS[:, :2], IDS]
    expected, mask = model(ids)
    np.testing.assert_array_equal(mask, ids[0] != 0)
    move_padding(slots)
    np.testing.assert_allclose(model(ids)[0], expected, atol=1e-5)


@pytest.mark.parametrize("name", OF_PAIRS)
def test_a_mask_of_pairs_is_no_mask_of_steps(name):
    x, pairs = tf.ones([3, 5, WIDTH]), tf.ones([3, 5, 5], tf.bool)
    output = first(ALONE[name]()(x, mask=pairs))
    assert getattr(output, "_keras_mask", None) is None


@pytest.mark.parametrize("name", ["multi_head", "memory_efficient", "linear"])
def test_an_explicit_mask_of_the_memory_wins_and_stays_with_the_memory(name):
    query = keras.layers.Embedding(6, WIDTH, mask_zero=True)(IDS[:, :2])
    memory = keras.layers.Embedding(6, WIDTH, mask_zero=True)(IDS)
    layer = BESIDE[name]()
    everything = tf.ones(IDS.shape, tf.bool)
    output = layer(query, memory=memory, mask=everything)
    np.testing.assert_array_equal(output._keras_mask, IDS[:, :2] != 0)
    bare = layer(tf.identity(query), memory=tf.identity(memory))
    np.testing.assert_allclose(output, bare, atol=1e-6)
    assert np.abs(output - layer(query, memory=memory)).max() > 1e-4


# -- behind a Keras RNN, which drops masks from Keras 3.16 on


def recurrent(drops=None):
    """A Keras RNN as it is, or as one that is sure to drop masks, or to forward them."""
    layer = keras.layers.Bidirectional(keras.layers.GRU(3, return_sequences=True))
    if drops is not None:
        layer.supports_masking = layer.forward_layer.supports_masking = not drops
        layer.backward_layer.supports_masking = not drops
    return layer


@pytest.mark.parametrize("make", [AttentionPooling, TransformerStack])
def test_a_mask_that_is_passed_to_both_layers_hides_padding(make):
    pool = AttentionPooling(3) if make is AttentionPooling else TransformerStack(1, 2, 4)
    ids = keras.Input([None], dtype="int32")
    embedding = keras.layers.Embedding(6, WIDTH, mask_zero=True)
    mask = embedding.compute_mask(ids)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The layer .* attends to padding")
        encoded = recurrent()(embedding(ids), mask=mask)
        model = keras.Model(ids, pool(encoded, mask=mask))
    rows = [model(IDS[:1, :3]), model(IDS[:1])[:, :3] if pool.name[0] == "t" else model(IDS[:1])]
    np.testing.assert_allclose(*rows, atol=1e-6)


LOST = {
    "alone": lambda x, q, m: AttentionPooling(3)(x, **({} if m is None else {"mask": m})),
    "beside": lambda x, q, m: Attention(query_units=6)(q, x, memory_mask=m),
    "pairs": lambda x, q, m: Attention(query_units=6)(q, x, mask=tf.ones([1, 5, 5]), memory_mask=m),
    "heads": lambda x, q, m: MultiHeadAttention(2)(q, memory=x, mask=m),
    "rnn": lambda x, q, m: rnn_of_attention()(q, memory=x, memory_mask=m),
}


def rnn_of_attention():
    cell = AttentionWrapper(keras.layers.GRUCell(4), LuongAttention(4), 4)
    return AttentionRNN(cell, return_sequences=True)


@pytest.mark.parametrize("name", LOST)
@pytest.mark.parametrize("later", [False, True], ids=["behind", "later"])
def test_a_mask_that_is_lost_is_warned_of_and_nothing_else(name, later):
    between = keras.layers.Dropout(0.1) if later else None
    ids = keras.Input([5], dtype="int32")
    embedding = keras.layers.Embedding(6, WIDTH, mask_zero=True)
    masked, bare = embedding(ids), keras.Input([5, WIDTH])

    def call(x, mask=None):
        x = x if between is None else between(x)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            LOST[name](x, bare, mask)
        return [str(w.message) for w in caught if "attends to padding" in str(w.message)]

    (told,) = call(recurrent(drops=True)(masked))
    assert "bidirectional" in told and "embedding.compute_mask(ids)" in told
    twice = recurrent(drops=True)(recurrent(drops=True)(masked))
    assert len(call(twice)) == 1
    passed = recurrent(drops=True)(bare, mask=embedding.compute_mask(ids))
    assert len(call(passed)) == 1
    assert not call(recurrent(drops=True)(masked), embedding.compute_mask(ids))
    assert not call(recurrent(drops=True)(bare))
    assert not call(recurrent(drops=False)(masked))


def test_attention_rnn_forwards_the_mask_of_its_steps():
    ids = keras.Input([5], dtype="int32")
    x = keras.layers.Embedding(6, WIDTH, mask_zero=True)(ids)
    model = keras.Model(ids, Shown()(rnn_of_attention()(x, memory=x)))
    np.testing.assert_array_equal(model(IDS), IDS != 0)


def test_the_encoder_of_a_recurrent_model_passes_the_mask_on():
    model = models.RNNSeq2Seq(vocab_size=6, units=3)
    target = np.array([[1, 3]])
    padded, bare = (model((source, target)) for source in (IDS[:1], IDS[:1, :3]))
    np.testing.assert_allclose(padded, bare, atol=1e-6)
