"""docs/attention.md matches the docstrings: each public name has its paper and an example."""

import doctest
import importlib.util
import pathlib

import keras
import pytest

ROOT = pathlib.Path(__file__).parent.parent
COMMAND = "python docs/make_attention_page.py"


def load():
    spec = importlib.util.spec_from_file_location("make_page", ROOT / COMMAND.split()[1])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker = load()
TEXT = maker.page()
PUBLIC = maker.public()


def test_the_page_matches_the_docstrings():
    found = maker.PAGE.read_text(encoding="utf-8")
    assert found == TEXT, f"docs/attention.md is older than the docstrings: run {COMMAND}"


def test_every_public_name_is_on_the_page_with_an_example():
    sections = {}
    for section in TEXT.split("\n### ")[1:]:
        title, _, text = section.partition("\n")
        sections.setdefault(title, []).append("```pycon\n>>> " in text)
    assert {name: sections.get(name) for name in PUBLIC} == {name: [True] for name in PUBLIC}


def test_every_public_name_has_a_paper_or_a_reason_for_none():
    without = {name for name, thing in PUBLIC.items() if not maker.entry(name, thing).paper}
    assert without == {*maker.NO_PAPER}


def test_a_paper_is_found_in_each_way_of_citing():
    assert maker.paper("q (Shaw et al., 2018, eq. 2).", "") == "Shaw et al., 2018, eq. 2"
    assert maker.paper("Vaswani et al. (2017), section 3.1.", "") == (
        "Vaswani et al., 2017, section 3.1"
    )
    assert maker.paper("Erase (eq. 3, 4).", "Of an NTM (Graves et al., 2014).") == (
        "Graves et al., 2014, eq. 3, 4"
    )
    assert not maker.paper("As (eq. 3) says.", "Nobody wrote it.")


@pytest.mark.parametrize("name", PUBLIC)
def test_an_example_runs_as_the_page_shows_it(name):
    opening = TEXT.split("```python\n")[1].split("```")[0]
    names: dict = {}
    exec(opening, names)
    example = maker.entry(name, PUBLIC[name]).example
    test = doctest.DocTestParser().get_doctest(example, names, name, None, 0)
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    keras.utils.set_random_seed(1)
    assert runner.run(test).failed == 0
