"""Write small checkpoints of tf.contrib models, and what these models answer.

    python tests/parity/checkpoint_tf1.py tests/parity/checkpoints

runs in TensorFlow 1.15 (Python 3.7). Each model gives NAME.index and NAME.data-*, with Adam's slots
and a global step beside the weights, and NAME.npz: inputs, logits of teacher forcing, beams. Each
cell gives the one file NAME of the Saver's older format, and NAME.npz.
"""

import sys

import numpy as np
import tensorflow as tf

START, END, BEAMS, STEPS = 1, 2, 3, 7
UNITS, SOURCE_WORDS, TARGET_WORDS, EMBEDDING = 6, 11, 12, 5
MODELS = {  # each with the seed of weights that give beams of many lengths
    "tf1_lstm": (7, dict(cell="LSTMCell", layers=2)),
    "tf1_gru": (20, dict(cell="GRUCell", two_way=True, luong=True)),
    "tf1_basic": (0, dict(cell="BasicRNNCell")),
}
CELLS = {
    "cell_lstm": dict(cell="LSTMCell", forget_bias=0.75),
    "cell_gru": dict(cell="GRUCell"),
    "cell_basic": dict(cell="BasicRNNCell"),
}


def inputs():
    random = np.random.RandomState(1)
    lengths = np.array([6, 3, 5], np.int32)
    source = random.randint(3, SOURCE_WORDS, [3, 6]).astype(np.int32)
    source *= np.arange(6) < lengths[:, None]  # 0 is the padding
    target = random.randint(3, TARGET_WORDS, [3, 5]).astype(np.int32)
    target[:, 0] = START
    return source, lengths, target


def stack(cell, layers):
    cells = [getattr(tf.nn.rnn_cell, cell)(UNITS) for _ in range(layers)]
    return cells[0] if layers == 1 else tf.nn.rnn_cell.MultiRNNCell(cells)


def model(cell, layers=1, two_way=False, luong=False, search=False):
    """Logits, or in a graph of its own (ids, log p, lengths) of the beams."""
    seq2seq = tf.contrib.seq2seq
    source, lengths, target = map(tf.constant, inputs())
    with tf.variable_scope("seq2seq"):
        embeddings = [
            tf.get_variable("embedding_" + side, [words, EMBEDDING])
            for side, words in (("encoder", SOURCE_WORDS), ("decoder", TARGET_WORDS))
        ]
        with tf.variable_scope("encoder"):
            embedded = tf.nn.embedding_lookup(embeddings[0], source)
            if two_way:
                ways, states = tf.nn.bidirectional_dynamic_rnn(
                    stack(cell, layers), stack(cell, layers), embedded, lengths, dtype=tf.float32
                )
                encoded, state = tf.concat(ways, -1), states[1]
            else:
                encoded, state = tf.nn.dynamic_rnn(
                    stack(cell, layers), embedded, lengths, dtype=tf.float32
                )
        batch = 3
        if search:
            batch *= BEAMS
            encoded, lengths, state = seq2seq.tile_batch((encoded, lengths, state), BEAMS)
        if luong:
            mechanism = seq2seq.LuongAttention(UNITS, encoded, lengths, scale=True)
        else:
            mechanism = seq2seq.BahdanauAttention(UNITS + 1, encoded, lengths, normalize=True)
        decoder_cell = seq2seq.AttentionWrapper(
            stack(cell, layers), mechanism, attention_layer_size=None if luong else UNITS + 2
        )
        begin = decoder_cell.zero_state(batch, tf.float32).clone(cell_state=state)
        output_layer = tf.layers.Dense(TARGET_WORDS, use_bias=not luong)
        if search:
            decoder = seq2seq.BeamSearchDecoder(
                decoder_cell, embeddings[1], [START] * 3, END, begin, BEAMS, output_layer
            )
            found, final, _ = seq2seq.dynamic_decode(decoder, maximum_iterations=STEPS)
            return found.predicted_ids, final.log_probs, final.lengths
        helper = seq2seq.TrainingHelper(
            tf.nn.embedding_lookup(embeddings[1], target), [target.shape[1].value] * 3
        )
        decoder = seq2seq.BasicDecoder(decoder_cell, helper, begin, output_layer)
        return seq2seq.dynamic_decode(decoder)[0].rnn_output


def draw(session, seed):
    """Weights wide enough, biases too, for every one of them to show in the answers."""
    random = np.random.RandomState(seed)
    for variable in sorted(tf.trainable_variables(), key=lambda v: v.name):
        variable.load(random.normal(0, 1, variable.shape.as_list()), session)


def save(session, path, version):
    saver = tf.train.Saver(write_version=version)
    saver.save(session, path, write_meta_graph=False, write_state=False)


def write_model(folder, name, seed, settings):
    path = f"{folder}/{name}"
    source, lengths, target = inputs()
    with tf.Graph().as_default(), tf.Session() as session:
        logits = model(**settings)
        labels = tf.constant(np.roll(target, -1, 1))
        loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
        step = tf.train.AdamOptimizer(1e-4).minimize(loss, tf.train.get_or_create_global_step())
        session.run(tf.global_variables_initializer())
        draw(session, seed)
        for _ in range(2):
            session.run(step)
        save(session, path, tf.train.SaverDef.V2)
        answers = dict(logits=session.run(logits))
    with tf.Graph().as_default(), tf.Session() as session:
        found = model(search=True, **settings)
        tf.train.Saver().restore(session, path)
        answers.update(zip(("ids", "log_probs", "lengths"), session.run(found)))
    np.savez_compressed(
        path + ".npz", source=source, source_lengths=lengths, target=target, **answers
    )


def write_cell(folder, name, cell, **settings):
    """A cell alone, for three steps from a state that is not zero."""
    path = f"{folder}/{name}"
    random = np.random.RandomState(2)
    x = random.normal(size=[2, 3, 3]).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        cell = getattr(tf.nn.rnn_cell, cell)(4, **settings)
        begin = tf.nest.map_structure(
            lambda size: tf.constant(random.normal(size=[2, size]), tf.float32), cell.state_size
        )
        outputs, _ = tf.nn.dynamic_rnn(cell, tf.constant(x), initial_state=begin)
        session.run(tf.global_variables_initializer())
        draw(session, 0)
        save(session, path, tf.train.SaverDef.V1)
        outputs, begin = session.run((outputs, tf.nest.flatten(begin)))
    np.savez_compressed(path + ".npz", x=x, outputs=outputs, begin=np.stack(begin))


if __name__ == "__main__":
    for name, (seed, settings) in sorted(MODELS.items()):
        write_model(sys.argv[1], name, seed, settings)
    for name, settings in sorted(CELLS.items()):
        write_cell(sys.argv[1], name, **settings)
