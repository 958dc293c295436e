"""Requirements for every layer, checked for one table: a new layer adds one row."""

import functools
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention import layers
from keras_attention.functional import (
    attend,
    causal,
    cosine,
    dot,
    entmax15,
    monotonic_recursive,
    scaled_dot,
    softmax,
    sparsemax,
    temporal_softmax,
)
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
    HardAttention,
    HierarchicalAttention,
    IntraDecoderAttention,
    IntraDecoderCell,
    LinearAttention,
    LinearAttentionCell,
    LocalMonotonicAttention,
    LocalPredictiveAttention,
    LocationScore,
    LSTMNCell,
    MemoryEfficientAttention,
    MixerBlock,
    MultiHeadAttention,
    NTMCell,
    PointerHead,
    ReinforceLoss,
    RelativeAttention,
    Residual,
    RestrictedAttention,
    SAGANAttention,
    SNAILAttentionBlock,
    SNAILTCBlock,
    StepPooling,
    StridedAttention,
    StructuredSelfAttention,
    TokenSelector,
    TransformerCell,
    TransformerStack,
    WindowAttention,
)
from keras_attention.seq2seq import (
    AttentionRNN,
    AttentionWrapper,
    BahdanauAttention,
    BahdanauMonotonicAttention,
    BasicDecoder,
    LuongAttention,
    LuongMonotonicAttention,
    TrainingSampler,
)
from tests.sampled import full

ROOT = pathlib.Path(__file__).parents[2]
WIDTH = 4


class Row(NamedTuple):
    """How to make a layer, and how to let queries look at values with it.

    `apply(layer, query [B, T, 4], values [B, S, 4], mask [B, S] bool, True = may look)` gives a
    tensor [B, T, ...]. A layer that looks at itself takes `values` and leaves `query` alone; its
    output [B, S, ...] is compared where the mask is True.
    """

    make: Callable[[Any], keras.layers.Layer]  # dtype policy -> layer
    apply: Callable


def ask(mechanism, query, values, mask):
    """T queries at once: they share the memory of their source, like hypotheses."""
    memory = mechanism.prepare_memory(values, memory_mask=mask)
    batch, steps = tf.unstack(tf.shape(query)[:2])
    flat = tf.reshape(query, [-1, query.shape[-1]])
    state = mechanism.initial_state(tf.shape(flat)[0], mechanism.compute_dtype, memory)
    alignments, _ = mechanism([flat, state], memory=memory, beam_width=steps)
    context = mechanism.read(alignments, memory, steps)
    return tf.reshape(context, [batch, steps, context.shape[-1]])


def decode(cell, query, values, mask):
    """T steps of a cell that attends."""
    memory = cell.prepare_memory(values, memory_mask=mask)
    state = cell.get_initial_state(batch_size=tf.shape(values)[0], memory=memory)
    decoder = BasicDecoder(cell, TrainingSampler(), maximum_iterations=query.shape[1])
    return decoder(query, initial_state=state, memory=memory)[0].rnn_output


def wrapper(mechanism, dtype):
    cell = keras.layers.GRUCell(WIDTH, dtype=dtype)
    return AttentionWrapper(cell, mechanism(WIDTH, dtype=dtype), WIDTH, dtype=dtype)


def rnn(mechanism, dtype):
    return AttentionRNN(wrapper(mechanism, dtype), return_sequences=True, dtype=dtype)


def run(layer, query, values, mask):
    """T steps of an RNN."""
    return layer(query, memory=values, memory_mask=mask)


def mix(layer, query, values, mask):
    """All places of one sequence look at each other."""
    return layer(values, mask=mask)


def mix_image(layer, query, values, mask):
    """An image of one column."""
    return layer(values[:, :, None], mask=mask[:, :, None])[:, :, 0]


def pool(layer, query, values, mask):
    """All that one sequence comes to, as its one step."""
    return layer(values, mask=mask)[:, None]


def pool_words(layer, query, values, mask):
    """A document whose sentences have one word each."""
    return layer(values[:, :, None], mask=mask[:, :, None])[:, None]


def look(layer, query, values, mask):
    return layer(query, values, memory_mask=mask)


