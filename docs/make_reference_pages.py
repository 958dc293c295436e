"""Write the reference pages docs/decoding.md, docs/text.md ... from the docstrings.

    python docs/make_reference_pages.py

A page has the docstring of its package, an index of the public names, and for each name its
signature, its docstring and its example. The examples are run by pytest, as doctests.
"""

import doctest
import enum
import importlib
import inspect
import pathlib
import re
from typing import Any

DOCS = pathlib.Path(__file__).parent
PACKAGES = ("decoding", "text", "data", "training", "export", "visualize")


def public(package: str) -> dict[str, Any]:
    """The public functions and classes of a package, by name, in alphabetical order."""
    module = importlib.import_module(f"keras_attention.{package}")
    names = sorted(module.__all__, key=str.lower)
    things = {name: getattr(module, name) for name in names}
    return {name: thing for name, thing in things.items() if not inspect.ismodule(thing)}


def page(package: str) -> str:
    """The page of one package, in Markdown."""
    module = importlib.import_module(f"keras_attention.{package}")
    names = public(package)
    title, *rest = (inspect.getdoc(module) or "").split("\n\n", 1)
    index = "\n".join(
        f"| [`{name}`](#{name.lower()}) | {_first_sentence(thing)} |"
        for name, thing in names.items()
    )
    parts = [
        f"# keras_attention.{package}",
        "Written by `python docs/make_reference_pages.py` from the docstrings.",
        title,
        *(_markdown(part) for part in rest),
        f"| name | what |\n|---|---|\n{index}",
        *(_section(package, name, thing) for name, thing in names.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _section(package, name, thing):
    parts = [f"## {name}", *([_signature(name, thing)] if callable(thing) else [])]
    return "\n\n".join([*parts, _markdown(_doc(thing))])


def _doc(thing):
    doc = inspect.getdoc(thing) if callable(thing) else None
    return doc or f"A constant: `{thing!r}`."


def _first_sentence(thing):
    first = re.sub(r"\s+", " ", _doc(thing).split("\n\n")[0]).strip()
    return re.split(r"(?<=[.;])\s", first.replace("|", r"\|"))[0].rstrip(";")


def _signature(name, thing):
    """`name(a: int, b=1) -> str` as a block; long ones have one argument a line."""
    if inspect.isclass(thing) and issubclass(thing, (enum.Enum, BaseException)):
        return f"```python\nclass {name}({thing.__mro__[1].__name__})\n```"
    try:
        found = inspect.signature(thing)
    except ValueError:
        return f"```python\n{name}\n```"
    arguments = list(_with_stars(found))
    returns = found.return_annotation
    result = "" if returns in (found.empty, None) or inspect.isclass(thing) else _result(returns)
    line = f"{name}({', '.join(arguments)}){result}"
    if len(line) > 96:
        inner = "".join(f"    {argument},\n" for argument in arguments)
        line = f"{name}(\n{inner}){result}"
    return f"```python\n{line}\n```"


def _with_stars(signature):
    """The parameters, with `*` and `/` where they stand in the source."""
    kinds = inspect.Parameter
    seen_star = False
    parameters = list(signature.parameters.values())
    for i, parameter in enumerate(parameters):
        if parameter.kind is kinds.VAR_POSITIONAL:
            seen_star = True
        if parameter.kind is kinds.KEYWORD_ONLY and not seen_star:
            seen_star = True
            yield "*"
        yield _plain(str(parameter))
        last = i + 1 == len(parameters) or parameters[i + 1].kind is not kinds.POSITIONAL_ONLY
        if parameter.kind is kinds.POSITIONAL_ONLY and last:
            yield "/"


def _result(annotation):
    return f" -> {_plain(inspect.formatannotation(annotation))}"


def _plain(annotation):
    """Types and functions without the modules that they come from."""
    annotation = re.sub(r"<function (\S+) at 0x\w+>", r"\1", annotation)
    return re.sub(r"\b(?:\w+\.)+(?=[A-Z])", "", annotation)


def _markdown(doc):
    """A docstring as Markdown: indented blocks as text, examples as they are typed."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", doc):
        if paragraph.startswith(">>>"):
            parts.append(f"```pycon\n{_shown(paragraph)}\n```")
        elif paragraph.startswith("    "):
            parts.append(f"```text\n{inspect.cleandoc(paragraph)}\n```")
        elif re.match(r"(Args|Call|Returns|Raises|Attributes|Fields)\b.*:\n", paragraph):
            head, block = paragraph.split("\n", 1)
            parts.append(f"{head}\n\n```text\n{inspect.cleandoc(' ' * 4 + block.lstrip())}\n```")
        else:
            parts.append(paragraph)
    return "\n\n".join(parts)


def _shown(paragraph):
    """The examples of a paragraph, without the comments that steer doctest."""
    doctest.DocTestParser().get_examples(paragraph)  # a broken one is an error here
    return re.sub(r"\s*# doctest: .*", "", paragraph)


if __name__ == "__main__":
    for package in PACKAGES:
        (DOCS / f"{package}.md").write_text(page(package), encoding="utf-8")
        print(f"docs/{package}.md: {len(public(package))} names")
