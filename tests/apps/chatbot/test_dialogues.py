import collections
import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from apps.chatbot import dialogues
from apps.chatbot.dialogues import FAMILIES, generate

TRAIN, HELD = generate()
NAMES = sorted(FAMILIES)
split_of_size = functools.cache(lambda per_family: generate(seed=7, per_family=per_family))


def of(family, split):
    return [dialogue for dialogue in split if dialogue.family == family]


def pairs_kept_apart(split):
    return {(d.family, FAMILIES[d.family].pick(d, FAMILIES[d.family].held)) for d in split}


@pytest.mark.full
def test_the_same_seed_gives_the_same_and_another_seed_does_not():
    assert generate(seed=3, per_family=60) == generate(seed=3, per_family=60)
    assert generate(seed=3, per_family=60) != generate(seed=4, per_family=60)


def test_string_hashing_has_no_effect():
    script = "import dialogues; print(repr(dialogues.generate(seed=5, per_family=40)))"
    folder = Path(dialogues.__file__).parent
    printed = {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=folder,
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": salt, "PYTHONIOENCODING": "utf-8"},
        ).stdout
        for salt in ("1", "2")
    }
    assert len(printed) == 1


def test_ten_families_and_three_of_them_chinese():
    chinese = [
        name
        for name in FAMILIES
        if any(re.search("[\u4e00-\u9fff]", d.question) for d in of(name, TRAIN))
    ]
    assert len(FAMILIES) >= 10 and len(chinese) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_every_family_fills_both_splits(name):
    assert len(of(name, TRAIN)) == 540
    assert len(of(name, HELD)) == 60


@pytest.mark.parametrize("name", NAMES)
def test_one_question_has_one_answer(name):
    everything = list(FAMILIES[name].dialogues())
    assert len({d.question for d in everything}) == len(everything)


def test_questions_are_unique():
    questions = [d.question for d in TRAIN + HELD]
    assert len(set(questions)) == len(questions)


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_short(name):
    for d in FAMILIES[name].dialogues():
        assert 0 < len(d.question) <= 40 and 0 < len(d.answer) <= 24
        assert d.question == d.question.strip() and d.answer == d.answer.strip()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_training_never_shows_a_held_out_pair(seed):
    train, held = generate(seed=seed)
    assert all(len(family.held) == 2 for family in FAMILIES.values())
    assert not pairs_kept_apart(train) & pairs_kept_apart(held)


@pytest.mark.parametrize("name", NAMES)
def test_training_shows_every_value_of_every_slot(name):
    shown = list(zip(*(d.slots for d in of(name, TRAIN))))
    assert [set(values) for values in shown] == [set(v) for v in FAMILIES[name].slots.values()]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("per_family", [30, 600])
def test_no_held_out_question_needs_a_fact_that_training_lacks(name, per_family):
    train, held = split_of_size(per_family)
    family = FAMILIES[name]
    known = set().union(*(family.known(d) for d in of(name, train)))
    assert all(family.known(d) <= known for d in of(name, held))


def test_a_family_that_has_less_gives_all_it_has():
    train, held = generate(per_family=10**6, held_out=0)
    assert held == []
    assert len(train) == sum(len(list(family.dialogues())) for family in FAMILIES.values())


def test_one_dialogue_a_family_is_enough():
    train, held = generate(per_family=1)
    assert len(train) == len(FAMILIES) and held == []


@pytest.mark.parametrize("wrong", [{"per_family": 0}, {"held_out": 1.0}, {"held_out": -0.1}])
def test_a_split_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="Received"):
        generate(**wrong)


def test_sums_are_right():
    for d in of("addition", TRAIN + HELD):
        a, b = map(int, re.findall(r"\d+", d.question))
        thing = re.search(r"\d (\w+) and", d.question)[1]
        assert d.answer == f"{a}+{b}={a + b} {thing}"


def test_remainders_are_right():
    for d in of("zh_subtraction", TRAIN + HELD):
        a, b = map(int, re.findall(r"\d+", d.question))
        left, again = map(int, re.search(r"=(\d+)，剩(\d+)", d.answer).groups())
        assert left == again == a - b > 0


def test_the_older_one_is_named():
    for d in of("older", TRAIN + HELD):
        ages = {name: int(age) for name, age in re.findall(r"(\w+) is (\d)", d.question)}
        oldest, youngest = max(ages, key=ages.get), min(ages, key=ages.get)
        assert d.answer == f"{oldest} is older: {ages[oldest]} > {ages[youngest]}."


def test_spelling_keeps_every_letter():
    for d in of("spell", TRAIN + HELD):
        word, person = re.fullmatch(r"Spell (\w+) for (\w+)\.", d.question).groups()
        assert d.answer.startswith(f"{person}: ")
        assert d.answer.removeprefix(f"{person}: ").replace("-", "") == word
        assert d.answer.count("-") == len(word) - 1 and 3 <= len(word) <= 5


def test_days_are_counted_on_the_calendar():
    first = np.datetime64("2024-01-01")  # a Monday
    for d in of("weekday", TRAIN + HELD):
        days, name = re.search(r"(\d) days after (\w+)\.", d.question).groups()
        start = next(first + i for i in range(7) if f"{(first + i).item():%A}" == name)
        assert d.answer.endswith(f" on {(start + int(days)).item():%A}.")


def test_reading_backwards_twice_is_reading():
    for d in of("zh_reversal", TRAIN + HELD):
        assert d.question.endswith("：" + d.answer[::-1])


@pytest.mark.full
def test_the_nearest_training_question_rarely_has_the_answer():
    right, asked = collections.Counter(), collections.Counter()
    for name in NAMES:
        known = of(name, TRAIN)
        questions = [d.question for d in known]
        for d in of(name, HELD)[:12]:
            asked[name] += 1
            for measure in (edit_distances, trigram_distances):
                nearest = known[int(np.argmin(measure(d.question, questions)))]
                right[measure, name] += nearest.answer == d.answer
    for measure in (edit_distances, trigram_distances):
        assert sum(right[measure, name] for name in NAMES) <= 0.3 * asked.total()
        assert all(right[measure, name] <= 0.5 * asked[name] for name in NAMES)


def edit_distances(text, others):
    """Levenshtein distance of one text to each of N others.  -> [N]."""
    lengths = np.array([len(other) for other in others])
    letters = np.array([[ord(c) for c in other.ljust(lengths.max())] for other in others])
    row = np.tile(np.arange(lengths.max() + 1), (len(others), 1))
    for i, letter in enumerate(text, 1):
        change = np.minimum(row[:, 1:] + 1, row[:, :-1] + (letters != ord(letter)))
        row = np.concatenate([np.full((len(others), 1), i), change], axis=1)
        steps = np.arange(row.shape[1])
        row = np.minimum.accumulate(row - steps, axis=1) + steps  # insertions
    return row[np.arange(len(others)), lengths]


def trigram_distances(text, others):
    """One less the cosine of the bags of character trigrams.  -> [N]."""
    bags = [collections.Counter(zip(f"^{t}", t, f"{t[1:]}$")) for t in [text, *others]]
    axes = {trigram: i for i, trigram in enumerate(sorted(set().union(*bags)))}
    table = np.zeros((len(bags), len(axes)))
    for row, bag in zip(table, bags):
        for trigram, count in bag.items():
            row[axes[trigram]] = count
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    return 1 - table[1:] @ table[0]


def test_the_edit_distances_of_this_file_are_levenshteins():
    assert edit_distances("kitten", ["sitting", "kitten", "", "kit"]).tolist() == [3, 0, 6, 3]
    assert edit_distances("", ["ab", ""]).tolist() == [2, 0]