def look_back(layer, query, values, mask):
    """Of a sequence at itself, and not ahead."""
    return layer(values, values, mask=causal(tf.shape(values)[1]), memory_mask=mask)


def score(layer, query, values, mask):
    return attend(layer(query, values), values, mask[:, None])[0]


def select(layer, query, values, mask):
    selection = layer(values, mask=mask)
    return tf.cast(selection.probability * selection.log_prob[:, None], layer.compute_dtype)


def weigh_loss(layer, query, values, mask):
    """Whatever the reward, which has no gradient in the part that teaches."""
    log_prob = tf.reduce_sum(tf.where(mask[..., None], values, 0.0), -1)
    reward = tf.ones_like(log_prob[:, 0])
    return tf.cast(layer(reward, log_prob, log_prob**2)[:, None], layer.compute_dtype)


def bahdanau(dtype, **settings):
    score = AdditiveScore(use_bias=True, dtype=dtype)
    return Attention(score, query_units=3, key_units=3, dtype=dtype, **settings)


def point(layer, query, values, mask):
    """What is pointed at."""
    logits = layer(query, values, memory_mask=mask)
    return attend(logits, values, mask[:, None])[0]


def copy(layer, query, values, mask):
    """Sources of different words, some of them twice."""
    attention = softmax(dot(query, values), mask[:, None])
    ids = tf.range(tf.shape(values)[1]) % 4 + tf.range(tf.shape(values)[0])[:, None]
    return tf.cast(layer(query, attention, ids)[0], values.dtype)


def steps_of(cell, dtype):
    return keras.layers.RNN(cell(dtype), return_sequences=True, dtype=dtype)


def mix_causal(layer, query, values, mask):
    """No place looks at what comes later."""
    return layer(values, mask=mask, causal=True)


def look_heads(layer, query, values, mask):
    return layer(query, values, mask=mask)


def decode_all(layer, query, values, mask):
    """A decoder and its memory."""
    return layer(query, memory=values, memory_mask=mask)


def stack(dtype, **settings):
    return TransformerStack(1, 2, 6, positions="learned", max_length=16, dtype=dtype, **settings)


def transformer_cell(dtype):
    return TransformerCell(stack(dtype, causal=True, cross=True))


def decode_cached(cell, query, values, mask):
    """A decoder and its memory, step by step."""
    cell.stack.built or cell.build((None, WIDTH))
    memory = cell.prepare_memory(values, memory_mask=mask)
    steps = tf.shape(query)[1] if query.shape[1] is None else query.shape[1]
    state = cell.get_initial_state(tf.shape(values)[0], steps, memory=memory)
    decoder = BasicDecoder(cell, TrainingSampler(), maximum_iterations=query.shape[1])
    return decoder(query, initial_state=state, memory=memory)[0].rnn_output


def around(layer, query, values, mask):
    """A sublayer that is no layer."""
    return layer(values, sublayer=tf.tanh)


def mix_alone(layer, query, values, mask):
    """Each place by itself, whatever the mask."""
    return layer(values)


def linear_cell(dtype):
    return LinearAttentionCell(LinearAttention(2, key_width=3, dtype=dtype))


def ntm(dtype):
    return NTMCell(WIDTH, keras.layers.GRUCell(3, dtype=dtype), 6, 3, 2, 2, dtype=dtype)


def han(dtype):
    encoder = keras.layers.GRU(3, return_sequences=True, dtype=dtype)
    return HierarchicalAttention(None, encoder, 6, dtype=dtype)


def intra_decoder(dtype):
    return IntraDecoderCell(keras.layers.LSTMCell(3, dtype=dtype), 3, dtype=dtype)


def non_local(instantiation, dtype, **settings):
    return instantiation(3, dtype=dtype, **settings)


