"""What a tokenizer of any kind owes."""

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.text import END, PAD, START, UNKNOWN


def ids_of(tokenizer, text):
    return tokenizer.encode([text])[0].numpy().tolist()


def texts(strings):
    return [text.decode() for text in strings.numpy().reshape(-1)]


def test_the_special_ids_are_the_same_everywhere(tokenizer):
    assert (PAD, START, END, UNKNOWN) == (0, 1, 2, 3)
    shown = tokenizer.tokens([PAD, START, END, UNKNOWN]).numpy().tolist()
    assert shown == [b"", b"<s>", b"</s>", b"<unk>"]


def test_no_text_is_encoded_with_a_special_id_but_unknown(tokenizer, cruel):
    ids = tokenizer.encode(cruel).flat_values.numpy()
    assert ids.dtype == np.int32
    assert ids.min() >= UNKNOWN
    assert ids.max() < tokenizer.vocab_size


def test_eager_and_graph_agree(tokenizer, cruel):
    graph = tf.function(
        lambda text: tokenizer.encode(text), input_signature=[tf.TensorSpec([None], tf.string)]
    )
    back = tf.function(
        lambda ids: tokenizer.decode(ids),
        input_signature=[tf.RaggedTensorSpec([None, None], tf.int32)],
    )
    ids = tokenizer.encode(cruel)
    assert graph(tf.constant(cruel)).to_list() == ids.to_list()
    assert texts(back(ids)) == texts(tokenizer.decode(ids))


def test_graph_ids_of_unknown_shape_are_decoded(tokenizer):
    @tf.function(input_signature=[tf.TensorSpec(None, tf.int64)])
    def decode(ids):
        return tokenizer.decode(ids)

    ids = tf.constant([ids_of(tokenizer, "the dog")], tf.int64)
    assert texts(decode(ids)) == ["the dog"]
    assert decode(ids[None]).shape == (1, 1)


def test_graph_ids_of_unknown_shape_have_tokens(tokenizer):
    @tf.function(input_signature=[tf.TensorSpec(None, tf.int64)])
    def tokens(ids):
        return tokenizer.tokens(ids)

    ids = tf.constant([ids_of(tokenizer, "the dog")], tf.int64)
    assert texts(tokens(ids)) == texts(tokenizer.tokens(ids))
    assert tokens(ids[None]).shape == (1, *ids.shape)


def test_a_dataset_may_encode(tokenizer):
    dataset = tf.data.Dataset.from_tensor_slices(["the dog", ""]).batch(2).map(tokenizer.encode)
    assert next(iter(dataset)).to_list() == [ids_of(tokenizer, "the dog"), []]


def test_nothing_counts_from_the_first_end_on(tokenizer):
    dog, fox = ids_of(tokenizer, "dog"), ids_of(tokenizer, "fox")
    assert texts(tokenizer.decode([[*dog, END, *fox, END, *fox]])) == ["dog"]
    assert texts(tokenizer.decode([[END, *dog]])) == [""]


def test_pad_and_start_count_nowhere(tokenizer):
    dog = ids_of(tokenizer, "dog")
    scattered = [PAD, START]
    for token in dog:
        scattered += [token, PAD, START]
    assert texts(tokenizer.decode([scattered])) == ["dog"]
    assert texts(tokenizer.decode([[PAD, START, PAD]])) == [""]


def test_dense_and_ragged_decode_the_same(tokenizer, cruel):
    ids = tokenizer.encode(cruel)
    assert texts(tokenizer.decode(ids.to_tensor(PAD))) == texts(tokenizer.decode(ids))


def test_hypotheses_are_decoded_each(tokenizer):
    dog, fox = ids_of(tokenizer, "dog"), ids_of(tokenizer, "fox the lazy")
    ragged = tf.ragged.constant([[dog, fox], [fox, []]], dtype=tf.int32)
    for ids in (ragged, ragged.to_tensor(PAD)):
        decoded = tokenizer.decode(ids)
        assert decoded.shape == (2, 2)
        assert texts(decoded) == ["dog", "fox the lazy", "fox the lazy", ""]


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0), (0, 4, 5), (2, 0, 5), (2, 4, 0)])
def test_empty_ids_are_empty_texts(tokenizer, shape):
    ids = tf.zeros(shape, tf.int32)
    decoded = tokenizer.decode(ids)
    assert decoded.shape == shape[:-1]
    assert set(texts(decoded)) <= {""}
    assert tokenizer.tokens(ids).shape == shape


def test_an_empty_batch_and_an_empty_text_are_encoded(tokenizer):
    assert tokenizer.encode(tf.constant([], tf.string)).to_list() == []
    assert tokenizer.encode([""]).to_list() == [[]]
    assert tokenizer.decode(tokenizer.encode(tf.constant([], tf.string))).shape == (0,)


@pytest.mark.parametrize("dtype", [tf.int32, tf.int64])
def test_an_id_out_of_range_is_unknown(tokenizer, dtype):
    outside = tf.constant([[-1, tokenizer.vocab_size, dtype.max, dtype.min]], dtype)
    unknown = tf.fill([1, 4], tf.cast(UNKNOWN, dtype))
    assert texts(tokenizer.decode(outside)) == texts(tokenizer.decode(unknown))
    assert set(texts(tokenizer.tokens(outside))) == {"<unk>"}


def test_tokens_have_the_shape_of_the_ids(tokenizer):
    ids = tokenizer.encode(["the dog", "", "fox"])
    assert (
        tokenizer.tokens(ids).row_lengths().numpy().tolist() == ids.row_lengths().numpy().tolist()
    )
    padded = ids.to_tensor(PAD)
    assert tokenizer.tokens(padded).shape == padded.shape
    assert tokenizer.tokens(tf.zeros([2, 3, 4], tf.int64)).shape == (2, 3, 4)


def test_every_id_has_a_token_of_its_own(tokenizer):
    shown = texts(tokenizer.tokens(tf.range(tokenizer.vocab_size)))
    assert len(set(shown)) == tokenizer.vocab_size


def test_promised_lengths_hold_among_promised_neighbours(tokenizer):
    lengths = tokenizer.token_lengths
    assert lengths.shape == (tokenizer.vocab_size,)
    assert lengths.dtype == np.int32
    assert (lengths[: UNKNOWN + 1] == -1).all()
    promised = np.flatnonzero(lengths >= 0)
    assert promised.size
    random = np.random.default_rng(0)
    rows = np.concatenate(
        [random.choice(promised, [200, 7]), np.resize(promised, [promised.size, 7])]
    )
    decoded = texts(tokenizer.decode(rows))
    assert [len(text) for text in decoded] == lengths[rows].sum(axis=1).tolist()
