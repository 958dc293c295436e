"""A small SavedModel of every kind of signature, and a server of it in a thread."""

import contextlib
import http.client
import json
import threading

import tensorflow as tf

from keras_attention.export.server import Limits, Versions, application
from keras_attention.export.server.process import listen, server_of

EXTRA_STEPS = 2  # a search runs on after its best answers are complete


class Parrot(tf.Module):
    """What the exporter's signatures look like, without a model: a line is said twice."""

    def __init__(self, mark="!"):
        super().__init__()
        self.mark = tf.Variable(mark)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def say(self, text):
        characters = tf.strings.unicode_split(text, "UTF-8", errors="ignore")
        source = tf.concat([characters, tf.fill([tf.shape(text)[0], 1], "</s>")], 1)
        lengths = tf.cast(source.row_lengths(), tf.int32)[:, None] + [[0, -1]]  # [B, 2]
        source = source.to_tensor("")  # [B, S]
        tokens = tf.pad(source, [[0, 0], [0, EXTRA_STEPS]])
        real = tf.sequence_mask(lengths, tf.shape(tokens)[1])  # [B, 2, T]
        looks = tf.one_hot(tf.range(tf.shape(tokens)[1]), tf.shape(source)[1])  # [T, S]
        return {
            "replies": tf.stack([text + self.mark, text], 1),
            "scores": -tf.cast(lengths, tf.float32) / 3.0,
            "lengths": lengths,
            "tokens": tf.where(real, tokens[:, None], ""),
            "source_tokens": source,
            "alignments": tf.cast(real, tf.float32)[..., None] * looks,
        }

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32, name="ids")])
    def total(self, ids):
        return {"total": tf.reduce_sum(ids, 1)}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="text"),
            tf.TensorSpec([], tf.int32, name="times"),
        ]
    )
    def repeat(self, text, times):
        fine = tf.debugging.Assert(times >= 0, ["Expected times 0 or more. Received: ", times])
        with tf.control_dependencies([fine]):
            times = tf.identity(times)
        said = tf.strings.reduce_join(tf.tile(text[:, None], [1, times]), 1)
        return {"said": tf.ensure_shape(said, [None]), "said_bytes": text}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="blob")])
    def keep(self, blob):
        return {"blob_bytes": blob}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def inverse(self, x):
        return {"inverse": 1 / x, "root": tf.sqrt(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="file")])
    def wait(self, file):
        """Looks for files until they are there."""

        def absent(looks):
            # As a function of the step, or it could be asked once and for all.
            pattern = file + tf.strings.substr(tf.strings.as_string(looks), 0, 0)
            return tf.size(tf.io.matching_files(pattern)) < 1

        looks = tf.while_loop(absent, lambda looks: [looks + 1], [0])[0]
        return {"file": file, "looks": tf.fill(tf.shape(file), looks)}

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.string, name="a")])
    def widest(self, a):
        return {"row": a, "padded": tf.pad(a, [[0, 0], [0, 1]])}


def save(directory, mark="!") -> str:
    parrot = Parrot(mark)
    signatures = {
        name: getattr(parrot, name)
        for name in ("total", "repeat", "keep", "inverse", "wait", "widest")
    }
    tf.saved_model.save(parrot, str(directory), {"serving_default": parrot.say, **signatures})
    return str(directory)


@contextlib.contextmanager
def served(model, name="parrot", add=None, **limits):
    """The URL of a server of a directory or of `Versions`, which is gone afterwards.

    `add`: as of `keras_attention.export.server.serve`.
    """
    versions = model if isinstance(model, Versions) else Versions(str(model))
    limits = Limits(**limits)
    app = application(versions, name, limits)
    if add is not None:
        add(app, versions)
    server = server_of(app, limits)
    with listen("127.0.0.1", 0) as listener:
        listener.listen()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def ask(url, path, body=None, **headers):
    """-> status code, JSON. `body`: bytes as they are, or what is to be written as JSON."""
    host = url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=120)
    with contextlib.closing(connection):
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        connection.request("GET" if body is None else "POST", path, body, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