ROWS = {
    "luong": Row(lambda dtype: LuongAttention(WIDTH, dtype=dtype), ask),
    "luong_scaled": Row(lambda dtype: LuongAttention(WIDTH, scale=True, dtype=dtype), ask),
    "bahdanau": Row(lambda dtype: BahdanauAttention(WIDTH, dtype=dtype), ask),
    "bahdanau_normalized": Row(
        lambda dtype: BahdanauAttention(WIDTH, normalize=True, dtype=dtype), ask
    ),
    "luong_monotonic": Row(lambda dtype: LuongMonotonicAttention(WIDTH, dtype=dtype), ask),
    "bahdanau_monotonic": Row(
        lambda dtype: BahdanauMonotonicAttention(WIDTH, mode="recursive", dtype=dtype), ask
    ),
    "wrapper_luong": Row(functools.partial(wrapper, LuongAttention), decode),
    "wrapper_bahdanau": Row(functools.partial(wrapper, BahdanauAttention), decode),
    "rnn_bahdanau": Row(functools.partial(rnn, BahdanauAttention), run),
    "non_local_gaussian": Row(functools.partial(non_local, GaussianNonLocal), mix),
    "non_local_embedded": Row(functools.partial(non_local, EmbeddedGaussianNonLocal, pool=2), mix),
    "non_local_dot": Row(functools.partial(non_local, DotProductNonLocal), mix_image),
    "non_local_concatenation": Row(functools.partial(non_local, ConcatenationNonLocal), mix),
    "sagan": Row(lambda dtype: SAGANAttention("official", dtype=dtype), mix),
    "window": Row(lambda dtype: WindowAttention(2, (3, 1), (1, 0), dtype=dtype), mix_image),
    "mixer": Row(lambda dtype: MixerBlock(6, 8, length=16, dtype=dtype), mix),
    "gmlp": Row(lambda dtype: GatedMLPBlock(4, 16, attention_width=2, dtype=dtype), mix),
    "gated_causal_conv": Row(lambda dtype: GatedCausalConv(3, 2, dtype=dtype), mix),
    "snail_tc": Row(lambda dtype: SNAILTCBlock(5, 3, dtype=dtype), mix),
    "snail_attention": Row(lambda dtype: SNAILAttentionBlock(3, 2, dtype=dtype), mix),
    "directional": Row(lambda dtype: DirectionalAttention(3, dtype=dtype), mix),
    "disan": Row(lambda dtype: DiSAN(3, dtype=dtype), pool),
    "pooling": Row(lambda dtype: AttentionPooling(6, dtype=dtype), pool),
    "mean": Row(lambda dtype: StepPooling("mean", dtype=dtype), pool),
    "max": Row(lambda dtype: StepPooling("max", dtype=dtype), pool),
    "hierarchical": Row(han, pool_words),
    "structured": Row(lambda dtype: StructuredSelfAttention(3, 6, 1.0, dtype=dtype), mix),
    "lstmn": Row(functools.partial(steps_of, lambda dtype: LSTMNCell(WIDTH, 3, dtype=dtype)), mix),
    "temporal": Row(
        lambda dtype: Attention(GeneralScore(dtype=dtype), temporal_softmax, dtype=dtype), look
    ),
    "intra_decoder": Row(lambda dtype: IntraDecoderAttention(dtype=dtype), mix),
    "intra_decoder_cell": Row(functools.partial(steps_of, intra_decoder), mix),
    "pointer": Row(lambda dtype: PointerHead(6, dtype=dtype), point),
    "copy": Row(lambda dtype: CopyHead(keras.layers.Dense(6, dtype=dtype), 4, dtype=dtype), copy),
    "ntm": Row(functools.partial(steps_of, ntm), mix),
}
ROWS |= {
    "attention_scaled": Row(lambda dtype: Attention(scaled_dot, value_units=3, dtype=dtype), look),
    "attention_causal": Row(lambda dtype: Attention(cosine, dtype=dtype), look_back),
    "attention_additive": Row(functools.partial(bahdanau, normalize=entmax15), look),
    "attention_general": Row(
        lambda dtype: Attention(GeneralScore(dtype=dtype), sparsemax, dtype=dtype), look
    ),
    "attention_location": Row(
        lambda dtype: Attention(LocationScore(4, dtype=dtype), dtype=dtype), look
    ),
    "attention_monotonic": Row(
        lambda dtype: Attention(normalize=monotonic_recursive, dtype=dtype), look
    ),
    "score_biaffine": Row(lambda dtype: BiaffineScore(dtype=dtype), score),
    "local_monotonic": Row(
        lambda dtype: LocalMonotonicAttention(bahdanau(dtype), 1, dtype=dtype), look
    ),
    "local_predictive": Row(
        lambda dtype: LocalPredictiveAttention(bahdanau(dtype), 2, dtype=dtype), look
    ),
    "hard": Row(lambda dtype: HardAttention(bahdanau(dtype), dtype=dtype), look),
    "reinforce_loss": Row(lambda dtype: ReinforceLoss(dtype=dtype), weigh_loss),
    "token_selector": Row(lambda dtype: TokenSelector(dtype=dtype), select),
}
ROWS |= {
    "relative": Row(lambda dtype: RelativeAttention(2, 1, key_width=3, dtype=dtype), mix),
    "relative_per_head": Row(lambda dtype: RelativeAttention(2, 9, False, dtype=dtype), mix),
    "distance": Row(lambda dtype: DistanceAttention(2, dtype=dtype), mix),
    "distance_block": Row(lambda dtype: DistanceBlock(2, 6, forward=False, dtype=dtype), mix),
    "distance_san": Row(lambda dtype: DistanceSAN(2, 6, dtype=dtype), pool),
    "restricted": Row(lambda dtype: RestrictedAttention(2, 2, dtype=dtype), mix),
    "restricted_causal": Row(
        lambda dtype: RestrictedAttention(2, 1, num_key_heads=1, dtype=dtype), mix_causal
    ),
    "strided": Row(lambda dtype: StridedAttention(2, 2, dtype=dtype), mix),
    "strided_far": Row(lambda dtype: StridedAttention(2, 2, hop=2, dtype=dtype), mix),
    "fixed": Row(lambda dtype: FixedAttention(2, 2, dtype=dtype), mix),
    "linear": Row(lambda dtype: LinearAttention(2, dtype=dtype), look_heads),
    "linear_causal": Row(lambda dtype: LinearAttention(2, dtype=dtype), mix_causal),
    "linear_cell": Row(functools.partial(steps_of, linear_cell), mix),
    "memory_efficient": Row(lambda dtype: MemoryEfficientAttention(2, 2, dtype=dtype), look_heads),
    "memory_efficient_causal": Row(
        lambda dtype: MemoryEfficientAttention(2, 2, num_key_heads=1, dtype=dtype), mix_causal
    ),
}
ROWS |= {
    "multi_head": Row(
        lambda dtype: MultiHeadAttention(2, num_key_heads=1, dtype=dtype), look_heads
    ),
    "encoder": Row(stack, mix),
    "decoder": Row(functools.partial(stack, causal=True, cross=True), decode_all),
    "multi_head_causal": Row(
        lambda dtype: MultiHeadAttention(4, 3, 2, num_key_heads=2, dtype=dtype), mix_causal
    ),
    "decoder_pre": Row(
        functools.partial(stack, norm="pre", causal=True, cross=True, key_heads=1), decode_all
    ),
    "transformer_cell": Row(transformer_cell, decode_cached),
    "residual": Row(lambda dtype: Residual(dtype=dtype), around),
    "residual_pre": Row(lambda dtype: Residual("pre", dtype=dtype), around),
    "feed_forward": Row(lambda dtype: FeedForward(6, "tanh", dtype=dtype), mix_alone),
    "convolutional_feed_forward": Row(
        lambda dtype: ConvolutionalFeedForward(6, 3, dtype=dtype), mix
    ),
}
# Rows of a class that another row has in whole: what costs most (XLA, graphs, precision) is asked
# of them in the full run alone.
VARIANTS = {
    "luong_scaled", "bahdanau_normalized", "wrapper_luong", "non_local_gaussian", "non_local_dot",
    "attention_causal", "attention_location", "temporal", "relative_per_head",
    "restricted_causal", "strided_far", "linear_causal", "memory_efficient_causal",
    "multi_head_causal", "decoder_pre", "residual_pre",
}  # fmt: skip
each = pytest.mark.parametrize("name", ROWS)
each_class = pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.full) if n in VARIANTS else n for n in ROWS],
)

