"""A model's step as the search takes it: from a token to the log p of the next one."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from keras_attention.backend.keras import step
from keras_attention.decoding.beams import gather_beams, tile_batch
from keras_attention.decoding.first_state import check_first_state
from keras_attention.decoding.processors import Control, Search, check, combine
from keras_attention.decoding.prompt import after_prompt, prompt_of
from keras_attention.functional import widen


class TokenState(NamedTuple):
    """The states of a model's cell and of the control, one row for each hypothesis."""

    cell: Any
    control: Any


def one_control(model: Any, controls: Any, max_length: Any) -> Control | None:
    """One or several controls, checked, as one; of what follows the prompt, if there is one."""
    if isinstance(controls, Control):
        controls = [controls]
    if not isinstance(controls, Sequence) or not all(isinstance(c, Control) for c in controls):
        raise ValueError(
            "controls must be a Control, such as top_k(10) gives, or a list of them. Received: "
            f"controls={controls}"
        )
    check(controls, max_length)
    control = combine(*controls) if controls else None
    return after_prompt(control) if hasattr(model, "prompt") else control


def begin(model, source, beam_width, max_length, control):
    """-> memory, `TokenState`: what the first step looks at and begins with."""
    memory, state = model.encode(source)
    batch_size = tf.shape(tf.nest.flatten(source)[0])[0]
    if state is None:
        state = model.cell.get_initial_state(
            batch_size=batch_size, max_length=max_length, beam_width=beam_width, memory=memory
        )
    else:
        rows = tf.TensorShape(tf.nest.flatten(source)[0].shape)[0]
        check_first_state(model.cell, state, rows)
        state = tile_batch(state, beam_width)
    if control is None:
        return memory, TokenState(state, ())
    search = Search(
        batch_size, beam_width, max_length, model.end_id,
        vocab_size=getattr(model, "target_vocab_size", None),
        source_lengths=_source_lengths(model, source),
        prompt=prompt_of(model, source, max_length),
    )  # fmt: skip
    return memory, TokenState(state, control.init(search))


def _source_lengths(model, source):
    """How many real tokens each source has, its end token not counted.  [B], or None."""
    parts = tf.nest.flatten(source)
    ids = tf.convert_to_tensor(parts[0])
    if len(parts) > 1 or ids.shape.rank != 2 or not ids.dtype.is_integer:
        return None
    real = (ids != model.pad_id) & (ids != model.end_id)
    return tf.reduce_sum(tf.cast(real, tf.int32), 1)


class TokenCell:
    """A model's step from token to next token's log p:  [N], state -> [N, V], state.

    With a control the step begins by telling it the token, so that its state lies with the
    cell's and follows the hypotheses. What is forbidden is struck out of the probabilities
    without raising the others: a score stays the model's own log p.
    """

    dtype_policy = None

    def __init__(self, model, memory, beam_width, control, project=None):
        self._model, self._control, self._beam_width = model, control, beam_width
        self._project = project or getattr(model, "projection", lambda: model.project)()
        self._looks = {} if memory is None else {"memory": memory, "beam_width": beam_width}
        if hasattr(model.cell, "reorder"):
            self.reorder = self._reorder
        if control is not None and control.in_beginning is not None:
            self.in_beginning = lambda state: control.in_beginning(state.control)

    def __call__(self, tokens, state, training=None):
        model, control = self._model, self._control
        inputs = model.embed(tokens)
        output, cell_state = step(model.cell, inputs, state.cell, training=False, **self._looks)
        logits = widen(self._project(output))
        if control is None:
            return logits, TokenState(cell_state, ())
        control_state = control.advance(state.control, tokens)
        log_probs = control.apply(tf.nn.log_softmax(logits), control_state)
        return log_probs, TokenState(cell_state, control_state)

    def _reorder(self, state, parents):
        """The cell's own way for its state; a gather for the control's [N, ...]."""

        def follow(leaf):
            rows = tf.reshape(leaf, tf.concat([[-1, self._beam_width], tf.shape(leaf)[1:]], 0))
            return tf.reshape(gather_beams(rows, parents), tf.shape(leaf))

        control = tf.nest.map_structure(follow, state.control)
        return TokenState(self._model.cell.reorder(state.cell, parents), control)
