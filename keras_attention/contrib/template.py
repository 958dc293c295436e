"""`make_template`: share weights between the calls of a function that creates its cells."""

import collections
import contextlib
import inspect
from collections.abc import Callable

import tensorflow as tf
from tensorflow.python.ops.variable_scope import EagerVariableStore  # not public since TF 1

from keras_attention.backend.keras import as_converted

__all__ = ["make_template"]

_open = []  # the templates that are being called, innermost last


class _Template:
    """A function, and the variables of its first call."""

    def __init__(self, name: str, function: Callable):
        self.name = name
        self._function = function
        self._made = {}
        self._complete = False

    def __call__(self, *args, **kwargs):
        seen, making, loops = collections.Counter(), [], _Loops()

        def creator(next_creator, **options):
            """The variable at this place of the first call, or during that call a new one."""
            if making:  # the creator of the other graph
                return next_creator(**options)
            name = options.get("name")
            known = loops.places_of_line(name)
            if not known:
                known.append((name, seen[name]))
                seen[name] += 1
            place = known[0]
            if place not in self._made:
                if self._complete:
                    raise ValueError(
                        f"The template {self.name!r} made another variable than at its first "
                        f"call: {name!r}. Every call must make the same layers in the same order; "
                        "make the call that creates all of them (such as training) the first."
                    )
                making.append(place)
                self._made[place] = next_creator(**options)
                making.clear()
            return self._made[place]

        with contextlib.ExitStack() as stack:
            stack.enter_context(tf.variable_creator_scope(creator))
            if not tf.executing_eagerly():  # variables are lifted out of the graph
                with tf.init_scope():
                    stack.enter_context(tf.variable_creator_scope(creator))
            # Names of tf.get_variable are those of this call, independent of other calls.
            stack.enter_context(EagerVariableStore().as_default())
            _open.append(self)
            stack.callback(_open.pop)
            result = as_converted(self._function)(*args, **kwargs)
        self._complete = True
        return result

    @property
    def variables(self) -> list[tf.Variable]:
        """All variables of the first call, in order."""
        return list(self._made.values())

    @property
    def trainable_variables(self) -> list[tf.Variable]:
        """The trainable ones of them."""
        return [variable for variable in self.variables if variable.trainable]


class _Loops:
    """Find the variables that the steps of a `tf.while_loop` create repeatedly.

    A graph contains the body of a loop once, as in TensorFlow 1. In eager mode the body is called
    at every step: a variable created there by the same line, called in the same way, is the same
    variable.
    """

    def __init__(self):
        self._bodies = {}  # frame of a loop -> frame of its body in this step
        self._lines = collections.defaultdict(list)  # where a variable was created -> its places
        self._counts = collections.Counter()  # how often in this step

    def places_of_line(self, name: str | None) -> list:
        """The position that an earlier step assigned to this variable: a list of one, or empty."""
        frame, way, body = inspect.currentframe(), [], None
        while frame is not None and not _is_loop(frame):
            way.append((frame.f_code, frame.f_lasti))
            body, frame = frame, frame.f_back
        if frame is None:
            return []
        if self._bodies.get(frame) is not body:
            self._bodies[frame] = body
            kept = {line: n for line, n in self._counts.items() if line[0] is not frame}
            self._counts = collections.Counter(kept)
        line = frame, name, tuple(way)
        self._counts[line] += 1
        return self._lines[(*line, self._counts[line])]


def _is_loop(frame) -> bool:
    """Whether this is TensorFlow's loop; the frames above it are those of its body."""
    return frame.f_code.co_name == "while_loop" and "tensorflow" in frame.f_globals["__name__"]


def make_template(name: str, function: Callable) -> _Template:
    """`function` with one set of weights: the first call creates them, later calls reuse them.

    In TensorFlow 1 a graph was built once. A function that is called at every step and creates
    cells, mechanisms and layers inside would have new weights each time. A template does not, in
    eager mode and in a `tf.function`, for variables of Keras layers, `tf.Variable` and
    `tf.compat.v1.get_variable`. A variable is identified by its name and its index among those of
    that name: training and inference share weights if they create the same layers in one order.

    Raises ValueError for a later call that creates another variable than the first.

    >>> import keras
    >>> project = make_template("project", lambda x: keras.layers.Dense(3)(x))
    >>> x = tf.ones([1, 2])
    >>> bool(tf.reduce_all(project(x) == project(x))), len(project.trainable_variables)
    (True, 2)
    """
    return _Template(name, function)


def in_template() -> bool:
    """Whether a template is being called."""
    return bool(_open)
