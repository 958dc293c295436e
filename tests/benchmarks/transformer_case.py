"""The Transformer that all sides of a comparison build: its sizes, weights and inputs.

6 + 6 layers of width 512, post-norm, one matrix for both embeddings and the output, no biases in
attention (Vaswani et al., 2017). Every side loads the same weights, by the names made here.
"""

import numpy as np

LAYERS, WIDTH, HIDDEN, HEADS = 6, 512, 2048, 8
SIZES = {"layers": LAYERS, "width": WIDTH, "hidden": HIDDEN, "heads": HEADS, "epsilon": 1e-6}
START, END = 1, 2  # ids; 0 is padding


def make_weights(vocabulary, random):
    """One array per weight; kernels are [in, out].

    The end token can never win: the last norm shifts by a constant, which is how far its logit
    lies below the others, for a normed vector is orthogonal to the constants.
    """

    def draw(*shape, scale):
        return (random.standard_normal(shape) * scale).astype(np.float32)

    # Sharp attention and quiet sublayers: else every step soon gives the same.
    gains = {"query": 2.0, "key": 2.0, "value": 1.0, "output": 0.8}
    embedding = draw(vocabulary, WIDTH, scale=WIDTH**-0.5)
    embedding[END] = -1.0
    weights = {"embedding": embedding, "positions": positions(256)}
    for role, parts in (
        ("encoder", ("self", "feed_forward")),
        ("decoder", ("self", "cross", "feed_forward")),
    ):
        for i in range(LAYERS):
            for part in parts:
                name = f"{role}_{i}_{part}"
                if part == "feed_forward":
                    weights[f"{name}_in"] = draw(WIDTH, HIDDEN, scale=(2 / WIDTH) ** 0.5)
                    weights[f"{name}_in_bias"] = draw(HIDDEN, scale=0.1)
                    out = draw(HIDDEN, WIDTH, scale=0.8 * HIDDEN**-0.5)
                    weights[f"{name}_out"] = out
                    weights[f"{name}_out_bias"] = -0.56 * np.sum(out, 0)  # a mean of about zero
                else:
                    for kernel in ("query", "key", "value", "output"):
                        scale = gains[kernel] * WIDTH**-0.5
                        weights[f"{name}_{kernel}"] = draw(WIDTH, WIDTH, scale=scale)
                weights[f"{name}_gamma"] = 1 + draw(WIDTH, scale=0.1)
                weights[f"{name}_beta"] = draw(WIDTH, scale=0.1)
    last = f"decoder_{LAYERS - 1}_feed_forward"
    weights[f"{last}_gamma"] = np.full(WIDTH, 1.5, np.float32)  # few near ties
    weights[f"{last}_beta"] = np.full(WIDTH, 0.2, np.float32)
    return weights


def letters(vocabulary):
    """The characters of the ids from 4 on, for lines of text.

    >>> letters(6)
    '一丁'
    """
    return "".join(map(chr, range(0x4E00, 0x4E00 + vocabulary - 4)))


def positions(length):
    """All sines, then all cosines, of p / 10000^(i / (D/2 - 1)), p = 0, 1, ...  [length, D]."""
    rates = np.exp(-np.log(1e4) * np.arange(WIDTH // 2) / (WIDTH // 2 - 1)).astype(np.float32)
    angles = np.arange(length, dtype=np.float32)[:, None] * rates
    return np.concatenate([np.sin(angles), np.cos(angles)], 1)


def source(vocabulary, batch, steps, random):
    """Sentences without padding, for the search."""
    return {"source": random.integers(3, vocabulary, (batch, steps), dtype=np.int32)}


def pairs(vocabulary, batch, steps, random):
    """Padded sentences and their targets for training, lengths uniform from half to full."""

    def lengths():
        return np.append(random.integers(steps // 2, steps + 1, batch - 1), steps)

    def padded(ids, lengths):
        return np.where(np.arange(steps) < lengths[:, None], ids, 0).astype(np.int32)

    target_lengths = lengths()
    target = random.integers(3, vocabulary, (batch, steps))
    return {
        "source": padded(random.integers(3, vocabulary, (batch, steps)), lengths()),
        "target_in": padded(
            np.concatenate([np.full((batch, 1), START), target[:, :-1]], 1), target_lengths
        ),
        "target_out": padded(target, target_lengths),
    }


ENCODER = [(WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, HIDDEN), (HIDDEN, WIDTH)] * LAYERS
CROSS = [(WIDTH, 2 * WIDTH)] * LAYERS  # keys and values of the encoded source


def step_products(vocabulary):
    """The products of one decoding step, (in, out): self, cross, feed-forward; logits."""
    attention = [(WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, WIDTH), (WIDTH, WIDTH)]
    layer = [*attention, (WIDTH, HIDDEN), (HIDDEN, WIDTH)]
    return layer * LAYERS + [(WIDTH, vocabulary)]
