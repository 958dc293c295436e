"""From strings to the n best replies: one graph, used by eval, infer and export alike."""

from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from apps.chatbot import search
from keras_attention import text
from keras_attention.seq2seq import Stream, exact_length, generate


class Responder(tf.Module):
    """A model, its tokenizer and the settings of the search, as one function of strings.

    The model is held by the traced function, not as an attribute: a SavedModel of this module
    then has each variable once, and under a name that every loader finds.
    """

    def __init__(self, model: keras.Model, tokenizer: text.Tokenizer, settings: dict):
        super().__init__()
        self.tokenizer = tokenizer
        self._weights = [variable.value for variable in model.variables]
        self._max_length = settings["max_length"]
        exact = settings["task"] == "couplet"
        looks = settings["attention"] != "none"
        plan = search.plan(settings, tokenizer)
        self._banned = [word.lower() for word in settings["banned_words"]]

        @tf.function(
            input_signature=[tf.TensorSpec([None], tf.string, name="text")], autograph=False
        )
        def respond(text):
            """text [B] -> replies [B, K], scores [B, K], lengths, tokens, alignments."""
            asked = tf.shape(text)[0]
            text = tf.concat([text, tf.fill([tf.maximum(1 - asked, 0)], "")], 0)  # [B], B > 0
            source = self._source(text, model)
            limits = []
            if exact:
                lengths = tf.minimum(tf.strings.length(text, "UTF8_CHAR"), self._max_length)
                limits.append(exact_length(lengths, model.end_id, tokenizer.token_lengths))
            found = generate(
                model,
                source,
                max_length=self._max_length + 1,
                return_alignments=looks,
                controls=[*limits, *plan.controls],
                **search.arguments(plan),
            )
            answer = self._spelled(text, source, found.ids, found.alignments)
            answer.update(scores=found.scores, lengths=found.lengths)
            return {name: value[:asked] for name, value in answer.items()}

        self.respond = respond
        self._stream = None
        if not exact and plan.streams:
            tokens = Stream(
                model,
                max_length=self._max_length + 1,
                controls=plan.controls,
                chooser=plan.chooser,
                return_alignments=looks,
            )
            self._stream = lambda text: self._pieces(text, self._source(text, model), tokens)

    def _source(self, text, model):
        """string [B] -> ids [B, S], ended and padded."""
        ids = self.tokenizer.encode(text)[:, : self._max_length]
        ends = tf.fill([tf.shape(text)[0], 1], model.end_id)
        return tf.concat([ids, ends], 1).to_tensor(model.pad_id)

    def _spelled(self, source_text, source, ids, alignments) -> dict[str, tf.Tensor]:
        answer = {
            "replies": self.tokenizer.decode(ids),
            "tokens": self.tokenizer.tokens(ids),
            "source_tokens": self.tokenizer.tokens(source),
        }
        if alignments is not None:
            answer["alignments"] = tf.cast(alignments, tf.float32)
            if isinstance(self.tokenizer, text.Words):
                answer.update(self._known(source_text, answer))
        return answer

    def _known(self, source_text, answer) -> dict[str, tf.Tensor]:
        """Words the model does not know, replaced by the source's word they look at."""
        words = text.split(source_text)[:, : self._max_length]
        ends = tf.fill([tf.shape(source_text)[0], 1], "")
        words = tf.concat([words, ends], 1).to_tensor("")
        folded = tf.strings.lower(words, "utf-8")[..., None]
        banned = tf.reduce_any(folded == tf.constant(self._banned, tf.string), -1)
        words = tf.where(banned, "", words)  # of which nothing is copied
        tokens = text.replace_unknown(answer["tokens"], words, answer["alignments"])
        return {"tokens": tokens, "replies": text.join(tokens)}

    def replies(self, lines: list[str]) -> list[list[str]]:
        """The n best replies to each line, best first."""
        return [
            [reply.decode("utf-8", "replace") for reply in row]
            for row in self.respond(tf.constant(lines, tf.string))["replies"].numpy()
        ]

    @property
    def streams(self) -> bool:
        """Whether `stream` can be asked: there is one answer, made from left to right."""
        return self._stream is not None

    def stream(self, line: str) -> Iterator[str]:
        """The reply to a line in pieces, each as soon as it is certain."""
        yield from self._stream(tf.constant([line], tf.string))

    def _pieces(self, source_text, source, stream) -> Iterator[str]:
        said, looked, told = [], [], ""
        for step in stream(source):
            tokens, alignments = step if isinstance(step, tuple) else (step, None)
            said.append(tokens)
            looked.append(alignments)
            weights = None if alignments is None else np.stack(looked, 1)
            spelled = self._spelled(source_text, source, np.stack(said, 1), weights)
            reply = spelled["replies"][0].numpy().decode("utf-8", "replace")
            # Of a character in several tokens the first ones spell no character yet.
            certain = reply.rstrip("\ufffd")
            if certain.startswith(told) and certain != told:
                yield certain[len(told) :]
                told = certain
        if said and reply != told and reply.startswith(told):
            yield reply[len(told) :]

    def count(self, line: str) -> tuple[int, int]:
        """How many tokens a line has: (known ones, all)."""
        ids = self.tokenizer.encode([line])[0].numpy()
        return int((ids != text.UNKNOWN).sum()), len(ids)