ELSEWHERE = {
    "Bridge": "takes states",
    "GlimpseNetwork": "takes an image and a place",
    "LinearCrossEntropy": "gives a loss, or logits",
    "NonLocal": "is what its four instantiations share",
    "PatchEmbedding": "takes an image, and no mask",
    "PatchMerging": "takes an image, and no mask",
    "TiedEmbedding": "takes ids",
}


def parts(layer):
    """A layer, and all that it is made of."""
    inner = (getattr(layer, name, None) for name in ("score", "attention", "cell"))
    return [layer, *layer._flatten_layers(include_self=False), *inner]


def test_every_layer_is_in_the_table_or_has_its_tests_elsewhere():
    here = {type(part).__name__ for row in ROWS.values() for part in parts(row.make("float32"))}
    public = {name: getattr(layers, name) for name in layers.__all__}
    public = {name for name, thing in public.items() if issubclass(thing, keras.layers.Layer)}
    assert public - here == set(ELSEWHERE)


class Probe(keras.Model):
    """The smallest model around a layer of the table."""

    def __init__(self, name, layer):
        super().__init__(name=name, dtype=layer.dtype_policy)
        self.layer = layer

    def call(self, inputs):
        query, values, mask = inputs
        return ROWS[self.name].apply(self.layer, query, values, tf.cast(mask, tf.bool))

    def build(self, input_shape=None):
        if not self.built:
            self.built = True
            self(example())

    def get_config(self):
        return {"name": self.name, "layer": keras.saving.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config):
        return cls(config["name"], keras.saving.deserialize_keras_object(config["layer"]))


