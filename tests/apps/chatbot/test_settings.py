import itertools
import json
import math
import os
import re

import pytest
from absl import flags

from apps.chatbot import settings, table
from keras_attention.decoding.penalties import gnmt_length_penalty
from keras_attention.training import InverseSquareRoot


@pytest.fixture
def values():
    """The program's flags, as its own process has them."""
    found = flags.FlagValues()
    for name in [*settings.FIXED, *settings.FREE]:
        flags.DEFINE_string(name, None, "", flag_values=found)
    return found


def test_only_what_was_named_on_the_command_line_is_reported(values):
    values(["program", "--units=8", "--seed="])
    assert settings.explicit_flags(values) == {"units": "8", "seed": ""}
    assert settings.of_flags(values).keys() == {*settings.FIXED, *settings.FREE}


USUAL = {row.name: row.default for row in table.TABLE if row.stored}
WHOLE = {**USUAL, "warmup_steps": 0, "data": "/data.tsv"}


def test_settings_come_back_as_they_were_saved(tmp_path):
    assert not settings.exists(tmp_path)
    settings.save(tmp_path, {**WHOLE, "data": "/数据.tsv", "dev_data": None})
    assert settings.exists(tmp_path)
    assert settings.load(tmp_path, {}) == {**WHOLE, "data": "/数据.tsv", "dev_data": None}
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_how_to_search_may_change_and_what_a_model_is_made_of_may_not(tmp_path):
    settings.save(tmp_path, WHOLE)
    assert settings.load(tmp_path, {"beam_width": 9, "units": 128})["beam_width"] == 9
    with pytest.raises(ValueError, match=r"--layers=3 .stored: 1., --dev_data=/x .stored: not"):
        settings.load(tmp_path, {"epochs": 9, "layers": 3, "dev_data": "/x"})


def test_a_file_is_the_same_under_any_of_its_names(tmp_path, monkeypatch):
    for name in ("a.tsv", "a,b"):
        (tmp_path / name).write_text("a\tb\n")
    monkeypatch.chdir(tmp_path)
    for name, other in (
        ("./a.tsv", f"{tmp_path}/a.tsv"),
        ("a,b", f"{tmp_path}/./a,b"),
        ("a.tsv,./a.tsv", f"{tmp_path}/a.tsv,{tmp_path}/a.tsv"),
    ):
        settings.save(tmp_path, {**WHOLE, "data": name})
        assert (
            settings.load(tmp_path, {"data": other})["data"] == settings.load(tmp_path, {})["data"]
        )
    with pytest.raises(ValueError, match="--data="):
        settings.load(tmp_path, {"data": "b.tsv"})


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "damaged"),
        (b"{", "damaged"),
        (b"[]", "damaged"),
        (b"7", "damaged"),
        (b'"text"', "damaged"),
        (b"null", "damaged"),
        (b"\xff\xfe", "damaged"),
        (b"{}", "damaged"),
        (b"[" * 100_000, "damaged"),
        (b" " * 2_000_000, "at most 1,000,000 bytes"),
        (b'{"version": 2}', "version 2"),
        (b'{"version": null}', "version None"),
        (b'{"version": true}', "version True"),
        (b'{"version": 1}', "lacks task, data"),
        (json.dumps({"version": 1, **WHOLE})[:-30].encode(), "damaged"),
    ],
)
def test_settings_that_cannot_be_read(content, word, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=word):
        settings.load(tmp_path, {})


def wrong(row):
    """Values of another type, and beside the range."""
    yield from ([], {}, object) if row.kind is not list else ("a", {}, [1])
    if row.kind in (int, float):
        yield from ("4", True, math.nan, math.inf, row.low - 1, row.high + 1, 10**400)
    if row.kind is int:
        yield 1.5
    if row.kind is str:
        yield from (4, True)
    if row.choices:
        yield "lstm"
    if row.default is not None and not row.optional:
        yield None


@pytest.mark.parametrize("name", [row.name for row in table.TABLE if row.stored])
def test_a_stored_value_of_another_type_or_range_is_named(name, tmp_path):
    row = next(row for row in table.TABLE if row.name == name)
    for value in wrong(row):
        with pytest.raises(ValueError, match=f"{name} must be"):
            row.check(value)
    row.check(row.default)
    settings.save(tmp_path, {**WHOLE, name: {}})
    with pytest.raises(ValueError, match=rf"config\.json: {name} must be .*Received: {{}}"):
        settings.load(tmp_path, {})


def test_settings_that_do_not_go_together_are_named(tmp_path):
    for changes, words in (
        ({"model": "transformer", "ff_units": 8, "heads": 5}, "--heads must divide --units"),
        ({"model": "transformer", "ff_units": None}, "ff_units must be set"),
        ({"attention": None}, "attention must be set"),
        ({"task": "couplet", "context_turns": 1}, "--context_turns is for --task=chat"),
    ):
        settings.save(tmp_path, {**WHOLE, **changes})
        with pytest.raises(ValueError, match=words):
            settings.load(tmp_path, {})


def test_every_number_has_a_range_and_every_default_is_in_it():
    for row in table.TABLE:
        if row.kind in (int, float):
            assert math.isfinite(row.low) and math.isfinite(row.high), row.name
        row.check(row.default)
        if row.earlier is not table.REQUIRED:
            row.check(row.earlier)


def test_a_failed_save_leaves_the_settings_that_were_there(tmp_path):
    settings.save(tmp_path, WHOLE)
    with pytest.raises(TypeError):
        settings.save(tmp_path, {**WHOLE, "units": object()})
    assert settings.load(tmp_path, {}) == WHOLE
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_the_place_of_the_settings_is_refused(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(ValueError, match="must be a regular file"):
        settings.load(tmp_path, {})


def test_every_flag_is_explained_in_sentences():
    for row in table.TABLE:
        assert len(row.help.split()) > 2 and row.help.endswith("."), row.name


def test_the_help_of_the_length_penalty_has_the_formula_of_the_search():
    row = next(row for row in table.TABLE if row.name == "length_penalty")
    formula = re.search(r"log p / (.*?),", row.help).group(1).replace("^", "**")
    for length, weight in itertools.product([1, 7, 30], [0.0, row.default, 1.0]):
        expected = gnmt_length_penalty(length, weight)
        assert eval(formula, {"T": length, "w": weight}) == pytest.approx(float(expected))


def test_the_rates_that_the_help_names_are_those_of_the_paper():
    row = next(row for row in table.TABLE if row.name == "learning_rate")
    rates = [float(rate) for rate in re.findall(r"0\.00\d+", row.help)]
    schedules = [InverseSquareRoot.of_width(width, table.WARMUP) for width in (USUAL["units"], 512)]
    assert rates == [round(schedule.peak, 4) for schedule in schedules]
