"""Write docs/attention.md, paper -> name -> equation -> example, from the docstrings.

    python docs/make_attention_page.py

A docstring gives its paper in parentheses with a year, its equation as the first indented block or
in its first line, its shapes with an arrow, and its example as a doctest.
"""

import doctest
import inspect
import pathlib
import re
from typing import Any, NamedTuple

import keras_attention
from keras_attention import functional, layers
from keras_attention.layers import cores

PAGE = pathlib.Path(__file__).parent / "attention.md"

FAMILIES = {
    "Scores": ("functional.scores", "layers.scores"),
    "Normalisers": ("functional.normalizers", "functional.monotonic"),
    "Masks": ("functional.masks",),
    "Positions": ("functional.positions", "functional.relative", "layers.embeddings"),
    "Attention, composed": (
        "functional.attend",
        "layers.attention",
        "layers.local",
        "layers.memory_attention",
    ),
    "Hard attention and selection": ("functional.reinforce", "layers.hard", "layers.selection"),
    "Heads": (
        "layers.multi_head",
        "layers.cores.core",
        "layers.cores.full",
        "layers.cores.relative",
        "layers.cores.distance",
        "layers.head_variants",
        "layers.distance",
    ),
    "Long sequences": (
        "functional.banded",
        "functional.sparse",
        "layers.cores.sparse",
        "functional.linear",
        "layers.cores.linear",
        "layers.linear",
        "functional.chunked",
        "layers.cores.chunked",
    ),
    "Directions": ("layers.directional",),
    "Pooling": ("functional.penalties", "layers.pooling", "layers.hierarchical"),
    "Looking at one's own past": ("functional.temporal", "layers.intra", "layers.intra_decoder"),
    "Pointing and copying": ("functional.pointing", "layers.pointer"),
    "Memory": ("functional.addressing", "layers.memory"),
    "Images and videos": (
        "functional.places",
        "functional.pairwise",
        "layers.non_local",
        "layers.sagan",
        "functional.windows",
        "layers.windows",
        "layers.patches",
        "functional.glimpse",
        "layers.glimpse",
    ),
    "Mixing without attention": ("layers.mixing", "layers.gated_mlp"),
    "Blocks": (
        "functional.packing",
        "layers.blocks",
        "layers.dropout",
        "functional.gates",
        "functional.dilations",
        "layers.snail",
        "layers.transformer_block",
        "layers.transformer",
        "layers.decoder_cell",
        "layers.bridge",
    ),
    "Recurrence": (
        "functional.recurrence",
        "functional.recurrent_cells",
        "functional.recurrent_attention",
    ),
    "Labels of a sequence": ("functional.crf",),
    "Losses": ("functional.linear_cross_entropy", "layers.linear_cross_entropy"),
    "Tools": ("functional.ids",),
}

NO_PAPER = {
    "functional.with_initial_state": "the first state of a normaliser",
    "layers.MemoryAttention": "the contract with RNN decoders",
    "functional.Memory": "what all attentions look at",
    "functional.as_ids": "a check of types",
    "functional.attend": "the sum that ends all attentions",
    "functional.block": "a mask of blocks, in use since before attention",
    "functional.flatten_places": "a reshape",
    "functional.hardmax": "a one at the largest",
    "functional.padding": "what every padded batch needs",
    "functional.pool_places": "max-pooling under a mask",
    "functional.softmax": "older than attention",
    "functional.taken_before": "what was chosen is known",
    "functional.safe_cumprod": "numerics of monotonic attention",
    "functional.LinearCrossEntropyOutput": "what `linear_cross_entropy` returns",
    "functional.Recurrence": "what `recurrence` returns",
    "functional.recurrence": "a loop over cells and attentions of papers",
    "functional.LinearState": "the state of `linear_step`",
    "cores.CacheSlots": "the steps of a `Cache`",
    "cores.Core": "what `MultiHeadAttention` asks of a core",
    "layers.Cache": "the state of `MultiHeadAttention.step`",
    "layers.Choice": "what `HardAttention` returns",
    "layers.DecoderState": "the state of `TransformerCell`",
    "layers.IntraDecoderState": "the state of `IntraDecoderCell`",
    "layers.LSTMNState": "the state of `LSTMNCell`",
    "layers.NTMState": "the state of `NTMCell`",
    "layers.Selection": "what `TokenSelector` returns",
}

_YEAR = r"\b(?:19|20)\d\d\b"
_AUTHORS = r"(?:van den )?[A-Z][\w-]+(?:(?:, [A-Z][\w-]+)*(?:,? (?:and|&) [A-Z][\w-]+)| et al\.)?"
_PLACE = r"\((eqs?\. [^()]*|section [^()]*|figure [^()]*)\)"


