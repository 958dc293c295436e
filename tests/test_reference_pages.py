"""The reference pages match the docstrings."""

import importlib.util
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
COMMAND = "python docs/make_reference_pages.py"


def load():
    spec = importlib.util.spec_from_file_location("make_pages", ROOT / COMMAND.split()[1])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker = load()


@pytest.mark.parametrize("package", maker.PACKAGES)
def test_a_page_matches_the_docstrings(package):
    page = (ROOT / "docs" / f"{package}.md").read_text(encoding="utf-8")
    assert page == maker.page(package), f"docs/{package}.md is older than its source: run {COMMAND}"


@pytest.mark.parametrize("package", maker.PACKAGES)
def test_every_public_name_is_explained(package):
    things = maker.public(package).values()
    assert not [thing for thing in things if callable(thing) and not thing.__doc__]
