import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_attention.functional import Memory
from keras_attention.layers import (
    DistanceAttention,
    FixedAttention,
    LinearAttention,
    MemoryEfficientAttention,
    MultiHeadAttention,
    PositionEmbedding,
    RelativeAttention,
    RestrictedAttention,
    StackMemory,
    StridedAttention,
    TransformerBlock,
    TransformerStack,
)
from tests.sampled import full, sampled

B, T, S, D, H = 2, 5, 4, 8, 2
MASK = np.arange(S) < np.array([[S], [2]])


def drawn(*shape):
    return np.random.normal(size=shape).astype("float32")


def stack_of(memory_width=None, **settings):
    stack = TransformerStack(**{"layers": 2, "heads": H, "ff_width": 6, **settings})
    stack.build((None, None, D), memory_width and (None, None, memory_width))
    stack.set_weights([drawn(*weight.shape) / 2 for weight in stack.weights])
    return stack


# -- blocks


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_a_block_is_three_sublayers_in_residuals(norm):
    x, memory = drawn(B, T, D), drawn(B, S, 6)
    block = TransformerBlock(H, 6, cross=True, norm=norm)
    block.build(x.shape, memory.shape)
    found, weights = block(x, memory, causal=True)

    def around(residual, sublayer, x):
        if norm == "pre":
            return x + sublayer(residual.normalize(x))
        return residual.normalize(x + sublayer(x))

    expected = around(block.self_residual, lambda x: block.self_attention(x, causal=True), x)
    expected = around(block.cross_residual, lambda x: block.cross_attention(x, memory), expected)
    expected = around(block.feed_forward_residual, block.feed_forward, expected)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(tf.reduce_sum(weights, -1), np.ones([B, H, T]), atol=1e-5)


def test_without_a_memory_a_block_gives_no_weights():
    assert TransformerBlock(H, 6)(drawn(B, T, D))[1] is None


# -- stacks


def test_a_stack_is_positions_and_then_its_blocks():
    x = drawn(B, T, D)
    stack = stack_of()
    expected = PositionEmbedding()(x)
    for block in stack.blocks:
        expected, _ = block(expected)
    np.testing.assert_allclose(stack(x), expected, atol=1e-5)


