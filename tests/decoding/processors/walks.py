"""Every answer that a processor lets through, found by walking on with all that it allows."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_attention.seq2seq import SearchInfo
from tests import oracles

END, START = 0, 1  # the start token is a word like any other: it must not count as said
STEPS, VOCABULARY = 5, 4


class Walk(NamedTuple):
    answers: list  # [B] sets of answers, ended or cut off
    stuck: list  # [B] sets of beginnings after which nothing may be said


def told(batch=1, width=1, steps=STEPS, vocabulary=VOCABULARY, **more):
    return SearchInfo(batch, width, steps, END, vocabulary, **more)


def walk(processor, batch=1, steps=STEPS, vocabulary=VOCABULARY, **more):
    """Breadth first; the state follows the beginnings as it does in a search."""
    state = processor.init(told(batch, 1, steps, vocabulary, **more))
    rows, tokens = [(b, ()) for b in range(batch)], [START] * batch
    found = Walk([set() for _ in rows], [set() for _ in rows])
    for step in range(steps):
        state = processor.advance(state, tf.constant(tokens, tf.int32))
        given = np.random.normal(size=(len(rows), vocabulary)).astype(np.float32)
        left = processor.apply(tf.constant(given), state).numpy()
        allowed = left != -np.inf
        np.testing.assert_array_equal(left[allowed], given[allowed])  # not raised
        parents, grown = [], []
        for row, (b, path) in enumerate(rows):
            longer = [(*path, int(token)) for token in np.flatnonzero(allowed[row])]
            if not longer:
                found.stuck[b].add(path)
            over = [p for p in longer if p[-1] == END or step == steps - 1]
            found.answers[b].update(over)
            for path in sorted(set(longer) - set(over)):
                parents.append(row)
                grown.append((b, path))
        if not grown:
            break
        state = gather(state, parents)
        rows, tokens = grown, [path[-1] for _, path in grown]
    return found


def gather(state, rows):
    """The state of these rows."""
    return tf.nest.map_structure(lambda leaf: tf.gather(leaf, rows), state)


def those(holds, *given, steps=STEPS, vocabulary=VOCABULARY):
    """The answers for which something holds."""
    return {a for a in oracles.answers(vocabulary, steps, END) if holds(a, *given)}


def words(answer):
    """Without the end token."""
    return answer[:-1] if answer[-1] == END else answer


def says(answer, phrase):
    n = len(phrase)
    return any(answer[i : i + n] == tuple(phrase) for i in range(len(answer) - n + 1))


def some_phrases(most, longest):
    """Up to `most` phrases of words, drawn so that they often overlap and repeat themselves."""
    sizes = np.random.randint(1, longest + 1, np.random.randint(1, most + 1))
    words = np.random.choice((1, 2, 3), np.random.randint(1, 4), replace=False)
    return [tuple(np.random.choice(words, size).tolist()) for size in sizes]


def after(processor, *tokens, **more):
    """The state of a row that has taken the start token and these."""
    state = processor.init(told(**more))
    for token in (START, *tokens):
        state = processor.advance(state, tf.constant([token]))
    return state


def open_tokens(processor, state, vocabulary=VOCABULARY):
    """Which tokens may come next: [N] lists of ids."""
    rows = tf.nest.flatten(state)[0].shape[0]
    left = processor.apply(tf.zeros([rows, vocabulary]), state)
    return [np.flatnonzero(np.isfinite(row)).tolist() for row in left]
