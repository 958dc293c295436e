"""From strings to the n best replies: one graph for eval, infer and export."""

import re
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from apps.chatbot import search
from apps.chatbot.sources import read_lines, without_blanks
from keras_attention import export, text
from keras_attention.export.searches import Search
from keras_attention.seq2seq import Stream, exact_length


class Responder(export.Endpoints):
    """A model, its tokenizer and the settings of the search, as functions of strings."""

    def __init__(self, model: keras.Model, tokenizer: text.Tokenizer, settings: dict):
        plan = search.plan(settings, tokenizer)
        has_attention = settings["attention"] != "none"
        couplet = settings["task"] == "couplet"
        limit = settings["max_length"]

        def read(lines):
            found = read_lines(lines, tokenizer, settings)
            return found.sources, found.answered

        def match(source, lines):
            """A couplet's second line has as many characters as the first."""
            lengths = (
                tf.reduce_sum(tf.gather(characters, source), 1)
                if lines is None
                else tf.strings.length(without_blanks(lines), "UTF8_CHAR")
            )
            lengths = tf.minimum(lengths, limit)
            return [exact_length(lengths, model.end_id, tokenizer.token_lengths)]

        characters = _characters(tokenizer)
        super().__init__(
            model,
            tokenizer,
            settings=plan.settings,
            beam_width=plan.beam_width,
            n_best=plan.n_best,
            strategy=plan.strategy,
            processors=plan.processors,
            return_alignments=has_attention,
            max_source_length=limit,
            read=read,
            line_processors=match if couplet else None,
            never_copied=settings["banned_words"],
        )
        # Only what infer shows is searched for: the best replies, alignments to copy words by.
        copies = isinstance(tokenizer, text.Words)
        aligned = has_attention and (copies or settings["coverage_penalty"] != 0)

        def best(lines, seeds):
            searched = Search(
                model,
                search.strategy(settings, seeds),
                plan.processors,
                match if couplet else None,
                beam_width=plan.beam_width,
                n_best=settings["n_best"] or 1,
                return_alignments=aligned,
            )

            def find(source, lines):
                return searched(source, lines, plan.settings)

            return self._answer(lines, find)["replies"]

        specs = [tf.TensorSpec([None], tf.string), tf.TensorSpec([None, 2], tf.int32)]
        function = tf.function(best, input_signature=specs, autograph=False)
        self._best = lambda: function  # not an attribute, or it would be exported
        self._stream = None
        if not couplet and plan.streams:
            tokens = Stream(
                model,
                max_length=plan.settings.max_length,
                length_penalty=plan.settings.length_penalty,
                coverage_penalty=plan.settings.coverage_penalty,
                processors=[*plan.settings.processors(), *plan.processors],
                strategy=plan.strategy,
                return_alignments=has_attention,
            )
            self._stream = lambda lines: self._pieces(lines, self.source_ids(lines), tokens)

    def replies(self, lines: list[str]) -> list[list[str]]:
        """The n best replies to each line, best first; samples in the order drawn."""
        return [
            [reply.decode("utf-8", "replace") for reply in row]
            for row in self.serving_default(tf.constant(lines, tf.string))["replies"].numpy()
        ]

    def best(self, lines: Sequence[str], seeds: Sequence[tuple[int, int]]) -> list[list[str]]:
        """The replies of infer to each line: as many as --n_best, by default one.

        Samples are drawn by the two numbers that each line has in `seeds`, so they do not depend on
        the other lines.
        """
        found = self._best()(tf.constant(lines, tf.string), tf.constant(seeds, tf.int32)).numpy()
        return [[reply.decode("utf-8", "replace") for reply in row] for row in found]

    def trace(self) -> None:
        """Build the graph of `best`: in the thread that made the model, before others run it."""
        self._best().get_concrete_function()

    @property
    def streams(self) -> bool:
        """Whether `stream` can be used: for one answer that is decoded from left to right."""
        return self._stream is not None

    def stream(self, line: str) -> Iterator[str]:
        """The reply to a line in pieces, each as soon as it is certain."""
        if self._stream is None:
            raise ValueError(
                "Only a single answer, decoded from left to right, can be streamed. Received: "
                "settings of several answers, or of a couplet. Use `replies`."
            )
        yield from self._stream(tf.constant([line], tf.string))

    def _pieces(self, source_text, source, stream) -> Iterator[str]:
        said, looked, told = [], [], ""
        for step in stream(source):
            tokens, alignments = step if isinstance(step, tuple) else (step, None)
            said.append(tokens)
            looked.append(alignments)
            weights = None if alignments is None else np.stack(looked, 1)
            spelled = self.spell(source_text, source, np.stack(said, 1), weights)
            reply = spelled["replies"][0].numpy().decode("utf-8", "replace")
            # A character of several tokens is incomplete until the last one.
            certain = reply.rstrip("\ufffd")
            if certain.startswith(told) and certain != told:
                yield certain[len(told) :]
                told = certain
        if said and reply != told and reply.startswith(told):
            yield reply[len(told) :]


def _characters(tokenizer: text.Tokenizer) -> np.ndarray:
    """The number of source characters of each id.  [V]."""
    pieces = tokenizer.tokens(tf.range(tokenizer.vocab_size)).numpy()
    # Count the first byte of a character; continuation bytes begin with the bits 10.
    first = [not re.fullmatch(b"<0x[89AB][0-9A-F]>", piece) for piece in pieces]
    lengths = np.where(tokenizer.token_lengths < 0, first, tokenizer.token_lengths)
    lengths[[text.PAD, text.START, text.END]] = 0
    return lengths.astype(np.int32)
