"""The couplets the chatbot ships: well formed, balanced, and no two alike."""

from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

COUPLETS = Path(__file__).parents[3] / "apps" / "chatbot" / "data" / "couplets.tsv"
COMMA = "，"
NEAREST = 0.30  # edit distance / longer length; at or below it two lines are variants of each other


def edit_distance(left: str, right: str) -> int:
    """Fewest insertions, deletions and substitutions that turn one string into the other."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        corner, row[0] = row[0], i
        for j, b in enumerate(right, start=1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (a != b))
    return row[-1]


def too_similar(lines: list[str]) -> list[tuple[str, str]]:
    """Every pair of lines whose normalised edit distance is at most `NEAREST`."""
    counted = [(line, Counter(line)) for line in lines]
    close = []
    for (a, count_a), (b, count_b) in combinations(counted, 2):
        longest = max(len(a), len(b))
        if longest - min(len(a), len(b)) > NEAREST * longest:
            continue
        # Every character of the longer line without a partner in the other costs at least one edit.
        if longest - sum((count_a & count_b).values()) > NEAREST * longest:
            continue
        if edit_distance(a, b) <= NEAREST * longest:
            close.append((a, b))
    return close


def is_han(character: str) -> bool:
    return "\u4e00" <= character <= "\u9fff"


def commas(line: str) -> list[int]:
    return [i for i, character in enumerate(line) if character == COMMA]


@pytest.fixture(scope="module")
def pairs() -> list[tuple[str, str]]:
    rows = COUPLETS.read_text(encoding="utf-8").splitlines()
    return [tuple(row.split("\t")) for row in rows]


def test_the_file_is_plain_utf8_with_unix_line_ends():
    raw = COUPLETS.read_bytes()
    assert not raw.startswith(b"\xef\xbb\xbf")
    assert b"\r" not in raw
    assert raw.endswith(b"\n") and not raw.endswith(b"\n\n")
    raw.decode("utf-8")


def test_every_row_is_a_first_and_a_second_line(pairs):
    assert [pair for pair in pairs if len(pair) != 2 or not all(pair)] == []


def test_there_are_at_least_three_hundred_couplets(pairs):
    assert len(pairs) >= 300


def test_both_lines_of_a_couplet_are_equally_long(pairs):
    assert [pair for pair in pairs if len(pair[0]) != len(pair[1])] == []


def test_both_lines_of_a_couplet_pause_at_the_same_places(pairs):
    assert [pair for pair in pairs if commas(pair[0]) != commas(pair[1])] == []


def test_commas_are_only_between_clauses(pairs):
    lines = [line for pair in pairs for line in pair]
    assert [line for line in lines if not all(line.split(COMMA))] == []


def test_lines_hold_only_han_characters_and_the_full_width_comma(pairs):
    lines = [line for pair in pairs for line in pair]
    assert [line for line in lines if not all(is_han(c) or c == COMMA for c in line)] == []


def test_no_character_faces_itself_across_a_couplet(pairs):
    assert [
        pair for pair in pairs if any(a == b != COMMA for a, b in zip(*pair, strict=True))
    ] == []


def test_no_line_appears_twice(pairs):
    times = Counter(line for pair in pairs for line in pair)
    assert [line for line, n in times.items() if n > 1] == []


@pytest.mark.parametrize("side", [0, 1], ids=["first", "second"])
def test_no_two_lines_on_one_side_are_variants_of_each_other(pairs, side):
    assert too_similar([pair[side] for pair in pairs]) == []


def test_no_two_couplets_are_variants_of_each_other(pairs):
    assert too_similar(["\t".join(pair) for pair in pairs]) == []


def test_the_couplets_come_in_at_least_five_lengths(pairs):
    assert len({len(first) for first, _ in pairs}) >= 5


@pytest.mark.parametrize(
    ("left", "right", "distance"),
    [
        ("", "", 0),
        ("", "山水", 2),
        ("山水", "山水", 0),
        ("春风", "风", 1),
        ("山高水远", "水远山高", 4),
    ],
)
def test_edit_distance_counts_the_fewest_edits(left, right, distance):
    assert edit_distance(left, right) == edit_distance(right, left) == distance


def test_lines_at_the_threshold_count_as_variants_and_beyond_it_do_not():
    assert too_similar(["一二三四五六七八九十", "一二三四五六七天地人"]) != []
    assert too_similar(["一二三四五六七八九十", "一二三四五六春天地人"]) == []
    assert too_similar(["春", "春风化雨"]) == []
