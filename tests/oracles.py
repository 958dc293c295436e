"""The papers' formulas in plain NumPy and plain loops: slow, short, and nobody's port.

B batch, T target steps, S source steps, D width, K hypotheses, V vocabulary. Float64 throughout.
"""

import itertools

import numpy as np

# -- attention


def softmax(scores, mask=None):
    """[..., S] -> [..., S]; zeros where the mask is False, also everywhere."""
    scores = np.asarray(scores, np.float64)
    mask = np.broadcast_to(True if mask is None else mask, scores.shape)
    weights = np.zeros_like(scores)
    for row in np.ndindex(scores.shape[:-1]):
        seen = mask[row]
        if seen.any():
            powers = np.exp(scores[row][seen] - scores[row][seen].max())
            weights[row][seen] = powers / powers.sum()
    return weights


def hardmax(scores, mask=None):
    """One at the first of the best slots that may be seen.  [..., S]."""
    scores = np.asarray(scores, np.float64)
    mask = np.broadcast_to(True if mask is None else mask, scores.shape)
    weights = np.zeros_like(scores)
    for row in np.ndindex(scores.shape[:-1]):
        if mask[row].any():
            weights[row][np.argmax(np.where(mask[row], scores[row], -np.inf))] = 1
    return weights


def _bisected(scores, mask, weigh):
    """weigh(scores - tau) with the tau for which it sums to 1, found by halving.  [..., S]."""
    scores = np.asarray(scores, np.float64)
    mask = np.broadcast_to(True if mask is None else mask, scores.shape)
    weights = np.zeros_like(scores)
    for row in np.ndindex(scores.shape[:-1]):
        seen = mask[row]
        if seen.any():
            z = scores[row][seen] - scores[row][seen].max()
            low, high = -2.0, 0.0
            for _ in range(100):
                tau = (low + high) / 2
                low, high = (tau, high) if weigh(z - tau).sum() > 1 else (low, tau)
            weights[row][seen] = weigh(z - tau)
    return weights


def sparsemax(scores, mask=None):
    """max(score - tau, 0), summing to 1.  [..., S]."""
    return _bisected(scores, mask, lambda z: np.maximum(z, 0))


def entmax15(scores, mask=None):
    """max((score - tau) / 2, 0)^2, summing to 1.  [..., S]."""
    return _bisected(scores, mask, lambda z: np.maximum(z / 2, 0) ** 2)


def monotonic(p, previous):
    """A pointer at j with probability previous_j walks on until it stops.  [..., S] -> [..., S]."""
    attention = np.zeros(np.shape(p))
    for row in np.ndindex(attention.shape[:-1]):
        for begin, probability in enumerate(previous[row]):
            for slot in range(begin, attention.shape[-1]):
                attention[row][slot] += probability * p[row][slot]
                probability *= 1 - p[row][slot]
    return attention


def luong_scores(query, memory, kernel, scale=1.0):
    """g q·(W m).  [B, D], [B, S, M], [M, D] -> [B, S]."""
    return scale * np.einsum("bd,bsd->bs", query, memory @ kernel)


def bahdanau_scores(query, memory, query_kernel, memory_kernel, v, g=None, b=0.0):
    """v·tanh(W q + U m), or g v/|v|·tanh(W q + U m + b).  -> [B, S]."""
    direction = v if g is None else g * v / np.sqrt(np.sum(v**2))
    hidden = np.tanh((query @ query_kernel)[:, None] + memory @ memory_kernel + b)
    return hidden @ direction


def padding(lengths, steps):
    """[B] -> [B, S] bool."""
    return np.arange(steps) < np.asarray(lengths)[:, None]


# -- cells, with the layout of the weights of Keras


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def simple_rnn(x, h, kernel, recurrent, bias):
    """-> h."""
    return np.tanh(x @ kernel + h @ recurrent + bias)


def gru(x, h, kernel, recurrent, bias):
    """Gates z, r, h; the reset gate stands behind the recurrent product.  -> h."""
    from_x = np.split(x @ kernel + bias[0], 3, axis=-1)
    from_h = np.split(h @ recurrent + bias[1], 3, axis=-1)
    z, r = (sigmoid(from_x[i] + from_h[i]) for i in range(2))
    return z * h + (1 - z) * np.tanh(from_x[2] + r * from_h[2])


def lstm(x, h, c, kernel, recurrent, bias):
    """Gates i, f, g, o.  -> h, c."""
    i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


# -- search


def length_penalty(length, weight):
    """((5 + length) / 6)^weight (Wu et al., 2016)."""
    return ((5 + length) / 6) ** weight


def coverage_penalty(alignments, weight):
    """weight * sum_s log min(sum_t alignment, 1), over the slots that were seen.  [T, S]."""
    seen = np.asarray(alignments, np.float64).sum(0)
    return weight * np.log(np.minimum(seen[seen > 0], 1)).sum()


def answers(vocabulary, steps, end):
    """Every answer of at most `steps` tokens: ended by its first end token, or cut off."""
    others = [token for token in range(vocabulary) if token != end]
    for length in range(1, steps + 1):
        for body in itertools.product(others, repeat=length - 1):
            yield (*body, end)
    yield from itertools.product(others, repeat=steps)


def log_prob(answer, log_p, start):
    """log p of a whole answer, with log_p(t, previous) -> [V]."""
    return sum(
        log_p(t, previous)[token]
        for t, (previous, token) in enumerate(zip((start, *answer), answer))
    )


def beam_search(log_p, width, steps, start, end, weight=0.0):
    """The search of tf.contrib.seq2seq as a list of hypotheses: [(answer, log p)], best first.

    The end token does not count for the length in the step that takes it, and counts afterwards.
    """
    beams = [((), 0.0)]
    for t in range(steps):
        candidates = []
        for answer, total in beams:
            length = len(answer)
            if answer and answer[-1] == end:
                candidates.append((total / length_penalty(length, weight), answer, total))
                continue
            for token, extra in enumerate(log_p(t, answer[-1] if answer else start)):
                grown = length + (token != end)
                score = (total + extra) / length_penalty(grown, weight)
                candidates.append((score, (*answer, token), total + extra))
        candidates.sort(key=lambda candidate: -candidate[0])
        beams = [(answer, total) for _, answer, total in candidates[:width]]
        if all(answer[-1] == end for answer, _ in beams):
            break
    return beams


def gather_tree(ids, parents, lengths, end):
    """[T, B, K], [T, B, K], [B] -> [T, B, K]: from the last real step back to the first."""
    ids, parents = np.asarray(ids), np.asarray(parents)
    traced = np.full(ids.shape, end)
    steps = ids.shape[0]
    for b, k in np.ndindex(ids.shape[1:]):
        beam = k
        for t in reversed(range(min(lengths[b], steps))):
            traced[t, b, k] = ids[t, b, beam]
            beam = parents[t, b, beam]
        ended = np.flatnonzero(traced[:, b, k] == end)
        if ended.size:
            traced[ended[0] :, b, k] = end
    return traced


# -- loss


def cross_entropy(logits, targets):
    """-log softmax(logits)[target].  [B, T, V], [B, T] -> [B, T]."""
    logits = np.asarray(logits, np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -np.take_along_axis(log_p, np.asarray(targets)[..., None], -1)[..., 0]
