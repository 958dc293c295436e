import json

import pytest
from absl import flags

from apps.chatbot import settings


@pytest.fixture
def values():
    """The program's flags, as its own process has them."""
    found = flags.FlagValues()
    for name in [*settings.FIXED, *settings.FREE]:
        flags.DEFINE_string(name, None, "", flag_values=found)
    return found


def test_only_what_was_named_on_the_command_line_is_said(values):
    values(["program", "--units=8", "--seed="])
    assert settings.said(values) == {"units": "8", "seed": ""}
    assert settings.of_flags(values).keys() == {*settings.FIXED, *settings.FREE}


WHOLE = {name: name for name in (*settings.FIXED, *settings.FREE)}


def test_settings_come_back_as_they_were_saved(tmp_path):
    assert not settings.exists(tmp_path)
    settings.save(tmp_path, {**WHOLE, "data": "数据.tsv", "dev_data": None})
    assert settings.exists(tmp_path)
    assert settings.load(tmp_path, {}) == {**WHOLE, "data": "数据.tsv", "dev_data": None}
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_how_to_search_may_change_and_what_a_model_is_made_of_may_not(tmp_path):
    settings.save(tmp_path, {**WHOLE, "dev_data": None})
    assert settings.load(tmp_path, {"beam_width": 9, "units": "units"})["beam_width"] == 9
    with pytest.raises(ValueError, match=r"--layers=3 .stored: layers., --dev_data=x .stored: not"):
        settings.load(tmp_path, {"epochs": 9, "layers": 3, "dev_data": "x"})


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
        (b'{"version": 2}', "version 2"),
        (b'{"version": null}', "version None"),
        (b'{"version": 1}', "lacks task, data"),
        (json.dumps({"version": 1, **WHOLE})[:-30].encode(), "damaged"),
    ],
)
def test_settings_that_cannot_be_read(content, word, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=word):
        settings.load(tmp_path, {})


def test_a_failed_save_leaves_the_settings_that_were_there(tmp_path):
    settings.save(tmp_path, WHOLE)
    with pytest.raises(TypeError):
        settings.save(tmp_path, {**WHOLE, "units": object()})
    assert settings.load(tmp_path, {}) == WHOLE
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
