"""A model and its whole search as functions that a server runs."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras_attention import text as texts
from keras_attention.decoding import LogitsProcessor, Strategy
from keras_attention.decoding.scores import token_log_probs
from keras_attention.export.lines import readable
from keras_attention.export.searches import Search, check_model
from keras_attention.export.settings import SPECS, Settings

__all__ = ["Endpoints"]

_IDS = tf.TensorSpec([None, None], tf.int32, "ids")
_TEXT, _SOURCE, _TARGET = (
    tf.TensorSpec([None], tf.string, name) for name in ("text", "source", "target")
)


class Endpoints(tf.Module):
    """Map strings to strings in one graph: text -> ids -> search -> ids -> text.

    | function                 | takes                                     | gives                 |
    |--------------------------|-------------------------------------------|-----------------------|
    | `serving_default`        | `text` string [B]                         | `replies` string [B, K], `scores` float32 [B, K], `lengths` int32 [B, K], `tokens` string [B, K, T], `source_tokens` string [B, S], `alignments` float32 [B, K, T, S] |
    | `generate`               | `ids` int32 [B, S], as `source_ids` gives | `ids` int32 [B, K, T], T the maximum length, `scores`, `lengths`, `alignments` |
    | `score`                  | `source`, `target` string [B]             | `log_probability` float32 [B], `token_log_probabilities` float32 [B, T] |
    | `generate_with_settings` | `text` and each of `Settings`, a scalar   | like `serving_default` |

    In Python the last takes a text and a `Settings`. B is free, K fixed. `scores`, `lengths` and
    the order are those of `decoding.generate`; in `score` T includes the end token, with zeros
    after it. A line that cannot be answered (see `read`) gets K times "", with length 0 and score
    -inf, and does not affect the other lines.

    Args:
        model: see `decoding.Model`: any object, a Keras model, a `tf.Module`. If it has a `prompt`,
            a reply begins with its line, which is included in `lengths`, `scores` and
            `max_length`; a `target` is such a whole reply.
        tokenizer: of `keras_attention.text`; None exports `generate` only, also as
            `serving_default`.
        beam_width, n_best, strategy, processors: of `decoding.generate`.
        return_alignments: False for a model without attention.
        settings: the values that `generate_with_settings` may change. A `seed` of 0 or more draws
            samples instead of using the strategy.
        max_source_length: maximum tokens of a line; the rest is cut off. `generate` accepts at most
            as many ids and the end token. For a model with a `prompt` it is at most the
            `max_length` of the settings, and a smaller one in `generate_with_settings` is an error.
        max_target_length: maximum tokens of a `target` of `score`, without the end token. Default:
            the larger of `max_source_length` and the `max_length` of the settings.
        read: text [B] -> (text to encode [B], which lines are answered, bool [B]). Default: lines
            that are UTF-8, not blank, and contain a token of the vocabulary.
        line_processors: (source ids [B, S], text [B] or None) -> list of logits processors that
            depend on the lines.
        never_copied: words that are not copied from the source in place of an unknown word
            (`text.Words` only, which copies the source word with the largest alignment).

    Settings must be finite, with temperature > 0, top_k >= 0, 0 < top_p <= 1, 1 <= max_length <= the
    exported one, and no coverage penalty without alignments: ValueError here, InvalidArgumentError
    for those of a request. The weights are shared with the model: changes affect the answers until
    the endpoints are saved.

    Raises ValueError for a model without a required attribute, or with fewer tokens than the
    tokenizer.

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
        strategy: Strategy | None = None,
        processors: Sequence[LogitsProcessor] = (),
        return_alignments: bool = True,
        max_source_length: int = 64,
        max_target_length: int | None = None,
        read: Callable | None = None,
        line_processors: Callable | None = None,
        never_copied: Sequence[str] = (),
    ):
        super().__init__()
        self.settings = settings or Settings()
        if max_target_length is None:
            max_target_length = max(max_source_length, self.settings.max_length)
        lengths = {"max_source_length": max_source_length, "max_target_length": max_target_length}
        for name, length in lengths.items():
            if length < 1:
                raise ValueError(f"Expected {name} of at least 1. Received: {name}={length}")
        self.settings.check_ranges(return_alignments)
        check_model(model, tokenizer)
        self.tokenizer = tokenizer
        self.pad_id, self.start_id, self.end_id = model.pad_id, model.start_id, model.end_id
        self._read = read or (lambda text: (text, readable(text, self._spelling())))
        if hasattr(model, "prompt"):  # a line is the beginning of its reply
            max_source_length = min(max_source_length, self.settings.max_length)
        self._max_source_length = max_source_length
        self.max_target_length = max_target_length
        self._prompted = hasattr(model, "prompt")
        self._never_copied = [word.lower() for word in never_copied]
        self._has_attention = return_alignments
        self._search = Search(
            model,
            strategy,
            processors,
            line_processors,
            beam_width=beam_width,
            n_best=n_best,
            return_alignments=return_alignments,
        )
        self.generate = _function(self._of_ids, _IDS)
        self.functions: dict[str, Any] = {"generate": self.generate}
        if tokenizer is None:
            self.functions["serving_default"] = self.generate
            return
        self.serving_default = _function(self._as_exported, _TEXT)
        self.generate_with_settings = _function(self._with_settings, _TEXT, SPECS)
        self.score = _function(self._score, _SOURCE, _TARGET)
        self.functions.update(
            serving_default=self.serving_default,
            generate_with_settings=self.generate_with_settings,
            score=self.score,
        )

    def _of_ids(self, ids):
        # A long request must not block a server: the time grows with the square of S.
        longest, columns = self._max_source_length + (not self._prompted), tf.shape(ids)[1]
        wanted = f"Expected at most {longest} ids in a row, as exported. Received: "
        ids = _checked(ids, columns <= longest, wanted, columns)
        some = self._prompted | (tf.shape(ids)[1] > 0)
        wanted = "Expected ids of 0 or more, at least one in a row. Received: "
        ids = _checked(ids, tf.reduce_all(ids >= 0) & some, wanted, ids)
        # A fixed length for all answers: else LiteRT and XLA could not compile the export.
        return self._search(ids, None, self.settings, pad_to_max_length=True)

    def _as_exported(self, text):
        def search(source, text):
            if self._search.line_processors is None:
                return self.generate(source)  # one loop for both
            return self._search(source, text, self.settings)

        return self._answer(text, search)

    def _with_settings(self, text, settings):
        settings.check_ranges(self._has_attention, self.settings.max_length)
        return self._answer(text, lambda source, text: self._search(source, text, settings))

    def _spelling(self) -> texts.Tokenizer:
        if self.tokenizer is None:
            raise ValueError(
                "Texts need a tokenizer: Endpoints(model, tokenizer). Received: tokenizer=None; "
                "without one there is only `generate`, which takes ids."
            )
        return self.tokenizer

    def source_ids(self, text: tf.Tensor) -> tf.Tensor:
        """The ids to encode: string [B] -> [B, S], padded; with an end token unless a prompt."""
        ids = self._spelling().encode(text)[:, : self._max_source_length]
        return ids.to_tensor(self.pad_id) if self._prompted else self._ended(ids)

    def _ended(self, ids):
        ends = tf.fill([ids.nrows(), 1], self.end_id)
        return tf.concat([ids, tf.cast(ends, ids.dtype)], 1).to_tensor(self.pad_id)

    def _answer(self, text, search) -> dict[str, tf.Tensor]:
        count, text = tf.shape(text)[0], _pad_empty_batch(text)
        read, answered = self._read(text)
        source = self.source_ids(read)
        found = _mask_unanswered(_cut(search(source, text)), answered, self.pad_id)
        answer = self.spell(read, source, found["ids"], found.get("alignments"))
        answer.update(scores=found["scores"], lengths=found["lengths"])
        return {name: value[:count] for name, value in answer.items()}

    def spell(self, text, source, ids, alignments=None) -> dict[str, tf.Tensor]:
        """Decode answers: text [B], source [B, S], ids [B, K, T] -> dict of string tensors."""
        tokenizer = self._spelling()
        answer = {
            "replies": tokenizer.decode(ids),
            "tokens": tokenizer.tokens(ids),
            "source_tokens": tokenizer.tokens(source),
        }
        if alignments is not None:
            answer["alignments"] = alignments
            if isinstance(tokenizer, texts.Words):
                answer.update(self._known(text, answer))
        return answer

    def _known(self, text, answer) -> dict[str, tf.Tensor]:
        """Replace unknown words by the source word with the largest alignment."""
        words = texts.split(text)[:, : self._max_source_length]
        ends = tf.fill([tf.shape(text)[0], 1], "")
        words = tf.concat([words, ends], 1).to_tensor("")
        folded = tf.strings.lower(words, "utf-8")[..., None]
        banned = tf.reduce_any(folded == tf.constant(self._never_copied, tf.string), -1)
        words = tf.where(banned, "", words)  # an empty word is not copied
        tokens = texts.replace_unknown(answer["tokens"], words, answer["alignments"])
        return {"tokens": tokens, "replies": texts.join(tokens)}

    def _score(self, source, target):
        shapes = count, others = tf.shape(source)[0], tf.shape(target)[0]
        wanted = "Expected as many targets as sources. Received: "
        target = _checked(target, count == others, wanted, *shapes)
        tokens = self._spelling().encode(_pad_empty_batch(target))
        length, longest = tf.reduce_max(tokens.row_lengths()), self.max_target_length
        wanted = f"Expected a target of at most {longest} tokens, as exported. Received: "
        values = _checked(tokens.values, length <= longest, wanted, length)
        targets = self._ended(tokens.with_values(values))
        sources = self.source_ids(self._read(_pad_empty_batch(source))[0])
        log_probs = token_log_probs(self._search.model, sources, targets)
        return {
            "log_probability": tf.reduce_sum(log_probs, 1)[:count],
            "token_log_probabilities": log_probs[:count],
        }