def test_a_pre_norm_stack_ends_in_a_norm():
    stack = stack_of(norm="pre")
    stack.normalize.set_weights([np.ones(D), np.zeros(D)])
    output = stack(drawn(B, T, D)).numpy()
    np.testing.assert_allclose(output.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(output.std(-1), 1, atol=1e-3)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_the_future_never_reaches_the_past(norm):
    stack, x = stack_of(causal=True, norm=norm), drawn(B, T, D)
    other = x.copy()
    other[:, 3:] = 9.0
    one, changed = stack(x), stack(other)
    np.testing.assert_array_equal(one[:, :3], changed[:, :3])
    assert (one[:, 3:].numpy() != changed[:, 3:].numpy()).any()


def test_padding_of_the_source_never_reaches_the_target():
    encoder, decoder = stack_of(), stack_of(causal=True, cross=True)
    source, target = drawn(B, S, D), drawn(B, T, D)
    expected = decoder(target, encoder(source, mask=MASK), memory_mask=MASK)
    wider = np.concatenate([source, 9 * drawn(B, 3, D)], 1)
    mask = np.pad(MASK, [[0, 0], [0, 3]])
    found = decoder(target, encoder(wider, mask=mask), memory_mask=mask)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    alone = decoder(target[1:], encoder(source[1:, :2]))
    np.testing.assert_allclose(alone, expected[1:], atol=1e-5)


def test_masks_of_keras_are_honoured_and_an_explicit_one_wins():
    encoder, decoder = stack_of(), stack_of(causal=True, cross=True)
    source, target = drawn(B, S, D), drawn(B, T, D)
    source[~MASK] = 0.0
    masked = keras.layers.Masking()(source)
    encoded = encoder(masked)
    np.testing.assert_array_equal(encoded._keras_mask, MASK)
    np.testing.assert_allclose(encoded, encoder(source, mask=MASK), atol=1e-6)
    assert np.abs(encoder(masked, mask=np.ones([B, S], bool)) - encoder(source)).max() < 1e-6
    found = decoder(target, encoded)
    np.testing.assert_allclose(found, decoder(target, encoded, memory_mask=MASK), atol=1e-6)


def test_a_source_with_nothing_in_it_is_finite_and_learns_finitely():
    encoder, decoder = stack_of(), stack_of(causal=True, cross=True)
    source, target = tf.constant(drawn(B, S, D)), drawn(B, T, D)
    mask = MASK & np.array([[True], [False]])
    with tf.GradientTape() as tape:
        tape.watch(source)
        output = decoder(target, encoder(source, mask=mask), memory_mask=mask)
        loss = tf.reduce_sum(output**2)
    assert np.isfinite(output).all()
    for gradient in tape.gradient(loss, [source, *decoder.trainable_variables]):
        assert np.isfinite(gradient).all()


def test_no_steps_and_one_step():
    stack = stack_of(causal=True)
    assert stack(np.zeros([B, 0, D], "float32")).shape == (B, 0, D)
    x = drawn(B, T, D)
    np.testing.assert_allclose(stack(x[:, :1]), stack(x)[:, :1], atol=1e-5)


def test_all_cross_attentions_are_returned_on_request():
    decoder = stack_of(6, layers=3, causal=True, cross=True)
    memory = drawn(B, S, 6)
    _, weights = decoder(drawn(B, T, D), memory, memory_mask=MASK, return_weights=True)
    assert [w.shape for w in weights] == [(B, H, T, S)] * 3
    for each in weights:
        np.testing.assert_array_equal(each > 0, np.broadcast_to(MASK[:, None, None], each.shape))


def test_a_memory_projected_once_serves_many_calls():
    decoder, memory = stack_of(causal=True, cross=True), drawn(B, S, D)
    once = decoder.project_memory(memory, MASK)
    for steps in (T, 1):
        x = drawn(B, steps, D)
        expected = decoder(x, memory, memory_mask=MASK)
        np.testing.assert_array_equal(decoder(x, once), expected)


def test_a_projected_memory_keeps_its_mask_under_a_mask_of_the_call():
    decoder, x, memory = stack_of(causal=True, cross=True), drawn(B, T, D), drawn(B, S, D)
    more = np.arange(S) != np.array([[0], [1]])
    once = decoder.project_memory(memory, MASK)
    expected = decoder(x, memory, memory_mask=MASK & more)
    np.testing.assert_allclose(decoder(x, once, memory_mask=more), expected, atol=1e-6)
    once = decoder.project_memory(memory)
    np.testing.assert_allclose(decoder(x, once, memory_mask=MASK & more), expected, atol=1e-6)


class Projected(keras.layers.Layer):
    """A layer that returns the memory of a decoder."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder, self.supports_masking = decoder, True

    def call(self, x, mask=None):
        return self.decoder.project_memory(x, mask)

    def compute_mask(self, x, mask=None):
        return None


def test_a_projected_memory_goes_through_a_functional_model():
    decoder, embed = stack_of(causal=True, cross=True), keras.layers.Embedding(9, D, mask_zero=True)
    source, target = (keras.Input((None,), dtype="int32") for _ in range(2))
    memory = Projected(decoder)(embed(source))
    assert isinstance(memory, StackMemory) and isinstance(memory.blocks[0], Memory)
    model = keras.Model([source, target], decoder(embed(target), memory=memory))
    short, padded, ids = np.array([[3, 4]]), np.array([[3, 4, 0]]), np.array([[1, 2, 3]])
    np.testing.assert_allclose(model([padded, ids]), model([short, ids]), atol=1e-6)


def test_a_stack_that_does_not_look_across_refuses_a_memory():
    with pytest.raises(ValueError, match="cross=True"):
        stack_of()(drawn(B, T, D), drawn(B, S, D))
    with pytest.raises(ValueError, match="layers=0"):
        TransformerStack(layers=0)


# -- variants of self-attention

VARIANTS = {
    "relative": (lambda: RelativeAttention(H, 3), True),
    "relative_per_head": (lambda: RelativeAttention(H, 3, share_heads=False), True),
    "restricted": (lambda: RestrictedAttention(H, 2, use_bias=False), True),
    "strided": (lambda: StridedAttention(H, 2), True),
    "fixed": (lambda: FixedAttention(H, 2), False),
    "linear": (lambda: LinearAttention(H), True),
    "memory_efficient": (lambda: MemoryEfficientAttention(H, 2), True),
    "distance": (lambda: DistanceAttention(H, forward=None), False),
}
each_variant = pytest.mark.parametrize("name", VARIANTS)


@pytest.mark.parametrize(
    "name, policy", sampled(VARIANTS, ["float32", "mixed_bfloat16"], together=1)
)
def test_any_self_attention_may_stand_in_a_stack(name, policy):
    make, causal = VARIANTS[name]
    pattern = make()
    stack = stack_of(self_attention=pattern, causal=causal, dtype=policy)
    attentions = [block.self_attention for block in stack.blocks]
    assert all(type(attention) is type(pattern) for attention in attentions)
    assert attentions[0] is not attentions[1] and pattern not in attentions
    x = drawn(B, T, D)
    output = stack(x, mask=np.ones([B, T], bool))
    assert output.dtype == policy.removeprefix("mixed_") and np.isfinite(output).all()
    if name != "distance":
        changed = stack(np.concatenate([x[:, :3], 9 * x[:, 3:]], 1))
        np.testing.assert_array_equal(changed[:, :3], stack(x)[:, :3])


@pytest.mark.parametrize(
    "name", ["relative", "linear", *full(*list(VARIANTS)[1:5], "memory_efficient", "distance")]
)
def test_a_stack_of_a_variant_is_saved(name, tmp_path):
    make, causal = VARIANTS[name]
    x = keras.Input((None, D))
    model = keras.Model(x, stack_of(self_attention=make(), causal=causal)(x))
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    example = drawn(B, T, D)
    np.testing.assert_array_equal(copy(example), model(example))


def test_the_same_attention_by_chunks_is_the_same_stack():
    plain = stack_of(causal=True, attention_bias=True)
    efficient = stack_of(causal=True, self_attention=MemoryEfficientAttention(H, chunk=2))
    efficient.set_weights(plain.get_weights())
    x = drawn(B, T, D)
    np.testing.assert_allclose(efficient(x), plain(x), atol=1e-5)


def test_a_core_that_is_always_causal_serves_a_causal_stack():
    causal, plain = (stack_of(self_attention=FixedAttention(H, 2), causal=c) for c in (True, False))
    causal.set_weights(plain.get_weights())
    x = drawn(B, T, D)
    np.testing.assert_array_equal(causal(x), plain(x))


def test_the_heads_of_a_pattern_are_its_own():
    block = TransformerBlock(4, 6, self_attention=MultiHeadAttention(2, key_width=3))
    block(drawn(B, T, D))
    assert block.self_attention.num_heads == 2
