"""How the files beside this one were made, by release 0.1.0, from the root of its tree.

    python -m tests.saved_0_1_0.make

Later releases load them: see `test_loading.py`. They are not made again.
"""

import json
import os
import subprocess
import sys
import tarfile
import tempfile

import keras
import numpy as np
import tensorflow as tf

from keras_attention import seq2seq
from models import RNNSeq2Seq

FOLDER = os.path.dirname(os.path.abspath(__file__))
SOURCE = np.array([[5, 6, 7, 2], [8, 3, 2, 0]])
STEPS = 4
SETTINGS = {"beam_width": 3, "max_length": STEPS}
LINES = ("Hello", "How are you?")
REPLIES = ("Good day", "Fine, thanks")


def choosers():
    return {
        "best": seq2seq.best(),
        "sample": seq2seq.sample(seed=7, best_first=True),
        "stochastic": seq2seq.stochastic(seed=7),
        "diverse": seq2seq.diverse(2, 0.5),
    }


def decoder(chooser):
    return seq2seq.BeamSearchDecoder(
        keras.layers.GRUCell(4),
        beam_width=4,
        embedding_fn=keras.layers.Embedding(10, 4),
        output_layer=keras.layers.Dense(10),
        chooser=chooser,
        maximum_iterations=STEPS,
    )


def answers(layer):
    """What a search from a given state says."""
    state = seq2seq.tile_batch(np.linspace(-1, 1, 8, dtype="float32").reshape(2, 4), 4)
    outputs, _, _ = layer(None, start_tokens=[1, 1], end_token=2, initial_state=tf.constant(state))
    return outputs.predicted_ids.numpy()


def main():
    keras.utils.set_random_seed(0)
    found = {}
    model = RNNSeq2Seq(vocab_size=12, units=4, attention="luong", layers=2)
    model.build()
    found["logits"] = model((SOURCE, SOURCE)).numpy()
    found["ids"] = model.generate(SOURCE, **SETTINGS).ids.numpy()
    model.save(os.path.join(FOLDER, "rnn_seq2seq.keras"))

    decoders = {name: decoder(chooser) for name, chooser in choosers().items()}
    configs = {name: keras.saving.serialize_keras_object(d) for name, d in decoders.items()}
    with open(os.path.join(FOLDER, "decoders.json"), "w") as file:
        json.dump(configs, file, indent=1)

    searched = decoders["diverse"]
    found["diverse"] = answers(searched)
    state = keras.Input([4])
    tokens = keras.Input([], dtype="int32")
    outputs, _, _ = searched(None, start_tokens=tokens, end_token=2, initial_state=state)
    whole = keras.Model([tokens, state], outputs.predicted_ids)
    whole.save(os.path.join(FOLDER, "decoder.keras"))

    with tempfile.TemporaryDirectory() as folder:
        pairs, chatbot, export = (os.path.join(folder, x) for x in ("pairs", "chatbot", "export"))
        with open(pairs, "w") as file:
            file.writelines(f"{line}\t{reply}\n" for line, reply in zip(LINES, REPLIES))
        sizes = (
            "--units=4",
            "--steps=60",
            "--learning_rate=0.05",
            "--max_length=16",
            "--batch_size=2",
            "--vocab_size=40",
        )
        search = ("--sampling=diverse", "--beam_width=4", "--n_best=2", "--no_repeat_ngram=2")
        program = (sys.executable, "-m", "apps.chatbot", f"--model_dir={chatbot}")
        subprocess.check_call(
            [*program, "--mode=train", f"--data={pairs}", f"--dev_data={pairs}", *sizes, *search]
        )
        subprocess.check_call([*program, "--mode=export", f"--export_dir={export}"])
        served = tf.saved_model.load(export)
        given = served.signatures["serving_default"](tf.constant(LINES))
        found["served"] = given["replies"].numpy().astype(str)
        found["scores"] = given["scores"].numpy()
        for name in ("chatbot", "export"):
            with tarfile.open(os.path.join(FOLDER, f"{name}.tar.xz"), "w:xz") as archive:
                archive.add(os.path.join(folder, name), name)
    np.savez_compressed(os.path.join(FOLDER, "found.npz"), **found)


if __name__ == "__main__":
    main()
