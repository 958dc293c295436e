"""Constituency trees: as text, as a sequence of brackets and back, and their score.

A tree is `(label, children)`; a child is a tree or a word.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

Tree = tuple[str, tuple]  # (label, children)

WORD = "XX"  # stands for every word, as parts of speech do not matter (Vinyals et al., 2015)
PUNCTUATION = frozenset((",", ".", ":", ";", "?", "!", "``", "''", "--", "..."))


def read_tree(text: str) -> Tree:
    """A tree in the format of the Penn Treebank, without its parts of speech.

    A bracket without a label is TOP. Raises ValueError for text that is not one tree.

    >>> read_tree("(S (NP (DT the) (NN dog)) (VP (VBZ barks)))")
    ('S', (('NP', ('the', 'dog')), ('VP', ('barks',))))
    """

    def refuse(reason):
        raise ValueError(f"A tree must be (LABEL child ...) of trees and words. {reason}: {text!r}")

    stack: list[tuple[str, list]] = [("", [])]
    for token in re.findall(r"\([^\s()]*|\)|[^\s()]+", text):
        if token.startswith("("):
            stack.append((token[1:], []))
        elif token != ")":
            stack[-1][1].append([token])  # a word in a list has no part of speech yet
        elif len(stack) < 2:
            refuse("Received: a bracket too many")
        else:
            label, children = stack.pop()
            if not children:
                refuse(f"Received: an empty {label}")
            tagged = len(children) == 1 and isinstance(children[0], list)
            words_and_trees = tuple(c[0] if isinstance(c, list) else c for c in children)
            whole = len(stack) == 1  # a tree of one word, such as (S go)
            node = (label or "TOP", words_and_trees)
            stack[-1][1].append(words_and_trees[0] if tagged and not whole else node)
    if len(stack) != 1 or len(stack[0][1]) != 1 or isinstance(stack[0][1][0], list):
        refuse("Received: open brackets, or not one tree")
    tree: Any = stack[0][1][0]
    return tree


def words(tree: Tree) -> list[str]:
    """The words of a tree, in order.

    >>> words(("S", (("NP", ("the", "dog")), ("VP", ("barks",)))))
    ['the', 'dog', 'barks']
    """
    found: list[str] = []
    for child in tree[1]:
        found += [child] if isinstance(child, str) else words(child)
    return found


def linear(tree: Tree) -> list[str]:
    """Brackets depth first, closing ones with their label, XX for each word.

    >>> " ".join(linear(("S", (("NP", ("the", "dog")), ("VP", ("barks",))))))
    '(S (NP XX XX )NP (VP XX )VP )S'
    """
    inner = [linear(child) if isinstance(child, tuple) else [WORD] for child in tree[1]]
    return [f"({tree[0]}", *sum(inner, []), f"){tree[0]}"]


def is_well_formed(brackets: Sequence[str], count: int) -> bool:
    """Whether a sequence is that of one tree of `count` words."""
    return linear(repaired(brackets, [WORD] * count)) == list(brackets)


def repaired(brackets: Sequence[str], of: Sequence[str]) -> Tree:
    """The tree of any sequence of brackets over these words; of a well-formed one, its tree.

    A closing bracket also closes what is open inside of it, and is left out if nothing of its label
    is open; missing ones are added at the end. Words that are missing are added at the top, XX
    beyond the last word are left out, and so are constituents without words. What is not one tree
    then gets the label TOP.

    >>> repaired("(S (NP XX )VP XX )S )S".split(), ["the", "dog", "barks"])
    ('TOP', (('S', (('NP', ('the', 'dog')),)), 'barks'))
    """
    stack: list[tuple[str, list]] = [("TOP", [])]
    rest = list(reversed(of))

    def close():
        label, children = stack.pop()
        if children:
            stack[-1][1].append((label, tuple(children)))

    for token in brackets:
        if token == WORD:
            if rest:
                stack[-1][1].append(rest.pop())
        elif token.startswith("("):
            stack.append((token[1:], []))
        elif token[1:] in [label for label, _ in stack[1:]]:
            while stack[-1][0] != token[1:]:
                close()
            close()
    while len(stack) > 1:
        close()
    children = [*stack[0][1], *reversed(rest)]
    one = len(children) == 1 and isinstance(children[0], tuple)
    return children[0] if one else ("TOP", tuple(children))


def constituents(tree: Tree, ignored: Any = PUNCTUATION) -> Counter:
    """How often there is (label, first word, word after the last), without TOP.

    Words of `ignored` have no place, as in EVALB.

    >>> constituents(("S", (("NP", ("it",)), ("VP", ("is", ("NP", ("a", "dog")))), ".")))
    Counter({('S', 0, 4): 1, ('NP', 0, 1): 1, ('VP', 1, 4): 1, ('NP', 2, 4): 1})
    """
    found: Counter = Counter()

    def visit(node, first):
        if isinstance(node, str):
            return first + (node not in ignored)
        label, after = node[0], first
        place = len(order)
        order.append(None)
        for child in node[1]:
            after = visit(child, after)
        if label != "TOP" and after > first:
            order[place] = (label, first, after)
        return after

    order: list[Any] = []
    visit(tree, 0)
    found.update(key for key in order if key)
    return found


def bracket_f1(gold: Sequence[Tree], found: Sequence[Tree]) -> dict[str, float]:
    """Labelled precision, recall and F1, in %, over all constituents of N trees, as EVALB counts.

    Constituents are counted as often as they occur: (NP (NP dog)) has two. Raises ValueError for
    trees of other words.

    >>> one = ("S", (("NP", ("it",)), ("VP", ("barks",))))
    >>> round(bracket_f1([one], [("S", (("NP", ("it",)), "barks"))])["f1"], 1)
    80.0
    """
    right = wanted = claimed = 0
    for number, (one, other) in enumerate(zip(gold, found, strict=True)):
        if words(one) != words(other):
            raise ValueError(
                f"Both trees must have the same words. Received: {words(one)} and {words(other)} "
                f"as trees {number}"
            )
        some, others = constituents(one), constituents(other)
        right += (some & others).total()
        wanted, claimed = wanted + some.total(), claimed + others.total()
    f1 = 200 * right / max(wanted + claimed, 1)
    return {
        "f1": f1,
        "precision": 100 * right / max(claimed, 1),
        "recall": 100 * right / max(wanted, 1),
    }
