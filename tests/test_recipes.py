"""The Python code in docs/recipes/*.md and docs/models/*.md runs and prints what it shows."""

import contextlib
import doctest
import io
import json
import pathlib
import re
import shlex

import pytest
from absl import flags

from apps.chatbot import command_line
from tests.apps.chatbot.program import run

DOCS = pathlib.Path(__file__).parent.parent / "docs"
MODELS = sorted((DOCS / "models").glob("*.md"))
PAGES = sorted((DOCS / "recipes").glob("*.md"))
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)

LONG = {"language_model", *(page.stem for page in MODELS)}  # they train

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def text_of(page):
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.stem, marks=[pytest.mark.full] * (page.stem in LONG))
        for page in [*PAGES, *MODELS]
    ],
)
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
    assert all((page.parent / link).exists() for link in links), links


def test_the_readme_links_every_recipe():
    readme = text_of(DOCS.parent / "README.md")
    assert [page.name for page in PAGES if f"(docs/recipes/{page.name})" not in readme] == []


TRANSLATE = DOCS / "recipes" / "translate.md"


def chatbot(command, *more):
    """A command of the page, in this process: what it prints."""
    *before, command = command.split(" | ")
    said = shlex.split(before[0])[1] if before else ""
    ran = run(*shlex.split(command)[3:], *more, stdin=f"{said}\n".encode())
    assert ran.code == 0, ran.err
    return ran.out


def test_the_flags_of_the_recipes_exist():
    if "mode" not in flags.FLAGS:
        command_line.define_flags()
    used = {flag for page in PAGES for flag in re.findall(r"(?<!\w)--(\w+)", text_of(page))}
    assert used and used - {"logdir"} <= set(flags.FLAGS)


@pytest.fixture
def translation(tmp_path, monkeypatch):
    """The commands of the page, in a folder with its pairs."""
    monkeypatch.chdir(tmp_path)
    data, commands = (content for _, content in BLOCK.findall(text_of(TRANSLATE)))
    exec(compile(data, TRANSLATE.name, "exec"), {})
    return commands.splitlines()


@pytest.mark.full
def test_pairs_are_translated_as_the_recipe_shows(translation):
    train, evaluate, infer = translation
    chatbot(train)
    assert json.loads(chatbot(evaluate))["exact_match"] > 0.95
    assert f"`{chatbot(infer).strip()}`" in text_of(TRANSLATE)


ROWS = re.findall(r"^\| `(.*?)` \| \d+ \| (\d\.\d+) \|", text_of(TRANSLATE), re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("settings, share", ROWS, ids=[settings for settings, _ in ROWS])
def test_other_settings_translate_as_well_as_the_recipe_says(settings, share, translation):
    train, evaluate, _ = translation
    chatbot(train, *settings.split())
    assert abs(json.loads(chatbot(evaluate))["exact_match"] - float(share)) < 0.1
