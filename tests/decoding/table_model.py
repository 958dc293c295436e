"""A table of transitions as the model in tests of searches."""

import numpy as np
import tensorflow as tf

PAD, START, END = 0, 1, 2


class TableModel:
    """A model whose sources are the numbers of tables: what `generate` asks for, and no more."""

    pad_id, start_id, end_id = PAD, START, END

    def __init__(self, table):
        self.cell = table

    def encode(self, source):
        return None, self.cell.start(source)

    def embed(self, tokens):
        return tf.one_hot(tokens, self.cell.output_size)

    def project(self, output):
        return output


def answers_of(result):
    """[B] lists of (answer up to its length, score) without the places that hold none."""
    return [
        [
            (tuple(ids[k, : lengths[k]].tolist()), scores[k])
            for k in range(len(scores))
            if np.isfinite(scores[k])
        ]
        for ids, lengths, scores in zip(*(part.numpy() for part in result[:3]))
    ]
