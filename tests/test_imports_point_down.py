"""backend <- functional <- layers <- decoding <- seq2seq <- contrib <- models <- apps."""

import ast
import functools
import pathlib

ROOT = pathlib.Path(__file__).parents[1]

# What each part of the house may import of the house. Parts of keras_attention go without its name.
FLOORS = ["backend", "functional", "layers", "decoding", "seq2seq", "contrib"]
BESIDE = ["training", "text", "data", "export", "visualize", "migrate"]
OPTIONAL = ["sentencepiece", "sacrebleu", "matplotlib", "gradio", "tensorflow_text"]
SERVING = ["fastapi", "starlette", "uvicorn", "grpc", "tensorflow_serving"]  # the extra's, too


def files():
    found = [f for top in ("keras_attention", "models", "apps") for f in (ROOT / top).rglob("*.py")]
    return sorted(file.relative_to(ROOT) for file in found)


def imports(tree, package):
    """Full names of all that is imported, each with whether that happens when the file is loaded.

    `from a.b import c` counts as a.b.c; a relative import is made absolute.
    """

    def visit(node, at_load):
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_load) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((f"{source}.{alias.name}", at_load) for alias in node.names)
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, at_load and not inside)

    return list(visit(tree, True))


@functools.cache
def imports_of_all():
    """file -> its imports; every file is parsed once."""
    return {
        file: imports(ast.parse((ROOT / file).read_text("utf-8")), file.with_suffix("").parts[:-1])
        for file in files()
    }


def part(name):
    """keras_attention.seq2seq.decoder -> seq2seq; models.rnn -> models; numpy -> None."""
    top, *rest = name.split(".")
    if top in ("models", "apps"):
        return top
    return (rest[0] if rest else "") if top == "keras_attention" else None


def allowed(importer):
    """The parts of the house that a part may import, besides itself."""
    if importer == "apps":
        return {*FLOORS, *BESIDE, "models", ""}
    if importer == "models":
        return {*FLOORS, *BESIDE, ""}
    if importer in FLOORS:
        return {*FLOORS[: FLOORS.index(importer)]}
    if importer == "migrate":  # it knows what contrib's cells keep their weights in
        return {"contrib", *BESIDE}
    if importer == "export":  # what it exports is a search
        return {"decoding", *BESIDE, "backend", "functional"}
    if importer == "":  # keras_attention/__init__.py is the door to all of it
        return {*FLOORS, *BESIDE}
    return {*BESIDE, "functional"}  # tensors in, tensors out: anybody may ask it


def part_of(file):
    name = part(".".join(file.with_suffix("").parts))
    return "" if name == "__init__" else name


def test_imports_only_point_down():
    wrong = [
        f"{file} imports {name}"
        for file, found in imports_of_all().items()
        for name, _ in found
        if part(name) not in {None, part_of(file), *allowed(part_of(file))}
    ]
    assert not wrong


def test_tensorflow_addons_is_a_peer_and_never_imported():
    wrong = [
        str(file)
        for file, found in imports_of_all().items()
        if any(name.startswith("tensorflow_addons") for name, _ in found)
    ]
    assert not wrong


def test_optional_packages_are_imported_where_they_are_used():
    wrong = [
        f"{file} imports {name} when it is loaded"
        for file, found in imports_of_all().items()
        for name, at_load in found
        if at_load and name.split(".")[0] in {*OPTIONAL, *SERVING}
    ]
    assert not wrong


def test_every_part_of_the_package_is_known_here():
    """A new folder takes its place in this test."""
    parts = {part_of(file) for file in files() if file.parts[0] == "keras_attention"}
    assert parts <= {*FLOORS, *BESIDE, ""}


def test_the_reading_of_imports_itself():
    assert len(imports_of_all()) > 150
    source = (
        "import numpy as np, keras.layers\n"
        "from keras_attention import seq2seq\n"
        "from . import sibling\n"
        "from ..layers.attention import Attention\n"
        "class C:\n    import gradio\n"
        "def f():\n    from sacrebleu import BLEU\n"
    )
    assert imports(ast.parse(source), ("keras_attention", "text")) == [
        ("numpy", True),
        ("keras.layers", True),
        ("keras_attention.seq2seq", True),
        ("keras_attention.text.sibling", True),
        ("keras_attention.layers.attention.Attention", True),
        ("gradio", True),
        ("sacrebleu.BLEU", False),
    ]
    assert part("keras_attention.seq2seq") == "seq2seq" and part("numpy.random") is None
    assert allowed("backend") == set() and "seq2seq" not in allowed("layers")
