import itertools

import keras
import numpy as np
import pytest

from models import BiLSTMCRF
from models._propositions import IDS, LABELS, arrays, toy
from models._tagging import allowed_tags
from tests.models.toy import check_exported, check_saved

WORDS = np.array([[5, 6, 7], [9, 2, 0]])
MARKS = np.array([[0, 1, 0], [1, 0, 0]])
TAGS = np.array([[1, 2, 3], [0, 3, 0]])


@pytest.fixture(scope="module")
def model():
    """A model of 5 tags whose start and transitions are not zero."""
    model = BiLSTMCRF(12, ["A0", "V"], layers=2, units=4, width=3)
    model.build()
    rng = np.random.default_rng(0)
    model.set_weights([w + rng.normal(0, 0.5, w.shape) for w in model.get_weights()])
    return model


def score(model, emissions, path):
    """Of tags, by the definition."""
    start, transitions = model.start.numpy(), model.transitions.numpy()
    steps = sum(transitions[pair] for pair in itertools.pairwise(path))
    return start[path[0]] + steps + sum(emissions[t, tag] for t, tag in enumerate(path))


def test_padding_changes_nothing(model):
    emissions = model((WORDS, MARKS)).numpy()
    alone = model((WORDS[1:, :2], MARKS[1:, :2])).numpy()
    np.testing.assert_allclose(emissions[1:, :2], alone, atol=1e-6)
    assert model.tag((WORDS, MARKS))[1, :2].numpy().tolist() == (
        model.tag((WORDS[1:, :2], MARKS[1:, :2]))[0].numpy().tolist()
    )


def test_its_loss_is_that_of_all_tags_together(model):
    model.compile("sgd", run_eagerly=True)
    emissions, total = model((WORDS, MARKS)).numpy(), 0.0
    for row, length in ((0, 3), (1, 2)):
        every = [
            score(model, emissions[row], path)
            for path in itertools.product(range(5), repeat=length)
        ]
        total += np.log(np.sum(np.exp(every))) - score(model, emissions[row], TAGS[row, :length])
    found = model.evaluate((WORDS, MARKS), TAGS, verbose=0)
    np.testing.assert_allclose(found, total / 5, rtol=1e-5)


def test_its_tags_are_the_best_valid_ones(model):
    start, follow = allowed_tags(model.tag_names)
    emissions, tags = model((WORDS, MARKS)).numpy(), model.tag((WORDS, MARKS)).numpy()
    for row, length in ((0, 3), (1, 2)):
        valid = [
            path
            for path in itertools.product(range(5), repeat=length)
            if start[path[0]] and all(follow[pair] for pair in itertools.pairwise(path))
        ]
        best = max(valid, key=lambda path: score(model, emissions[row], path))
        assert tuple(tags[row, :length]) == best


def test_it_is_saved_and_loaded(model, tmp_path):
    copy = check_saved(model, (WORDS, MARKS), tmp_path)
    np.testing.assert_array_equal(copy.tag((WORDS, MARKS)), model.tag((WORDS, MARKS)))


@pytest.mark.full
def test_it_is_exported(model, tmp_path):
    check_exported(model, (WORDS, MARKS), tmp_path)


@pytest.mark.full
def test_it_is_trained():
    model = BiLSTMCRF(2 + len(IDS), LABELS, layers=1, units=4, width=4, dropout=0.0)
    inputs, tags, weights = arrays(model, toy(16, np.random.default_rng(0)), IDS)
    model.compile(keras.optimizers.Adam(0.05))
    losses = model.fit(inputs, tags, sample_weight=weights, epochs=9, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0] and model.transitions.numpy().any()
    assert model.start.numpy().any()


def test_another_loss_and_tags_that_are_none_are_refused(model):
    model.compile("sgd", loss="mse", run_eagerly=True)
    with pytest.raises(ValueError, match="compile without. Received: loss='mse'"):
        model.evaluate((WORDS, MARKS), TAGS, verbose=0)
    model.compile("sgd", run_eagerly=True)
    with pytest.raises(ValueError, match="ids from 0 to L - 1 = 4. Received: ids from 0 to 9"):
        model.evaluate((WORDS, MARKS), TAGS * 3, verbose=0)
    with pytest.raises(ValueError, match="layers=0"):
        BiLSTMCRF(12, ["V"], layers=0)
