"""A model and its whole search as the functions that a server runs."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras_attention import text as texts
from keras_attention.export.lines import readable
from keras_attention.export.settings import TYPES, Settings
from keras_attention.functional import cross_entropy
from keras_attention.seq2seq import Chooser, Control, generate, sample

__all__ = ["Endpoints"]


class Endpoints(tf.Module):
    """Strings in, strings out: text -> ids -> search -> ids -> text, in one graph.

    | function                 | takes                                     | gives                 |
    |--------------------------|-------------------------------------------|-----------------------|
    | `serving_default`        | `text` string [B]                         | `replies` string [B, K], `scores` float32 [B, K], `lengths` int32 [B, K], `tokens` string [B, K, T], `source_tokens` string [B, S], `alignments` float32 [B, K, T, S] |
    | `generate`               | `ids` int32 [B, S], as the model encodes  | `ids` int32 [B, K, T], T the longest that may be said, `scores`, `lengths`, `alignments` |
    | `score`                  | `source`, `target` string [B]             | `log_probability` float32 [B], `token_log_probabilities` float32 [B, T] |
    | `generate_with_settings` | `text` and each of `Settings`, a scalar   | what `serving_default` gives |

    B is free, K fixed. `scores`, `lengths` and the order are those of `seq2seq.generate`; the end
    token counts in a score's T, with zeros behind it. A line that cannot be answered gets "" K
    times, of length 0 and score -inf, and changes nothing for the lines beside it: see `read`.

    Args:
        model: see `seq2seq.generate.Model`; `score` also calls it: `model((source [B, S],
            target_in [B, T])) -> logits [B, T, V]`.
        tokenizer: of `keras_attention.text`; None leaves `generate`, as `serving_default` too.
        beam_width, n_best, chooser, controls: of `seq2seq.generate`.
        return_alignments: False for a model that has none.
        settings: what `generate_with_settings` may change, as the others use it.
        max_source_length: tokens of a line that are read; the rest is cut off.
        read: text [B] -> (what is encoded [B], which lines are answered, bool [B]). Default: those
            that are UTF-8, not blank, and have something in them that the model knows.
        limits: (source ids [B, S], text [B] or None) -> controls that depend on the lines.
        never_copied: words that do not take an unknown word's place (`text.Words` only, where the
            source's word that an unknown one looks at is written for it).

    The settings' ranges are checked when they arrive (InvalidArgumentError): temperature > 0,
    top_k >= 0, 0 < top_p <= 1, 1 <= max_length <= the exported one, and no coverage penalty without
    alignments. Variables are taken from the model once, by
    reference: weights that change later change the answers, until they are saved.

    >>> from models import RNNSeq2Seq
    >>> tokenizer = texts.Characters.train(["hello you"])
    >>> model = RNNSeq2Seq(tokenizer.vocab_size, units=8)
    >>> serve = Endpoints(model, tokenizer, beam_width=3, settings=Settings(max_length=5))
    >>> answer = serve.serving_default(tf.constant(["hello", ""]))
    >>> answer["replies"].shape, answer["lengths"].numpy()[1].tolist()
    (TensorShape([2, 3]), [0, 0, 0])
    """  # noqa: E501

    def __init__(
        self,
        model: Any,
        tokenizer: texts.Tokenizer | None = None,
        *,
        beam_width: int = 4,
        n_best: int | None = None,
        settings: Settings | None = None,
        chooser: Chooser | None = None,
        controls: Sequence[Control] = (),
        return_alignments: bool = True,
        max_source_length: int = 64,
        read: Callable | None = None,
        limits: Callable | None = None,
        never_copied: Sequence[str] = (),
    ):
        super().__init__()
        self.tokenizer, self.settings = tokenizer, settings or Settings()
        self._read = read or (lambda text: (text, readable(text, tokenizer)))
        self._max_source_length = max_source_length
        self._never_copied = [word.lower() for word in never_copied]

        def search(source, text, settings, chooser=chooser, **shape) -> dict[str, tf.Tensor]:
            first, last = settings.controls()
            limited = limits(source, text) if limits else []
            found = generate(
                model,
                source,
                beam_width=beam_width,
                n_best=n_best,
                max_length=settings.max_length,
                length_penalty=settings.length_penalty,
                coverage_penalty=settings.coverage_penalty if return_alignments else 0.0,
                controls=[*first, *limited, *controls, *last],
                chooser=chooser,
                return_alignments=return_alignments,
                **shape,
            )._asdict()
            wanted = ("ids", "scores", "lengths", "alignments")
            return {name: _plain(found[name]) for name in wanted if found[name] is not None}

        self._looks, self._limited = return_alignments, limits is not None
        self._hold(model, search)

    def _hold(self, model, search) -> None:
        """Trace the functions; they hold the model, which is no attribute of this module.

        A SavedModel then has each variable once, under a name that every loader finds: what runs a
        graph in a session does not look into Keras' layers.
        """
        model.build()
        self._weights = [variable.value for variable in model.variables]
        self.pad_id, self.start_id, self.end_id = model.pad_id, model.start_id, model.end_id
        ids = tf.TensorSpec([None, None], tf.int32, name="ids")
        text, source, target = (
            tf.TensorSpec([None], tf.string, name=name) for name in ("text", "source", "target")
        )
        varied = [tf.TensorSpec([], dtype, name=name) for name, dtype in TYPES._asdict().items()]

        @_function(ids)
        def generate(ids):
            # As long for every answer: else LiteRT and XLA could not compile what was exported.
            return search(ids, None, self.settings, pad_to_max_length=True)

        self.generate = generate
        self.functions: dict[str, Any] = {"generate": generate}
        if self.tokenizer is None:
            self.functions["serving_default"] = generate
            return

        @_function(text)
        def serving_default(text):
            if self._limited:
                return self._answer(text, lambda *asked: search(*asked, self.settings))
            return self._answer(text, lambda source, lines: generate(source))  # one loop for both

        @_function(text, *varied)
        def generate_with_settings(
            text, length_penalty, coverage_penalty, temperature, top_k, top_p, max_length, seed
        ):
            varied = Settings(
                length_penalty, coverage_penalty, temperature, top_k, top_p, max_length, seed
            )
            varied.demand_ranges(self.settings.max_length, self._looks)
            return self._answer(text, lambda source, lines: _drawn(search, source, lines, varied))

        @_function(source, target)
        def score(source, target):
            return self._score(model, source, target)

        self.serving_default, self.score = serving_default, score
        self.generate_with_settings = generate_with_settings
        self.functions.update(
            serving_default=serving_default,
            score=score,
            generate_with_settings=generate_with_settings,
        )

    def source_ids(self, text: tf.Tensor) -> tf.Tensor:
        """What the model encodes: string [B] -> ids [B, S], ended and padded."""
        return self._ended(self.tokenizer.encode(text)[:, : self._max_source_length])

    def _ended(self, ids):
        ends = tf.fill([ids.nrows(), 1], self.end_id)
        return tf.concat([ids, tf.cast(ends, ids.dtype)], 1).to_tensor(self.pad_id)

    def _answer(self, text, search) -> dict[str, tf.Tensor]:
        count, text = tf.shape(text)[0], _somebody(text)
        read, answered = self._read(text)
        source = self.source_ids(read)
        found = _only(_cut(search(source, text)), answered, self.pad_id)
        answer = self.spell(text, source, found["ids"], found.get("alignments"))
        answer.update(scores=found["scores"], lengths=found["lengths"])
        return {name: value[:count] for name, value in answer.items()}

    def spell(self, text, source, ids, alignments=None) -> dict[str, tf.Tensor]:
        """The strings of an answer: text [B], source [B, S], ids [B, K, T] -> what is served."""
        answer = {
            "replies": self.tokenizer.decode(ids),
            "tokens": self.tokenizer.tokens(ids),
            "source_tokens": self.tokenizer.tokens(source),
        }
        if alignments is not None:
            answer["alignments"] = alignments
            if isinstance(self.tokenizer, texts.Words):
                answer.update(self._known(text, answer))
        return answer

    def _known(self, text, answer) -> dict[str, tf.Tensor]:
        """Words the model does not know, replaced by the source's word they look at."""
        words = texts.split(text)[:, : self._max_source_length]
        ends = tf.fill([tf.shape(text)[0], 1], "")
        words = tf.concat([words, ends], 1).to_tensor("")
        folded = tf.strings.lower(words, "utf-8")[..., None]
        banned = tf.reduce_any(folded == tf.constant(self._never_copied, tf.string), -1)
        words = tf.where(banned, "", words)  # of which nothing is copied
        tokens = texts.replace_unknown(answer["tokens"], words, answer["alignments"])
        return {"tokens": tokens, "replies": texts.join(tokens)}

    def _score(self, model, source, target) -> dict[str, tf.Tensor]:
        count = tf.shape(source)[0]
        same = tf.debugging.Assert(
            tf.equal(count, tf.shape(target)[0]),
            ["Expected as many targets as sources. Received: ", tf.shape(source), tf.shape(target)],
        )
        with tf.control_dependencies([same] if same is not None else []):
            said = self._ended(self.tokenizer.encode(_somebody(target)))
        starts = tf.fill([tf.shape(said)[0], 1], self.start_id)
        heard = self.source_ids(self._read(_somebody(source))[0])
        logits = model((heard, tf.concat([starts, said[:, :-1]], 1)), training=False)
        costs = cross_entropy(
            tf.reshape(said, [-1]), tf.reshape(logits, [-1, tf.shape(logits)[-1]])
        )
        real = said != self.pad_id
        log_probs = tf.where(real, -tf.reshape(costs, tf.shape(said)), 0.0)
        answer = {
            "log_probability": _plain(tf.reduce_sum(log_probs, 1)),
            "token_log_probabilities": _plain(log_probs),
        }
        return {name: value[:count] for name, value in answer.items()}