def _function(function, *signature):
    return tf.function(function, input_signature=signature, autograph=False)


def _checked(value, holds, *message):
    """The value, with an assertion that runs before it."""
    with tf.control_dependencies([tf.debugging.Assert(holds, message)]):
        return tf.identity(value)


def _pad_empty_batch(text):
    """Add an empty line to an empty batch: a loop over no rows has unknown shapes."""
    return tf.concat([text, tf.fill([tf.maximum(1 - tf.shape(text)[0], 0)], "")], 0)


def _cut(found: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Cut the arrays to the longest answer."""
    longest = tf.maximum(1, tf.reduce_max(found["lengths"]))
    cut = {name: found[name][:, :, :longest] for name in ("ids", "alignments") if name in found}
    return {**found, **cut}


def _mask_unanswered(found: dict[str, tf.Tensor], answered, pad_id) -> dict[str, tf.Tensor]:
    """Remove the answers of rows that are not answered.  answered [B]."""
    nothing = {"ids": pad_id, "scores": -float("inf"), "lengths": 0, "alignments": 0}

    def keep(name, value):
        rows = tf.reshape(answered, [-1] + [1] * (value.shape.rank - 1))
        return tf.where(rows, value, tf.cast(nothing[name], value.dtype))

    return {name: keep(name, value) for name, value in found.items()}
