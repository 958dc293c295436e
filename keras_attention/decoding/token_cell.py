"""A model as the search uses it: its checks, its start and one step."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from keras_attention.backend.keras import step
from keras_attention.decoding.beams import gather_beams, tile_batch
from keras_attention.decoding.initial_state import check_initial_state
from keras_attention.decoding.processors import LogitsProcessor, SearchInfo, check, combine
from keras_attention.decoding.prompt import after_prompt, prompt_of
from keras_attention.functional.dtypes import widen

_ATTRIBUTES = ("start_id", "end_id", "pad_id", "encode", "embed", "project", "cell")


def check_model(model: Any) -> None:
    """ValueError unless the model has the required attributes of `Model`."""
    missing = [name for name in _ATTRIBUTES if not hasattr(model, name)]
    if missing:
        raise ValueError(
            "Expected a model for `decoding.generate`. Received: a "
            f"{type(model).__name__}, which has no {', '.join(missing)} (see decoding.Model)"
        )


class TokenState(NamedTuple):
    """The states of the model's cell and of the processor, one row for each hypothesis."""

    cell: Any
    processor: Any


def combine_processors(model: Any, processors: Any, max_length: Any) -> LogitsProcessor | None:
    """Check the processors and combine them into one, which acts after the prompt, if any."""
    if isinstance(processors, LogitsProcessor):
        processors = [processors]
    if not isinstance(processors, Sequence) or not all(
        isinstance(c, LogitsProcessor) for c in processors
    ):
        raise ValueError(
            "processors must be a LogitsProcessor, such as top_k(10) returns, or a list of them. "
            f"Received: processors={processors}"
        )
    check(processors, max_length)
    processor = combine(*processors) if processors else None
    return after_prompt(processor) if hasattr(model, "prompt") else processor


def start_search(model, source, beam_width, max_length, processor):
    """Encode the source.  -> memory, `TokenState`: the state before the first step."""
    memory, state = model.encode(source)
    batch_size = tf.shape(tf.nest.flatten(source)[0])[0]
    if state is None:
        state = model.cell.get_initial_state(
            batch_size=batch_size, max_length=max_length, beam_width=beam_width, memory=memory
        )
    else:
        rows = tf.TensorShape(tf.nest.flatten(source)[0].shape)[0]
        check_initial_state(model.cell, state, rows)
        state = tile_batch(state, beam_width)
    if processor is None:
        return memory, TokenState(state, ())
    ids = _source_ids(model, source)
    known_size = tf.TensorShape(tf.nest.flatten(source)[0].shape)[0]
    search = SearchInfo(
        batch_size if known_size is None else known_size, beam_width, max_length, model.end_id,
        vocab_size=getattr(model, "target_vocab_size", None),
        source_lengths=None if ids is None else tf.reduce_sum(tf.cast(ids >= 0, tf.int32), 1),
        prompt=prompt_of(model, source, max_length),
        source=ids,
    )  # fmt: skip
    return memory, TokenState(state, processor.init(search))


def _source_ids(model, source):
    """The ids of each source, -1 for padding and the end token.  [B, S] int32, or None."""
    parts = tf.nest.flatten(source)
    ids = tf.convert_to_tensor(parts[0])
    if len(parts) > 1 or ids.shape.rank != 2 or not ids.dtype.is_integer:
        return None
    real = (ids != model.pad_id) & (ids != model.end_id)
    return tf.where(real, tf.cast(ids, tf.int32), -1)


class TokenCell:
    """One model step: tokens [N], state -> logits [N, V], or log-probabilities if there is a
    processor; and the next state.

    A processor receives the token first; its state is kept beside the cell's and is reordered with
    the hypotheses. Forbidden tokens are set to -inf without renormalising: a score is the model's
    own log p.
    """

    dtype_policy = None

    def __init__(self, model, memory, beam_width, processor, project=None):
        self._model, self._processor, self._beam_width = model, processor, beam_width
        self._project = project or getattr(model, "projection", lambda: model.project)()
        self._cell_kwargs = {} if memory is None else {"memory": memory, "beam_width": beam_width}
        if hasattr(model.cell, "reorder"):
            self.reorder = self._reorder
        if processor is not None and processor.in_prompt is not None:
            self.in_prompt = lambda state: processor.in_prompt(state.processor)

    def __call__(self, tokens, state, training=None):
        model, processor = self._model, self._processor
        inputs = model.embed(tokens)
        output, cell_state = step(
            model.cell, inputs, state.cell, training=False, **self._cell_kwargs
        )
        logits = widen(self._project(output))
        if processor is None:
            return logits, TokenState(cell_state, ())
        processor_state = processor.advance(state.processor, tokens)
        log_probs = processor.apply(tf.nn.log_softmax(logits), processor_state)
        return log_probs, TokenState(cell_state, processor_state)

    def _reorder(self, state, parents):
        """`reorder` of the cell for its state; a gather for the processor's [N, ...]."""

        def follow(leaf):
            if leaf.shape.rank == 0:
                return leaf  # the same for all hypotheses
            rows = tf.reshape(leaf, tf.concat([[-1, self._beam_width], tf.shape(leaf)[1:]], 0))
            return tf.reshape(gather_beams(rows, parents), tf.shape(leaf))

        processor = tf.nest.map_structure(follow, state.processor)
        return TokenState(self._model.cell.reorder(state.cell, parents), processor)
