"""The attentional RNN of `rnn_train.py` and `rnn_beam.py`: its weights and inputs."""

import numpy as np
from alternate import flops


def make_weights(units, vocabulary, random):
    """One array per weight, by the names that both sides load."""

    def draw(*shape, scale=1.0):
        return (random.standard_normal(shape) * scale).astype(np.float32)

    weights = {
        "source_embedding": draw(vocabulary, units),
        "target_embedding": draw(vocabulary, units),
        "query": draw(units, units, scale=units**-0.5),
        "memory": draw(units, units, scale=units**-0.5),
        "v": draw(units, scale=units**-0.5),
        "attention": draw(2 * units, units, scale=units**-0.5),
        "output_kernel": draw(units, vocabulary, scale=4 * units**-0.5),  # few near ties
        "output_bias": draw(vocabulary),
    }
    for role, widths in (("encoder", (units, units)), ("decoder", (2 * units, units))):
        for i, width in enumerate(widths):
            weights[f"{role}_{i}_kernel"] = draw(width, 4 * units, scale=width**-0.5)
            weights[f"{role}_{i}_recurrent"] = draw(units, 4 * units, scale=units**-0.5)
            weights[f"{role}_{i}_bias"] = draw(4 * units)
    return weights


def train_inputs(vocabulary, random, batch=64, steps=20):
    """Ids and lengths of a padded batch, lengths uniform from half to full."""

    def lengths():
        return np.append(random.integers(steps // 2, steps + 1, batch - 1), steps).astype(np.int32)

    def ids():
        return random.integers(3, vocabulary, (batch, steps), dtype=np.int32)

    return {
        "source": ids(),
        "source_lengths": lengths(),
        "target_in": ids(),
        "target_out": ids(),
        "target_lengths": lengths(),
    }


def beam_inputs(units, batch, random, steps=20):
    """What an encoder would have given."""
    return {
        "encoded": np.tanh(random.standard_normal((batch, steps, units))).astype(np.float32),
        "source_lengths": random.integers(steps // 2, steps + 1, batch).astype(np.int32),
        "state": np.tanh(random.standard_normal((2, batch, units))).astype(np.float32),
    }


def train_flops(units, vocabulary, inputs):
    """Of the products of a training step: the recurrent ones of all steps, the others of tokens."""
    steps, tokens = inputs["source"].size, int(np.sum(inputs["target_lengths"]))
    encoder, decoder = 2 * [(2 * units, 4 * units)] + [(units, units)], decoder_products(units)
    return 3 * (flops(steps, encoder + decoder) + flops(tokens, [(units, vocabulary)]))


def decoder_products(units):
    """(in, out) of two LSTMs, the query and the attention layer."""
    return [(3 * units, 4 * units), (2 * units, 4 * units), (units, units), (2 * units, units)]
