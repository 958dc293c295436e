"""A model with its search settings, and a check of the model."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras_attention.decoding import LogitsProcessor, Strategy, generate, sample, token_cell
from keras_attention.export.settings import Settings

__all__ = ["Search", "check_model"]


class Search:
    """(source [B, S], text [B] or None, settings) -> ids, scores, lengths, alignments.

    A plain object: TensorFlow does not track it, so the model's layers are not saved with it.
    """

    def __init__(
        self,
        model: Any,
        strategy: Strategy | None,
        processors: Sequence[LogitsProcessor],
        line_processors: Callable | None,
        beam_width: int,
        n_best: int | None,
        return_alignments: bool,
    ):
        self.model, self.line_processors = model, line_processors
        self._strategy, self._processors = strategy, processors
        self._beam_width, self._n_best = beam_width, n_best
        self._return_alignments = return_alignments

    def __call__(
        self, source: Any, text: Any, settings: Settings, pad_to_max_length: bool = False
    ) -> dict[str, tf.Tensor]:
        """The exported strategy, or samples if there is a seed."""

        def by(strategy):
            return lambda: self._search(source, text, settings, strategy, pad_to_max_length)

        exported, drawn = by(self._strategy), by(sample(settings.seed))
        if tf.is_tensor(settings.seed):
            return tf.cond(settings.seed < 0, exported, drawn)
        return exported() if settings.seed < 0 else drawn()

    def _search(self, source, text, settings, strategy, pad_to_max_length):
        of_lines = self.line_processors(source, text) if self.line_processors else []
        found = generate(
            self.model,
            source,
            max_length=settings.max_length,
            beam_width=self._beam_width,
            n_best=self._n_best,
            length_penalty=settings.length_penalty,
            coverage_penalty=settings.coverage_penalty if self._return_alignments else 0.0,
            processors=[*settings.processors(), *of_lines, *self._processors],
            strategy=strategy,
            return_alignments=self._return_alignments,
            pad_to_max_length=pad_to_max_length,
        )._asdict()
        wanted = ("ids", "scores", "lengths", "alignments")
        return {name: plain(found[name]) for name in wanted if found[name] is not None}


def plain(value: tf.Tensor) -> tf.Tensor:
    """Floats as float32, whatever the model's dtype."""
    return tf.cast(value, tf.float32) if value.dtype.is_floating else value


def check_model(model: Any, tokenizer: Any) -> None:
    """ValueError unless a model has all required attributes and the tokenizer's whole vocabulary.

    Runs one step of a search, which builds a Keras model.
    """
    token_cell.check_model(model)
    if tokenizer is not None and not 0 <= model.end_id < tokenizer.vocab_size:
        raise ValueError(
            "Expected an end_id among the tokenizer's tokens, because it ends every source and "
            f"target. Received: end_id={model.end_id}, vocab_size={tokenizer.vocab_size}"
        )
    last = tokenizer.vocab_size - 1 if tokenizer is not None else model.start_id
    known = getattr(model, "target_vocab_size", None)
    too_few = f"one with {known}" if known is not None and last >= known else None
    try:
        generate(model, tf.constant([[last]], tf.int32), max_length=1)  # `encode` comes first
        model.embed(tf.constant([last], tf.int32))
    except tf.errors.InvalidArgumentError as error:
        too_few = f"one that cannot embed the last one ({error.message.splitlines()[0]})"
    if too_few:
        raise ValueError(
            f"Expected a model with the tokenizer's {last + 1} tokens. Received: {too_few}"
        )
