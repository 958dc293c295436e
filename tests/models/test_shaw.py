import numpy as np
import pytest
import tensorflow as tf

from keras_attention.export import Endpoints, save_search
from models import RelativeTransformer, Transformer
from models.shaw import delayed, tagger
from tests.models.toy import check_saved, run_toy, with_random_weights
from tests.results import figure

SIZES = dict(vocab_size=11, reach=2, layers=2, width=8, heads=2, ff_width=12, dropout=0.0)
SOURCE = np.array([[5, 6, 7, 2], [9, 2, 0, 0]])
TARGET = np.array([[1, 4, 3], [1, 8, 0]])


def small(**settings):
    return with_random_weights(RelativeTransformer(**{**SIZES, **settings}), scale=0.3)


@pytest.fixture(scope="module")
def model():
    return small()


def attentions(model):
    return [
        block.self_attention for stack in (model.encoder, model.decoder) for block in stack.blocks
    ]


def test_with_vectors_of_zeros_it_is_a_transformer_without_positions(model):
    sizes = {name: value for name, value in SIZES.items() if name != "reach"}
    plain = Transformer(**sizes, positions=None)
    plain.build()
    silent = small()
    for attention in attentions(silent):
        for table in (attention.key_table, attention.value_table):
            table.assign(tf.zeros_like(table))
    tables = {id(t) for a in attentions(silent) for t in (a.key_table, a.value_table)}
    plain.set_weights([np.array(w) for w in silent.weights if id(w) not in tables])
    np.testing.assert_allclose(silent((SOURCE, TARGET)), plain((SOURCE, TARGET)), atol=1e-5)


def test_every_layer_has_its_own_vectors_for_each_distance_up_to_k():
    def added(**settings):
        plain = {**SIZES, **settings}
        relative = small(**plain).count_params()
        plain.pop("reach"), plain.pop("share_heads")
        without = Transformer(**plain, positions=None)
        without.build()
        return relative - without.count_params()

    width, layers = 4, 2 * 2  # of a head; of encoder and decoder
    assert added(reach=3, share_heads=True) == layers * 2 * (2 * 3 + 1) * width
    assert added(reach=3, share_heads=False) == layers * 2 * (2 * 3 + 1) * width * SIZES["heads"]


def test_the_encoder_does_not_know_where_a_sentence_begins(model):
    memory, _ = model.encode(SOURCE)
    moved, _ = model.encode(np.pad(SOURCE, [[0, 0], [3, 0]]))
    for here, there in zip(memory.blocks, moved.blocks):
        np.testing.assert_allclose(there.values[:, :, 3:6], here.values[:, :, :3], atol=1e-5)


def test_distances_beyond_k_are_as_k():
    def first_of(model, source):  # what the first token becomes
        return np.array(model.encode(np.array([source]))[0].blocks[0].values)[0, :, 0]

    near = small(reach=1, layers=1)
    np.testing.assert_allclose(
        first_of(near, [5, 6, 7, 8, 9]), first_of(near, [5, 6, 9, 7, 8]), atol=1e-5
    )
    far = small(reach=4, layers=1)
    assert abs(first_of(far, [5, 6, 7, 8, 9]) - first_of(far, [5, 6, 9, 7, 8])).max() > 1e-3
    blind = small(reach=0)  # without any order, in any layer
    np.testing.assert_allclose(
        first_of(blind, [5, 6, 7, 8, 9]), first_of(blind, [5, 9, 8, 7, 6]), atol=1e-5
    )


def test_steps_give_what_the_whole_sequence_gives(model):
    logits = model((SOURCE, TARGET)).numpy()
    memory, _ = model.encode(SOURCE)
    state = model.cell.get_initial_state(batch_size=2, max_length=3, memory=memory)
    for t in range(3):
        output, state = model.cell(model.embed(TARGET[:, t]), state, memory=memory)
        np.testing.assert_allclose(model.project(output), logits[:, t], atol=1e-5)


def test_it_is_saved_and_searches_with_beams_and_alignments(model, tmp_path):
    copy = check_saved(model, (SOURCE, TARGET), tmp_path)
    settings = dict(beam_width=3, max_length=5, return_alignments=True)
    found, again = model.generate(SOURCE, **settings), copy.generate(SOURCE, **settings)
    assert found.alignments.shape[:2] == (2, 3)
    np.testing.assert_array_equal(found.ids, again.ids)


def test_the_presets_have_the_sizes_of_the_paper():
    base = RelativeTransformer.of("base", 20, layers=1)
    assert base.get_config()["reach"] == 16 and not base.get_config()["share_heads"]
    assert RelativeTransformer.of("big", 20, layers=1).get_config()["reach"] == 8
    with pytest.raises(ValueError, match="preset must be one of"):
        RelativeTransformer.of("large", 20)


def test_an_invalid_reach_is_refused():
    with pytest.raises(ValueError, match="reach=-1"):
        small(reach=-1)


def test_delayed_says_the_last_token_but_one():
    tokens, labels, weights = delayed(50, (3, 6), 9, np.random.default_rng(0))
    for row, label, weight in zip(tokens, labels, weights):
        length = np.count_nonzero(row)
        assert 3 <= length <= 6 and weight.tolist() == [0, 0] + [1] * (length - 2) + [0] * (
            6 - length
        )
        assert label[2:length].tolist() == row[: length - 2].tolist()


@pytest.mark.full
def test_an_export_answers_in_a_clean_process(model, tmp_path):
    save_search(str(tmp_path / "served"), Endpoints(model), warm_up=False)


@pytest.mark.full
def test_the_taggers_differ_in_their_positions_alone():
    relative, sinusoid = tagger(5, reach=4), tagger(5, reach=None)
    tokens = np.array([[1, 2, 3, 4, 5]])
    for one in (relative, sinusoid):
        assert one(tokens).shape == (1, 5, 6)
    added = 2 * 2 * (2 * 4 + 1) * 16
    assert relative.count_params() - sinusoid.count_params() == added


def test_it_generalises_to_lengths_that_it_was_not_trained_on():
    assert figure("shaw", "k = 4", "length 40") >= 99
    assert figure("shaw", "sinusoids", "length 40") < 90
    # Without order the best is to say the most frequent symbol, which is right for 18 %.
    assert figure("shaw", "k = 0", "length 40") <= 25


def test_it_translates_as_well_as_sinusoids():
    relative = figure("shaw", "Multi30k, k = 16", "BLEU")
    assert relative >= figure("shaw", "Multi30k, sinusoids", "BLEU") - 0.5


@pytest.mark.slow
def test_the_toy_task_is_learnt(tmp_path):
    said = run_toy("shaw", tmp_path)
    sinusoid, relative = (float(line.split()[-8]) for line in said.strip().splitlines()[-2:])
    assert relative >= 0.99 and sinusoid < 0.9
