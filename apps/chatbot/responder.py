"""From strings to the n best replies: one graph, used by eval, infer and export alike."""

import keras
import tensorflow as tf

from keras_attention import text
from keras_attention.seq2seq import exact_length, generate


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

        @tf.function(
            input_signature=[tf.TensorSpec([None], tf.string, name="text")], autograph=False
        )
        def respond(text):
            """text [B] -> replies [B, K], scores [B, K], lengths, tokens, alignments."""
            asked = tf.shape(text)[0]
            text = tf.concat([text, tf.fill([tf.maximum(1 - asked, 0)], "")], 0)  # [B], B > 0
            ids = tokenizer.encode(text)[:, : self._max_length]
            ends = tf.fill([tf.shape(text)[0], 1], model.end_id)
            source = tf.concat([ids, ends], 1).to_tensor(model.pad_id)
            control = None
            if exact:
                lengths = tf.minimum(tf.strings.length(text, "UTF8_CHAR"), self._max_length)
                control = exact_length(lengths, model.end_id, tokenizer.token_lengths)
            found = generate(
                model,
                source,
                beam_width=settings["beam_width"],
                max_length=self._max_length + 1,
                length_penalty=settings["length_penalty"],
                return_alignments=looks,
                control=control,
            )
            answer = self._spelled(text, source, found)
            return {name: value[:asked] for name, value in answer.items()}

        self.respond = respond

    def _spelled(self, source_text, source, found) -> dict[str, tf.Tensor]:
        answer = {
            "replies": self.tokenizer.decode(found.ids),
            "scores": found.scores,
            "lengths": found.lengths,
            "tokens": self.tokenizer.tokens(found.ids),
            "source_tokens": self.tokenizer.tokens(source),
        }
        if found.alignments is not None:
            answer["alignments"] = tf.cast(found.alignments, tf.float32)
            if isinstance(self.tokenizer, text.Words):
                answer.update(self._known(source_text, answer))
        return answer

    def _known(self, source_text, answer) -> dict[str, tf.Tensor]:
        """Words the model does not know, replaced by the source's word they look at."""
        words = text.split(source_text)[:, : self._max_length]
        ends = tf.fill([tf.shape(source_text)[0], 1], "")
        words = tf.concat([words, ends], 1).to_tensor("")
        tokens = text.replace_unknown(answer["tokens"], words, answer["alignments"])
        return {"tokens": tokens, "replies": text.join(tokens)}

    def replies(self, lines: list[str]) -> list[list[str]]:
        """The n best replies to each line, best first."""
        return [
            [reply.decode("utf-8", "replace") for reply in row]
            for row in self.respond(tf.constant(lines, tf.string))["replies"].numpy()
        ]

    def count(self, line: str) -> tuple[int, int]:
        """How many tokens a line has: (known ones, all)."""
        ids = self.tokenizer.encode([line])[0].numpy()
        return int((ids != text.UNKNOWN).sum()), len(ids)
