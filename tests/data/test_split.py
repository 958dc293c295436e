import pytest

from keras_attention.data import SourceSplit, split_by_source

PAIRS = [(f"question {i % 500}", f"answer {i}") for i in range(2000)]


def sources(pairs):
    return {source for source, _ in pairs}


def test_no_source_is_on_both_sides_and_no_pair_is_lost():
    train, held_out = split_by_source(PAIRS)
    assert not sources(train) & sources(held_out)
    assert sorted(train + held_out) == sorted(PAIRS)


def test_the_order_is_kept():
    for side in split_by_source(PAIRS):
        assert side == sorted(side, key=PAIRS.index)


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.5, 0.9])
def test_about_the_fraction_is_held_out(fraction):
    _, held_out = split_by_source(PAIRS, fraction)
    assert abs(len(sources(held_out)) / 500 - fraction) < 0.06


def test_a_source_stays_where_it_is_when_the_corpus_grows():
    before = sources(split_by_source(PAIRS[:300])[1])
    after = sources(split_by_source(PAIRS)[1])
    assert before == after & sources(PAIRS[:300])


def test_the_seed_decides():
    first, again, other = (split_by_source(PAIRS, seed=seed) for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("fraction", [1e-9, 1 - 1e-9])
@pytest.mark.parametrize("count", [2, 3, 50])
def test_with_two_sources_neither_side_is_empty(fraction, count):
    train, held_out = split_by_source(PAIRS[:count], fraction)
    assert train and held_out
    assert min(len(train), len(held_out)) == 1


@pytest.mark.parametrize("pairs", [[], [("a", "b")], [("a", "b"), ("a", "c")]])
def test_with_fewer_nothing_is_held_out(pairs):
    assert split_by_source(pairs, 0.999999) == (pairs, [])


def test_any_string_can_be_a_source():
    pairs = [("", "a"), ("😀", "b"), ("\ud800", "c"), ("猫" * 10**5, "d")]
    train, held_out = split_by_source(pairs, 0.5)
    assert len(train) + len(held_out) == 4


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_a_fraction_must_be_one(fraction):
    with pytest.raises(ValueError, match="fraction must be between 0 and 1"):
        split_by_source(PAIRS, fraction)


@pytest.mark.parametrize("fraction", [1e-9, 0.1, 0.5, 1 - 1e-9])
@pytest.mark.parametrize("count", [1, 2, 700])
def test_the_split_of_a_stream_is_that_of_a_list(fraction, count):
    split = SourceSplit(fraction, seed=3)
    for source, _ in reversed(PAIRS[:count]):
        split.add(source)
    expected = split_by_source(PAIRS[:count], fraction, seed=3)[1]
    assert [pair for pair in PAIRS[:count] if split.holds_out(pair[0])] == expected
    assert split.holds_out_any == bool(expected)
