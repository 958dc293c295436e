"""docs/recipes/*.md are true: their Python runs and prints what they show."""

import contextlib
import doctest
import io
import pathlib
import re

import pytest

FOLDER = pathlib.Path(__file__).parent.parent / "docs" / "recipes"
PAGES = sorted(FOLDER.glob("*.md"))
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def text_of(page):
    return page.read_text(encoding="utf-8")


@every_page
def test_a_recipe_runs_and_prints_what_it_shows(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, printed = {"__name__": page.stem}, ""
    for number, (language, content) in enumerate(BLOCK.findall(text_of(page))):
        if language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(content, f"{page.name}, block {number}", "exec"), names)
            printed = out.getvalue()
        elif language == "text":  # what the block before it prints
            same = doctest.OutputChecker().check_output(content, printed, doctest.ELLIPSIS)
            assert same, f"{page.name} shows\n{content}\nand its Python prints\n{printed}"
            printed = ""
    assert not printed, f"{page.name} does not show what its Python prints:\n{printed}"


@every_page
def test_a_recipe_is_short_and_its_links_lead_somewhere(page):
    text = text_of(page)
    assert len(text.splitlines()) <= 40
    links = re.findall(r"\]\(([^)#]+)", text)
    assert all((FOLDER / link).exists() for link in links), links


def test_the_readme_links_every_recipe():
    readme = text_of(FOLDER.parent.parent / "README.md")
    assert [page.name for page in PAGES if f"(docs/recipes/{page.name})" not in readme] == []