def example(dtype="float32", batch=3, targets=2, steps=5):
    """query [B, T, D], values [B, S, D], mask [B, S]: all of one source, a part of another ..."""
    rng = np.random.default_rng(1)
    query, values = (rng.normal(size=(batch, n, WIDTH)).astype(dtype) for n in (targets, steps))
    return query, values, np.arange(steps) < np.array([steps, 2, 1][:batch])[:, None]


def draw(weight):
    """Numbers for a weight: normal ones, above 0 for a variance."""
    numbers = np.random.normal(size=weight.shape)
    return np.abs(numbers) if weight.name == "moving_variance" else numbers


def probe(name, dtype="float32", weights=None):
    """A built model; its weights are drawn, for initial ones may be 0 or 1, or are those given."""
    model = Probe(name, ROWS[name].make(dtype))
    model.build()
    if weights is None:
        weights = [draw(weight) for weight in model.weights]
    model.set_weights(weights)
    return model


@functools.cache
def built(name):
    """The float32 probe of a row, made once: no test changes its weights."""
    keras.utils.set_random_seed(0)
    return probe(name)


def seen(outputs, mask, values):
    """What must not change: all outputs, or those of unmasked steps if a layer looks at itself."""
    outputs = np.asarray(tf.cast(outputs, tf.float64))
    if outputs.shape[1] == values.shape[1] and outputs.shape[1] != example()[0].shape[1]:
        return outputs[mask]
    return outputs


# -- saved and loaded


def check_saved(folder):
    """Run in a process of its own: load every model and keep what it says to the example."""
    for name in ROWS:
        model = keras.saving.load_model(f"{folder}/{name}.keras", custom_objects={"Probe": Probe})
        np.save(f"{folder}/{name}.npy", model(example()))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """All models of the table, saved here and answered for by one new process."""
    folder = tmp_path_factory.mktemp("saved")
    expected = {}
    for name in ROWS:
        model = built(name)
        expected[name] = model(example()).numpy()
        model.save(folder / f"{name}.keras")
    program = f"from tests.conformance.test_layers import check_saved; check_saved({str(folder)!r})"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return lambda name: (np.load(folder / f"{name}.npy"), expected[name])


@each
def test_a_saved_layer_gives_the_same_bits_in_a_new_process(name, saved):
    found, expected = saved(name)
    assert expected.any()
    np.testing.assert_array_equal(found, expected)


# -- precision, graphs, XLA


@each_class
@pytest.mark.parametrize(
    "policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.full)]
)
def test_mixed_precision_computes_narrow_and_stays_close(name, policy):
    wide = built(name)
    narrow = probe(name, policy, wide.get_weights())
    found = narrow(example())
    assert found.dtype == policy.removeprefix("mixed_")
    assert {weight.dtype for weight in narrow.weights} <= {"float32"}  # some have none
    expected = wide(example())
    np.testing.assert_allclose(tf.cast(found, tf.float32), expected, atol=0.1, rtol=0.1)