class Entry(NamedTuple):
    """What the page says of one public name."""

    name: str
    paper: str
    prose: list
    equation: str
    example: str


def public() -> dict[str, Any]:
    """Every public name of the packages, as `package.Name`."""
    rooms = {"functional": functional, "layers": layers, "cores": cores}
    return {f"{room}.{name}": getattr(m, name) for room, m in rooms.items() for name in m.__all__}


def entry(name: str, thing: Any) -> Entry:
    """Read a docstring."""
    doc = inspect.getdoc(thing) or ""
    text = doc.split(">>>")[0].rstrip()
    paragraphs = re.split(r"\n\s*\n", text)
    equations = [p for p in paragraphs if all(line.startswith("    ") for line in p.splitlines())]
    told = [p for p in paragraphs[1:] if p not in equations and not re.match(r"\w+:", p)]
    shapes = [p for p in told if "->" in p and "->" not in paragraphs[0]][:1]
    return Entry(
        name,
        paper(text, inspect.getmodule(thing).__doc__ or ""),
        [prose for prose in map(_without_papers, [paragraphs[0], *shapes]) if prose],
        inspect.cleandoc(equations[0]) if equations else "",
        "".join(_shown(example) for example in doctest.DocTestParser().get_examples(doc)),
    )


def paper(text: str, of_module: str) -> str:
    """Every parenthesis with a year; or that of the module, with the equations named here."""
    found = _papers(text)
    if not found:
        found = _papers(of_module)[:1]
        found += re.findall(_PLACE, _line(text)) if found else []
        return ", ".join(found)
    return "; ".join(found)


def _papers(text):
    text = re.sub(
        rf"({_AUTHORS}) \(({_YEAR})\)((?:, section [\d.]*\d)?)", r"(\1, \2\3)", _line(text)
    )
    groups = re.findall(rf"\(([^()]*{_YEAR}[^()]*)\)", text)
    return [re.split(r"(?<!al)(?<!eq)(?<!eqs)\.\s+(?=[A-Z])", g)[0].rstrip(".") for g in groups]


def _without_papers(text):
    text = re.sub(rf"\s*\([^()]*{_YEAR}[^()]*\)", "", _line(text))
    return re.sub(rf"\s*{_PLACE}", "", text).lstrip(".").strip()


def _line(text):
    return re.sub(r"\s+", " ", text).strip()


def _shown(example):
    first, *more = example.source.splitlines()
    return "\n".join([f">>> {first}", *(f"... {line}" for line in more), example.want])


def page() -> str:
    """The whole page."""
    families = {title: [] for title in FAMILIES}
    title_of = {module: title for title, modules in FAMILIES.items() for module in modules}
    for name, thing in public().items():
        module = thing.__module__.removeprefix(f"{keras_attention.__name__}.")
        if module not in title_of:
            raise ValueError(f"FAMILIES must name {module}, the module of {name}.")
        title = title_of[module]
        order = FAMILIES[title].index(module), inspect.getsourcelines(thing)[1]
        families[title].append((order, entry(name, thing)))
    entries = {title: [e for _, e in sorted(found)] for title, found in families.items()}
    everything = [e for found in entries.values() for e in found]
    parts = [_HEAD, _index(everything)]
    for title, found in entries.items():
        parts += [f"## {title}", *map(_section, found)]
    return "\n\n".join(parts) + "\n"


def _index(entries):
    """Every paper, by year, and what comes of it."""
    names: dict = {}
    for e in entries:
        for found in re.findall(rf"{_AUTHORS},? {_YEAR}(?:, (?:DiSAN|ReSAN))?", e.paper):
            names.setdefault(found, []).append(f"[`{e.name}`](#{_anchor(e.name)})")
    rows = sorted(names, key=lambda found: (re.findall(_YEAR, found), found))
    return "\n".join(
        ["| paper | here |", "|---|---|", *(f"| {row} | {', '.join(names[row])} |" for row in rows)]
    )


def _section(e):
    parts = [f"### {e.name}", f"*{e.paper or 'No paper: ' + NO_PAPER[e.name]}*", *e.prose]
    if e.equation:
        parts.append(f"```text\n{e.equation}\n```")
    return "\n\n".join([*parts, f"```pycon\n{e.example.rstrip()}\n```"])


def _anchor(name):
    return name.lower().replace(".", "")


_HEAD = """\
# Attention, paper by paper

Written by `python docs/make_attention_page.py` from the docstrings; the tests run every example.
Letters: B batch, T queries, S memory slots, D width, H heads, K hypotheses, V vocabulary; Y rows
and X columns of an image. Masks are boolean, True = may look. The examples begin with

```python
import keras
import numpy as np
import tensorflow as tf

from keras_attention.functional import *
from keras_attention.layers import *
from keras_attention.layers.cores import *
```"""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE}: {len(public())} names")