def _function(*signature):
    return lambda function: tf.function(function, input_signature=signature, autograph=False)


def _plain(value):
    """float32, whatever the model computes in."""
    return tf.cast(value, tf.float32) if value.dtype.is_floating else value


def _somebody(text):
    """At least one line: loops over nobody have no shape to begin with."""
    return tf.concat([text, tf.fill([tf.maximum(1 - tf.shape(text)[0], 0)], "")], 0)


def _cut(found: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """No longer than the longest answer."""
    longest = tf.maximum(1, tf.reduce_max(found["lengths"]))
    cut = {name: found[name][:, :, :longest] for name in ("ids", "alignments") if name in found}
    return {**found, **cut}


def _only(found: dict[str, tf.Tensor], answered, pad_id) -> dict[str, tf.Tensor]:
    """The answers of some rows; the others have none.  answered [B]."""
    nothing = {"ids": pad_id, "scores": -float("inf"), "lengths": 0, "alignments": 0}

    def keep(name, value):
        rows = tf.reshape(answered, [-1] + [1] * (value.shape.rank - 1))
        return tf.where(rows, value, tf.cast(nothing[name], value.dtype))

    return {name: keep(name, value) for name, value in found.items()}


def _drawn(search: Callable, source, text, settings: Settings) -> dict[str, tf.Tensor]:
    """The exported search, or draws where there is a seed."""
    return tf.cond(
        settings.seed < 0,
        lambda: search(source, text, settings),
        lambda: search(source, text, settings, sample(settings.seed)),
    )