WITH_A_LONGEST = (
    "attention_location", "decoder", "decoder_pre", "encoder", "gmlp", "mixer", "transformer_cell",
)  # fmt: skip


def long_rows():
    """By default those whose sums once stopped growing, or whose places were rounded."""
    default = ("linear_cell", "local_predictive", "pooling")
    # A norm magnifies what rounding leaves of numbers that are nearly equal.
    skipped = (*WITH_A_LONGEST, "residual", "residual_pre")
    names = [name for name in ROWS if name not in skipped]
    return [pytest.param(n, marks=[] if n in default else [pytest.mark.full]) for n in names]


@pytest.mark.parametrize("name", long_rows())
def test_sums_over_long_sequences_do_not_stop_growing_in_low_precision(name):
    wide, rng, steps = built(name), np.random.default_rng(0), 600  # beyond 2^8, exact in bfloat16
    query, values = (rng.normal(1, 0.1, (1, n, WIDTH)).astype("float32") for n in (2, steps))
    inputs = query, values, np.ones((1, steps), bool)
    narrow = probe(name, "mixed_bfloat16", wide.get_weights())
    # In a graph, for some layers loop over the steps.
    expected, found = (tf.function(m, autograph=False)(inputs) for m in (wide, narrow))
    expected, found = expected.numpy(), tf.cast(found, tf.float32)
    np.testing.assert_allclose(found, expected, atol=0.03 * np.abs(expected).max())


def compiled_rows():
    """By default those with a loop, a sort, a draw or a gather of their own."""
    default = (
        "bahdanau_monotonic", "rnn_bahdanau", "hard", "token_selector", "linear_causal", "strided",
        "memory_efficient", "local_monotonic", "transformer_cell", "ntm", "window", "copy",
    )  # fmt: skip
    return [name if name in default else full(name)[0] for name in ROWS]


@pytest.mark.parametrize("name", compiled_rows())
def test_xla_gives_the_eager_result(name):
    model = built(name)
    call = tf.function(model, jit_compile=True, autograph=False)
    inputs = tuple(map(tf.constant, example()))
    np.testing.assert_allclose(call(inputs), model(inputs), atol=1e-5, rtol=1e-6)


@each_class
def test_a_graph_with_unknown_lengths_gives_the_eager_result(name):
    model = built(name)
    unknown = tf.TensorSpec([None, None, WIDTH])
    signature = [(unknown, unknown, tf.TensorSpec([None, None], tf.bool))]
    call = tf.function(model, input_signature=signature)
    for sizes in ({}, {"batch": 1, "targets": 4, "steps": 1}):
        inputs = example(**sizes)
        np.testing.assert_allclose(call(inputs), model(inputs), atol=1e-5, rtol=1e-6)


# -- masks


@each
def test_masked_values_change_nothing(name):
    model, (query, values, mask) = built(name), example()
    expected = seen(model((query, values, mask)), mask, values)
    for padding in (1e3 * np.random.normal(size=values.shape), np.nan):
        other = np.where(mask[..., None], values, padding).astype("float32")
        found = seen(model((query, other, mask)), mask, values)
        np.testing.assert_array_equal(found, expected)


@each
def test_more_padding_changes_nothing(name):
    model, (query, values, mask) = built(name), example()
    expected = seen(model((query, values, mask)), mask, values)
    more = np.concatenate([values, np.ones((3, 4, WIDTH), "float32")], 1)
    more_mask = np.pad(mask, [[0, 0], [0, 4]])
    found = seen(model((query, more, more_mask)), more_mask, more)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@each
def test_a_row_without_visible_slots_is_finite_and_so_are_its_gradients(name):
    model, (query, values, mask) = built(name), example()
    mask[1] = False
    values = tf.constant(values)
    with tf.GradientTape() as tape:
        tape.watch(values)
        output = model((query, values, mask))
        loss = tf.reduce_sum(tf.square(output))
    assert np.isfinite(output).all()
    assert all_finite(tape.gradient(loss, [values, *model.trainable_variables]))


SPREADS_NAN = {
    "score_biaffine": "is a score, which takes no mask",
    "feed_forward": "takes no mask",
    "residual": "takes no mask",
    "residual_pre": "takes no mask",
    "lstmn": "stands in keras.layers.RNN, which multiplies the gradient of masked steps by 0",
    "intra_decoder_cell": "the same",
    "linear_cell": "the same",
    "ntm": "the same",
}


