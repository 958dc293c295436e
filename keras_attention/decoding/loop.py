"""`dynamic_decode`: the loop of all decoding."""

import abc
import contextlib
import functools
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_attention.backend.keras import DropoutMasks, in_xla, no_autograph
from keras_attention.backend.precast import precast_weights
from keras_attention.decoding import histories

__all__ = ["Decoder", "Steps", "dynamic_decode", "transpose_batch_time"]


class Steps:
    """Sizes, dtypes and optional hooks of a decoder."""

    @property
    def batch_size(self):
        """N, a scalar."""
        raise NotImplementedError

    @property
    def output_size(self):
        """The shape of one row of a step's outputs, a nest of TensorShape."""
        raise NotImplementedError

    @property
    def output_dtype(self):
        """The types of a step's outputs, a nest like `output_size`."""
        raise NotImplementedError

    def finalize(self, outputs, final_state, sequence_lengths):
        """Called once after the loop, with outputs stacked time major."""
        raise NotImplementedError

    def build_parts(self) -> None:
        """Make the weights that a step uses besides the cell's, before the loop; default: none."""

    def all_steps(self, start: Any, plan: "Plan") -> tuple | None:
        """All steps at once, as a loop over `step` would take them; None to take them in a loop.

        start: (finished, inputs, state) of `initialize` -> (outputs [T, N, ...], the state after
        the last step, lengths [N]).
        """
        return None

    @property
    def tracks_own_finished(self) -> bool:
        """True if a step may set `finished` of a row back to False, as a reordering beam search."""
        return False


class Plan(NamedTuple):
    """The arguments of `dynamic_decode` that say how many steps there are, and what they do."""

    impute_finished: bool
    maximum_iterations: Any
    training: Any
    fixed_size: bool  # whether outputs have `maximum_iterations` steps


class Decoder(Steps, abc.ABC):
    """A decoder for `dynamic_decode`: an initial step, a step, and which rows have finished."""

    @abc.abstractmethod
    def initialize(self, name=None) -> tuple[Any, Any, Any]:
        """-> (finished [N] bool, first inputs, initial state)."""

    @abc.abstractmethod
    def step(self, time, inputs, state, training=None, name=None) -> tuple[Any, Any, Any, Any]:
        """-> (outputs, next state, next inputs, finished)."""


@no_autograph
def dynamic_decode(
    decoder: Decoder,
    output_time_major: bool = False,
    impute_finished: bool = False,
    maximum_iterations: Any = None,
    parallel_iterations: int = 32,
    swap_memory: bool = False,
    training: bool | None = None,
    scope: str | None = None,
    enable_tflite_convertible: bool = False,
    **kwargs,
):
    """Run a decoder until every row has finished, or for `maximum_iterations` steps.

    Args:
        decoder: a `Decoder`, or a layer with its methods, such as `BaseDecoder` of tfa.seq2seq.
        output_time_major: outputs [T, N, ...] instead of [N, T, ...].
        impute_finished: set the outputs of finished rows to zeros and keep their state, so that
            the final state is that of each row's last real step. Not for beam search (ValueError),
            which keeps finished hypotheses by itself.
        maximum_iterations: scalar > 0; required under XLA, where the outputs then have exactly
            that many steps.
        parallel_iterations, swap_memory: as in `tf.while_loop`.
        training: passed to every step.
        scope: name of the ops, default "decoder".
        enable_tflite_convertible: in a graph, outputs have exactly `maximum_iterations` steps,
            padded with zeros, as they always have under XLA. LiteRT, and XLA for a graph that was
            traced without it, need arrays of fixed size. (LiteRT also needs a fixed batch size and
            fixed source lengths.)
        decoder_init_input, decoder_init_kwargs: arguments of `decoder.initialize`.

    Returns:
        (outputs, final_state, sequence_lengths). A length is the number of steps up to and
        including the one in which the row finished, 0 if it was finished at the start. For a
        decoder whose state has `lengths`, these are returned.
    """
    with tf.name_scope(scope or "decoder"):
        if maximum_iterations is not None:
            maximum_iterations = tf.convert_to_tensor(maximum_iterations, tf.int32)
            if maximum_iterations.shape.rank != 0:
                raise ValueError(
                    "maximum_iterations must be a scalar. Received: shape "
                    f"{maximum_iterations.shape}"
                )
            tf.debugging.assert_greater(
                maximum_iterations, 0, message="maximum_iterations should be greater than 0"
            )
        elif in_xla() or enable_tflite_convertible:
            raise ValueError(
                "maximum_iterations is required for XLA compilation and for LiteRT, whose outputs "
                "have a fixed size. Received: maximum_iterations=None. Set maximum_iterations, or "
                "remove jit_compile=True / enable_tflite_convertible=True."
            )
        finished, inputs, state = _initialize(decoder, kwargs)
        if isinstance(decoder, Steps):
            decoder.build_parts()
        if impute_finished and finished.shape.rank != 1:
            raise ValueError(
                "impute_finished is not supported in a beam search, which keeps finished "
                "hypotheses by itself. Set impute_finished=False. "
                f"Received: impute_finished=True, finished of shape {finished.shape}"
            )
        # A thread that does not train leaves the masks of one that does alone.
        masks = DropoutMasks(()) if training is False else DropoutMasks.of(decoder)
        if masks.cells:
            masks.draw(tf.shape(finished)[0] * getattr(decoder, "_rows_per_entry", 1))
        may_train = training is not False and not decoder.tracks_own_finished
        try:
            with contextlib.nullcontext() if may_train else precast_weights(decoder):
                fixed_size = enable_tflite_convertible and not tf.executing_eagerly()
                plan = Plan(impute_finished, maximum_iterations, training, fixed_size or in_xla())
                start = (finished, inputs, state)
                found = decoder.all_steps(start, plan) if isinstance(decoder, Steps) else None
                outputs, state, lengths = found or _loop(
                    decoder,
                    start,
                    plan,
                    parallel_iterations=parallel_iterations,
                    swap_memory=swap_memory,
                )
        finally:
            masks.drop()
        try:
            outputs, state = decoder.finalize(outputs, state, lengths)
        except NotImplementedError:
            pass  # finalize is optional
        if not output_time_major:
            outputs = tf.nest.map_structure(_batch_major, outputs)
    return outputs, state, lengths


