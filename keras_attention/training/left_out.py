"""What a training step depends on and a checkpoint does not have."""

from typing import Any

import keras
import tensorflow as tf

# Their kernels hold the state.
_RANDOM_OPS = {
    "Multinomial",
    "ParameterizedTruncatedNormal",
    "RandomGamma",
    "RandomPoisson",
    "RandomPoissonV2",
    "RandomShuffle",
    "RandomStandardNormal",
    "RandomUniform",
    "RandomUniformInt",
    "TruncatedNormal",
}

_ASSIGNING_OPS = {
    "AssignAddVariableOp",
    "AssignSubVariableOp",
    "AssignVariableOp",
    "RngReadAndSkip",
    "RngSkip",
}


def left_out(train_function: Any, known: list) -> list[str]:
    """Variables of the compiled training step that are not `known`, and its random ops with state.

    Returns names, empty if all is known, or the step is not compiled.

    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(name="sgd"), "mse")
    >>> _ = model.fit(tf.ones([1, 1]), tf.ones([1, 1]), verbose=0)
    >>> known = model.variables + model.metrics_variables
    >>> left_out(model.train_function, known)
    ['variable sgd/iteration', 'variable sgd/learning_rate']
    """
    steps = [step for function in functions_of(train_function) for step in _traces(function)]
    parts = {id(part) for variable in known for part in _parts(variable)}
    names = {
        f"variable {variable.name.removesuffix(':0')}"
        for step in steps
        for variable in step.graph.variables
        if not parts & {id(part) for part in _parts(variable)}
    }
    return sorted(names | {f"op {op}" for step in steps for op in random_ops_of(step.graph)})


def held_elsewhere(model: keras.Model, known: list) -> list[str]:
    """Optimizers and variables that are attributes of a model or its layers, and not `known`.

    This is what can be found out of a step that is not compiled.

    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.second = keras.optimizers.SGD()
    >>> held_elsewhere(model, model.variables)
    ['second (SGD)']
    """
    parts = {id(part) for variable in known for part in _parts(variable)}

    def is_known(thing):
        if isinstance(thing, keras.optimizers.Optimizer):
            return thing.built and all(map(is_known, thing.variables))
        return bool(parts & {id(part) for part in _parts(thing)})

    kinds = (keras.optimizers.Optimizer, keras.Variable, tf.Variable)
    held = (item for layer in model._flatten_layers() for item in vars(layer).items())
    return sorted(
        {
            f"{name} ({type(value).__name__})"
            for name, value in held
            if isinstance(value, kinds) and not is_known(value)
        }
    )


def random_ops_of(graph: tf.Graph, assigned: bool = False) -> set[str]:
    """The ops of a graph, and of the functions that it calls, whose random state is in a kernel.

    With `assigned`, also those that change a variable, such as a generator's.
    """
    try:
        found = graph.as_graph_def()
    except ValueError:  # larger than a message of protobuf may be
        return set()
    kinds = _RANDOM_OPS | (_ASSIGNING_OPS if assigned else set())
    nodes = [*found.node, *(node for f in found.library.function for node in f.node_def)]
    return {f"{node.op} ({node.name})" for node in nodes if node.op in kinds}


def functions_of(train_function):
    """The functions of TensorFlow that Keras' function for a step calls."""
    cells = getattr(train_function, "__closure__", None) or ()
    found = [cell.cell_contents for cell in cells]
    return [function for function in found if hasattr(function, "get_concrete_function")]


def _traces(function):
    return function._list_all_concrete_functions()


def _parts(variable):
    raw = variable.value if isinstance(variable, keras.Variable) else variable
    return (raw, *(raw.values if isinstance(raw, tf.distribute.DistributedValues) else ()))