@pytest.mark.parametrize("name", sorted({*ROWS} - {*SPREADS_NAN}))
def test_nan_in_padding_does_not_reach_the_gradient_of_a_weight(name):
    model, (query, values, mask) = built(name), example()
    values = tf.constant(np.where(mask[..., None], values, np.nan).astype("float32"))
    with tf.GradientTape() as tape:
        output = model((query, values, mask))
        if output.shape[1] == values.shape[1]:
            output = tf.boolean_mask(output, mask)
        loss = tf.reduce_sum(tf.square(output))
    assert all_finite(tape.gradient(loss, model.trainable_variables))


def cells_of_an_rnn():
    names = [name for name in SPREADS_NAN if name in ("intra_decoder_cell", "linear_cell", "ntm")]
    return ["lstmn", *(pytest.param(name, marks=pytest.mark.full) for name in names)]


@pytest.mark.parametrize("name", cells_of_an_rnn())
def test_padding_set_to_zero_keeps_the_gradients_of_a_cell_in_an_rnn_finite(name):
    model, (query, values, mask) = built(name), example()
    with_nan = tf.constant(np.where(mask[..., None], values, np.nan).astype("float32"))
    remedied = keras.ops.where(mask[..., None], with_nan, 0.0)
    for given, finite in (with_nan, False), (remedied, True):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.boolean_mask(model((query, given, mask)), mask))
        assert all_finite(tape.gradient(loss, model.trainable_variables)) == finite


def all_finite(gradients):
    known = [tf.convert_to_tensor(gradient) for gradient in gradients if gradient is not None]
    return all(np.isfinite(gradient).all() for gradient in known)


# -- rematerialisation


def remat_rows():
    """Those with several tensors, or tensors by name, by default; the others in the full run."""
    default = ("attention_additive", "decoder", "gmlp", "multi_head", "rnn_bahdanau", "pointer")
    marks = {name: [] if name in default else [pytest.mark.full] for name in ROWS}
    return [pytest.param(name, marks=marks[name]) for name in ROWS]


@pytest.mark.parametrize("name", remat_rows())
def test_rematscope_changes_no_gradient(name):
    plain, (query, values, mask) = built(name), map(tf.constant, example())
    with keras.RematScope("full"):
        layer = ROWS[name].make("float32")
    remat = Probe(name, layer)
    with keras.RematScope("full"):
        remat.build()
    remat.set_weights(plain.get_weights())

    def gradients(model):
        keras.utils.set_random_seed(1)
        with tf.GradientTape() as tape:
            tape.watch([query, values])
            loss = tf.reduce_sum(tf.square(model((query, values, mask))))
        variables = [weight.value for weight in model.trainable_variables]
        return tape.gradient(loss, [query, values, *variables], None, "zero")

    with keras.RematScope("full"):
        found = gradients(remat)
    for gradient, expected in zip(found, gradients(plain)):
        expected = tf.convert_to_tensor(expected)
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-4)


# -- gradients


@each_class
def test_gradients_are_the_finite_differences_in_float64(name):
    model = probe(name, "float64")
    query, values, mask = example("float64")
    query, values = tf.Variable(query), tf.Variable(values)
    watched = [query, values, *(weight.value for weight in model.trainable_variables)]
    direction = tf.constant(np.random.normal(size=model((query, values, mask)).shape))

    def loss():
        return tf.reduce_sum(model((query, values, mask)) * direction)

    with tf.GradientTape() as tape:
        tape.watch([query, values])
        result = loss()
    loss = tf.function(loss, autograph=False)  # asked twice for each variable
    for variable, gradient in zip(watched, tape.gradient(result, watched)):
        step = 1e-6 * np.random.normal(size=variable.shape)
        begin = variable.numpy()
        variable.assign(begin + step)
        above = loss()
        variable.assign(begin - step)
        difference = (above - loss()) / 2
        variable.assign(begin)
        expected = 0.0 if gradient is None else np.sum(tf.convert_to_tensor(gradient) * step)
        np.testing.assert_allclose(difference, expected, rtol=1e-4, atol=1e-12)
