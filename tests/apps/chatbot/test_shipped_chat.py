import collections
import itertools
import re
import unicodedata
from pathlib import Path

import pytest

DATA = Path(__file__).parents[3] / "apps" / "chatbot" / "data"
LIMITS = {"en": (45, 60), "zh": (16, 24)}  # characters of a question, of a reply
LANGUAGES = sorted(LIMITS)


def pairs(language):
    text = (DATA / f"chat_{language}.tsv").read_bytes().decode("utf-8")
    return [tuple(line.split("\t")) for line in text.removesuffix("\n").split("\n")]


def test_four_hundred_pairs_are_shipped():
    counts = {language: len(pairs(language)) for language in LANGUAGES}
    assert min(counts.values()) >= 200 and sum(counts.values()) >= 400


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_bytes_are_plain_composed_unicode_lines(language):
    raw = (DATA / f"chat_{language}.tsv").read_bytes()
    text = raw.decode("utf-8")
    assert unicodedata.is_normalized("NFC", text)
    assert text.endswith("\n") and not text.startswith("\ufeff")
    assert all(c.isprintable() for c in text if c not in "\t\n")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_line_is_a_short_question_and_a_short_reply(language):
    for columns in pairs(language):
        assert len(columns) == 2, columns
        for column, limit in zip(columns, LIMITS[language]):
            assert column and column == column.strip() and len(column) <= limit, columns


def test_each_file_speaks_its_language():
    assert all(ord(c) < 128 for pair in pairs("en") for text in pair for c in text)
    for pair in pairs("zh"):
        for text in pair:
            assert re.search("[\u4e00-\u9fff]", text) and not re.search("[!-~ ]", text), text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("column", [0, 1])
def test_no_two_turns_are_nearly_equal(language, column):
    texts = [pair[column].lower() for pair in pairs(language)]
    assert len(set(texts)) == len(texts)
    bags = [collections.Counter(text) for text in texts]
    near = [
        (texts[i], texts[j])
        for i, j in itertools.combinations(range(len(texts)), 2)
        if fewest_edits(bags[i], bags[j]) <= 0.3 * max(len(texts[i]), len(texts[j]))
        and edit_distance(texts[i], texts[j]) <= 0.3 * max(len(texts[i]), len(texts[j]))
    ]
    assert not near


def fewest_edits(bag, other):
    """No edit mends more than one missing and one surplus character: a bound without order."""
    return max((bag - other).total(), (other - bag).total())


def edit_distance(text, other):
    """Levenshtein: insertions, deletions and substitutions that turn one text into the other."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(text, 1):
        corner, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (a != b))
    return row[-1]


@pytest.mark.parametrize(
    ("text", "other", "edits"),
    [("", "", 0), ("", "ab", 2), ("kitten", "sitting", 3), ("你好", "您好呀", 2), ("ab", "ba", 2)],
)
def test_distance_and_its_bound(text, other, edits):
    bags = collections.Counter(text), collections.Counter(other)
    assert fewest_edits(*bags) <= edit_distance(text, other) == edits
