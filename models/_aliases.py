"""Made documents that state a relation by an alias, for `models.bran`."""

import numpy as np

ENTITIES, ALIASES, NOISE = 8, 12, 20
HEAD, TAIL, ALIAS, IS = 2, 2 + ENTITIES, 2 + 2 * ENTITIES, 2 + 2 * ENTITIES + ALIASES
VOCABULARY = IS + 3 + NOISE  # after IS the two verbs


def documents(count: int, rng: np.random.Generator, gap: int = 6):
    """Documents in which "h is a", "t is a" and "a verb" stand apart, for two aliases.

    h of 8 heads, t of 8 tails, a of 12 aliases, two verbs, and `gap` words of noise after each
    fact. The relation of h and t is 1 + the verb of their alias, or 0 if it is not the same.

    -> (tokens [N, S], heads [N, 4, 1], tails [N, 4, 1]),
       {"relations": [N, 4], "tags": [N, S]}, 1 for heads and 2 for tails; int32.
    """
    rows = [_document(rng, gap) for _ in range(count)]
    tokens, heads, tails, relations = (np.array(part, np.int32) for part in zip(*rows))
    tags = (np.searchsorted([HEAD, TAIL, ALIAS], tokens, "right") % 3).astype(np.int32)
    return (tokens, heads[..., None], tails[..., None]), {"relations": relations, "tags": tags}


def _document(rng, gap):
    heads, tails = (rng.choice(ENTITIES, 2, replace=False) + first for first in (HEAD, TAIL))
    aliases = rng.choice(ALIASES, 2, replace=False) + ALIAS
    verbs = rng.integers(0, 2, 2)
    facts = [[x, IS, a] for names in (heads, tails) for x, a in zip(names, aliases)]
    facts += [[a, IS + 1 + verb] for a, verb in zip(aliases, verbs)]
    facts = [facts[n] for n in rng.permutation(len(facts))]
    noise = rng.integers(IS + 3, VOCABULARY, (len(facts), gap))
    tokens = [token for fact, words in zip(facts, noise) for token in (*fact, *words)]
    pairs = [(i, j) for i in range(2) for j in range(2)]
    head_places = [tokens.index(heads[i]) for i, _ in pairs]
    tail_places = [tokens.index(tails[j]) for _, j in pairs]
    return tokens, head_places, tail_places, [(1 + verbs[i]) * (i == j) for i, j in pairs]


def words(tokens: np.ndarray) -> list[str]:
    """Names of ids."""
    names = ["", "?", *(f"{kind}{n}" for kind in "ht" for n in range(ENTITIES))]
    names += [f"a{n}" for n in range(ALIASES)] + ["is", "verb1", "verb2"]
    return [names[token] if token < len(names) else "." for token in tokens]


def f1(found: np.ndarray, relations: np.ndarray) -> float:
    """F1 of the pairs with a relation (not 0), in percent."""
    right = np.sum((found == relations) & (relations > 0))
    return 200 * right / max(np.sum(found > 0) + np.sum(relations > 0), 1)