def _initialize(decoder, kwargs) -> tuple[Any, Any, Any]:
    if isinstance(decoder, keras.layers.Layer):  # a BaseDecoder, of ours or of tfa.seq2seq
        init_input = kwargs.pop("decoder_init_input", None)
        return decoder.initialize(init_input, **kwargs.pop("decoder_init_kwargs", {}))
    return decoder.initialize()


def _loop(decoder, start, plan: Plan, **loop_options):
    """-> outputs [T, N, ...], final state, lengths [N]."""
    finished, inputs, state = start
    impute_finished, maximum_iterations, training, fixed_size = plan
    if in_xla():
        state = histories.preallocated(state, maximum_iterations)
    arrays = tf.nest.map_structure(
        lambda shape, dtype: tf.TensorArray(
            dtype,
            size=maximum_iterations if fixed_size else 0,
            dynamic_size=not fixed_size,
            element_shape=finished.shape[:1].concatenate(shape),
        ),
        decoder.output_size,
        decoder.output_dtype,
    )
    own_lengths = getattr(state, "lengths", None) if decoder.tracks_own_finished else None
    lengths = tf.zeros_like(finished, tf.int32)

    def more(time, arrays, state, inputs, finished, lengths):
        if not fixed_size:
            return ~tf.reduce_all(finished)
        # Arrays of fixed size learn the shape of their entries by a step, also of an empty batch.
        return ~tf.reduce_all(finished) | (tf.size(finished) + time == 0)

    def body(time, arrays, state, inputs, finished, lengths):
        with histories.at_step(time):
            step = decoder.step(time, inputs, state, training)
        outputs, new_state, new_inputs, new_finished = step
        if not decoder.tracks_own_finished:
            new_finished = tf.logical_or(new_finished, finished)
        if own_lengths is not None:
            new_lengths = tf.cast(new_state.lengths, tf.int32)
        else:
            new_lengths = tf.where(finished, lengths, time + 1)
        tf.nest.assert_same_structure(arrays, outputs)
        tf.nest.assert_same_structure(state, new_state)
        if impute_finished:
            outputs = tf.nest.map_structure(
                lambda new: _where_rows(finished, tf.zeros_like(new), new), outputs
            )
            new_state = tf.nest.map_structure(
                lambda old, new: _carry(finished, old, new), state, new_state
            )
        arrays = tf.nest.map_structure(lambda array, row: array.write(time, row), arrays, outputs)
        carried = (new_state, new_inputs, new_finished, new_lengths)
        _keep_shapes((state, inputs, finished, lengths), carried)
        return (time + 1, arrays, *carried)

    _, arrays, state, _, _, lengths = tf.while_loop(
        more,
        body,
        (tf.constant(0), arrays, state, inputs, finished, lengths),
        maximum_iterations=maximum_iterations,
        **loop_options,
    )
    if fixed_size:
        return tf.nest.map_structure(lambda array: array.stack(), arrays), state, lengths
    stack = functools.partial(_stack, finished)
    outputs = tf.nest.map_structure(stack, arrays, decoder.output_size)
    return outputs, state, lengths


def _stack(finished, array, shape):
    """[T, N, ...], also after no steps with N unknown while tracing."""
    if finished.shape.is_fully_defined() or tf.executing_eagerly():
        return array.stack()
    inner = [width or 0 for width in tf.TensorShape(shape)]
    nothing = tf.concat([[0], tf.shape(finished)[:1], inner], 0)
    return tf.cond(array.size() > 0, array.stack, lambda: tf.zeros(nothing, array.dtype))


def _keep_shapes(before, after) -> None:
    """Keep the static shapes of the loop variables."""
    for old, new in zip(tf.nest.flatten(before), tf.nest.flatten(after)):
        if tf.is_tensor(new) and not isinstance(new, tf.TensorArray):
            new.set_shape(old.shape)


def _carry(finished, old, new):
    """Keep the old state of finished rows; tensors without rows take the new one."""
    if isinstance(old, tf.TensorArray) or new.shape.rank == 0:
        return new
    return _where_rows(finished, old, new)


def _where_rows(rows, x, y):
    """x in the selected rows, y elsewhere.  [N] or [N, K] bool, [N, ...], [N, ...]."""
    extra = y.shape.rank - rows.shape.rank
    shape = tf.concat([tf.shape(rows), tf.ones([extra], tf.int32)], 0)
    return tf.where(tf.reshape(rows, shape), x, y)


def _batch_major(x):
    """[T, N, ...] -> [N, T, ...]; tensors without a time axis are unchanged."""
    has_time = tf.is_tensor(x) and (x.shape.rank is None or x.shape.rank >= 2)
    return transpose_batch_time(x) if has_time else x


def transpose_batch_time(x: tf.Tensor) -> tf.Tensor:
    """[B, T, ...] <-> [T, B, ...]."""
    return tf.transpose(x, tf.concat([[1, 0], tf.range(2, tf.rank(x))], 0))
