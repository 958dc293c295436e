"""Constituency parsing as translation (Vinyals et al., 2015; Vaswani et al., 2017, section 6.3).

    the dog barks  ->  (S (NP XX XX )NP (VP XX )VP )S

    transformer      the Transformer reads the words and writes the brackets
    lstm+attention   an LSTM reads the words backwards, another with attention writes
    lstm             the same without attention: all it knows is the reader's last state

`python -m models.parser` learns a small grammar with centre embedding.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_attention.data import batches
from keras_attention.training import token_objective
from models import RNNSeq2Seq, Transformer
from models._base import EncoderDecoder
from models._trees import Tree, bracket_f1, is_well_formed, linear, repaired, words

RNN: dict[str, Any] = dict(cell="lstm", bidirectional=False, bridge="pass", attention=None)
# The sizes of the papers are layers=4, width=1024 and layers=3, units=256.
MODELS: dict[str, Any] = {
    "transformer": Transformer,
    "lstm+attention": lambda size, **sizes: RNNSeq2Seq(
        size, **{**RNN, "attention": "bahdanau", **sizes}
    ),
    "lstm": lambda size, **sizes: RNNSeq2Seq(size, **{**RNN, **sizes}),
}


class Parsed(NamedTuple):
    """What a parser answers to N sentences.

    >>> Parsed([["(S", "XX", ")S"]], [("S", ("go",))], [True], None).well_formed
    [True]
    """

    brackets: list[list[str]]  # as they were written
    trees: list[Tree]  # repaired where needed
    well_formed: list[bool]  # whether each needed none
    alignments: Any  # N x [brackets and end, words and end], if requested


class Parser:
    """A vocabulary of words and brackets, and an encoder-decoder of its ids.

    Args:
        kind: "transformer", "lstm+attention" or "lstm".
        tokens: what has an id, see `Parser.tokens_of`.
        sizes: arguments of `Transformer` or `RNNSeq2Seq`.

    Raises ValueError for another kind.

    >>> trees = [("S", (("NP", ("the", "dog")), ("VP", ("barks",))))]
    >>> parser = Parser("lstm", Parser.tokens_of(trees), units=8)
    >>> sources, targets = parser.ids(trees)
    >>> parser.tokens[sources[0][0]], [parser.tokens[bracket] for bracket in targets[0][:3]]
    ('barks', ['(S', '(NP', 'XX'])
    >>> words(parser.parse([["the", "cat", "barks"]]).trees[0])  # an unknown word is no error
    ['the', 'cat', 'barks']
    """

    def __init__(self, kind: str, tokens: Sequence[str], **sizes):
        if kind not in MODELS:
            raise ValueError(f"kind must be one of {list(MODELS)}. Received: {kind!r}")
        self.kind = kind
        self.tokens = ["", "<s>", "</s>", "<unk>", *tokens]
        self._ids = {token: number for number, token in enumerate(self.tokens)}
        self.model: EncoderDecoder = MODELS[kind](len(self.tokens), **sizes)

    @staticmethod
    def tokens_of(trees: Sequence[Tree]) -> list[str]:
        """All words and brackets of some trees."""
        return sorted({token for tree in trees for token in (*words(tree), *linear(tree))})

    def ids(self, trees: Sequence[Tree]) -> tuple[list, list]:
        """What the model reads and writes for each tree: rows of ids, for `data.batches`.

        Raises ValueError for a bracket that this parser does not know.
        """
        targets = [linear(tree) for tree in trees]
        unknown = sorted({token for row in targets for token in row} - {*self._ids})
        if unknown:
            raise ValueError(f"Every bracket must be a token of this parser. Received: {unknown}")
        written = [[self._ids[token] for token in row] for row in targets]
        return [self._source(words(tree)) for tree in trees], written

    def _source(self, sentence):
        return self._in_order([self._ids.get(word, 3) for word in sentence])

    def _in_order(self, row):
        """Words as the model reads them, and back: LSTMs read backwards."""
        return row if self.kind == "transformer" else row[::-1]

    def parse(self, sentences: Sequence[Sequence[str]], alignments=False, **settings) -> Parsed:
        """The best trees of N sentences of words, by `generate` of the model; of 0 words: TOP."""
        longest = max(map(len, sentences), default=0)
        rows = np.zeros([len(sentences), longest + 1], np.int32)
        for row, sentence in zip(rows, sentences):
            row[: len(sentence) + 1] = [*self._source(sentence), self.model.end_id]
        settings = {"max_length": 6 * longest + 10, **settings}
        found = self.model.generate(rows, return_alignments=alignments, **settings)
        ids, lengths = found.ids.numpy()[:, 0], found.lengths.numpy()[:, 0]
        written, trees, good, maps = [], [], [], []
        for number, sentence in enumerate(sentences):
            length = lengths[number]
            brackets = [self.tokens[i] for i in ids[number, :length]]
            ended = brackets[-1:] == ["</s>"]
            brackets = brackets[: length - ended]
            written.append(brackets)
            trees.append(repaired(brackets, sentence))
            good.append(ended and is_well_formed(brackets, len(sentence)))
            if alignments:
                order = [*self._in_order(range(len(sentence))), len(sentence)]
                maps.append(found.alignments[number, 0, :length].numpy()[:, order])
        return Parsed(written, trees, good, maps if alignments else None)


# -- a grammar: "of" belongs to the noun before it, "in" to the verb outside of relative clauses

NOUNS, NAMES = "dog cat bird girl boy king".split(), "mary john".split()
VERBS, SAID = "saw found chased liked".split(), "said knew".split()


def grammar(count: int, rng: np.random.Generator, depth: int = 4, longest: int = 30) -> list[Tree]:
    """Trees of at most `longest` words, with phrases in phrases up to `depth`.

    "the dog that the cat that mary saw chased found a bird in the house of the king"
    """
    found: list[Tree] = []
    while len(found) < count:
        tree = _sentence(rng, depth)
        if len(words(tree)) <= longest:
            found.append(tree)
    return found


def _sentence(rng, depth) -> Tree:
    return ("S", (_noun_phrase(rng, depth), _verb_phrase(rng, depth)))


def _noun_phrase(rng, depth) -> Tree:
    if rng.random() < 0.2:
        return ("NP", (str(rng.choice(NAMES)),))
    adjective = ["old"] if rng.random() < 0.2 else []
    phrase = ("NP", (str(rng.choice(["the", "this"])), *adjective, str(rng.choice(NOUNS))))
    kind = rng.random()
    if not depth or kind > 0.45:
        return phrase
    if kind < 0.2:
        return ("NP", (phrase, ("PP", ("of", _noun_phrase(rng, depth - 1)))))
    if kind < 0.35:  # centre embedding: the clause stands before the verb of its noun
        clause = ("S", (_noun_phrase(rng, depth - 1), ("VP", (str(rng.choice(VERBS)),))))
    else:
        clause = ("S", (_verb_phrase(rng, depth - 1, relative=True),))
    return ("NP", (phrase, ("SBAR", ("that", clause))))


def _verb_phrase(rng, depth, relative=False) -> Tree:
    if depth and not relative and rng.random() < 0.2:
        return ("VP", (str(rng.choice(SAID)), ("SBAR", ("that", _sentence(rng, depth - 1)))))
    place = not relative and rng.random() < 0.3
    inside: tuple = (("PP", ("in", _noun_phrase(rng, 0))),) if place else ()
    return ("VP", (str(rng.choice(VERBS)), _noun_phrase(rng, max(depth - 1, 0)), *inside))


def main() -> None:
    """Train on short sentences, print F1 of new ones, and draw what brackets attend to."""
    from keras_attention.visualize import heat_map, save

    rng = np.random.default_rng(0)
    trees, new = grammar(12_800, rng, 1, 10), grammar(200, rng, 1, 10)
    parser = Parser("lstm+attention", Parser.tokens_of(trees), units=64)
    parser.model.compile(keras.optimizers.Adam(5e-3), **token_objective())
    parser.model.fit(batches(*parser.ids(trees), 64, seed=0), shuffle=False, epochs=2, verbose=2)
    found = parser.parse([words(tree) for tree in new], alignments=True)
    one = next(i for i, tree in enumerate(new) if found.well_formed[i] and len(words(tree)) == 8)
    source, target = ([*side, "(end)"] for side in (words(new[one]), found.brackets[one]))
    save(heat_map(found.alignments[one], source, target), "parser.png")
    print("parser.png: brackets (rows) and the words that they attend to")
    print(f"well-formed: {np.mean(found.well_formed):.3f}")
    print(f"F1 of the constituents: {bracket_f1(new, found.trees)['f1']:.1f}")


if __name__ == "__main__":
    main()
