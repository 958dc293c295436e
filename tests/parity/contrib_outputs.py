"""What tf.contrib of TensorFlow 1.15 gives for the cases of contrib_cases.py, and its signatures.

Python 3.7, TensorFlow 1.15.5:

    python contrib_outputs.py [FOLDER]

writes contrib_outputs.npz and contrib_signatures.json into the folder, by default this one.
"""

import collections
import inspect
import json
import os
import re
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from contrib_cases import CASES, World, draw
from tensorflow.contrib import rnn, seq2seq

tf.logging.set_verbosity(tf.logging.ERROR)

# How a variable's name ends -> what it is.
KINDS = (
    (r"(memory_layer|query_layer|attention_layer)(_\d+)?/kernel", r"\1"),
    (r"(attention_(?:v|g|b|score_bias))", r"\1"),
    (r"gru_cell/(gates|candidate)/(kernel|bias)", r"\1/\2"),
    (r"(?:layer_norm_basic_lstm|basic_lstm|lstm|basic_rnn)_cell/(kernel|bias)", r"cell/\1"),
    (r"layer_norm_basic_lstm_cell/(\w+)/(gamma|beta)", r"\1/\2"),
    (r"(?:input|output)_projection_wrapper/(kernel|bias)", r"projection/\1"),
    (r"dense(?:_\d+)?/(kernel|bias)", r"dense/\1"),
)
CELLS = ["BasicLSTMCell", "BasicRNNCell", "DeviceWrapper", "DropoutWrapper", "GRUCell", "LSTMCell"]
CELLS += ["LSTMStateTuple", "MultiRNNCell", "ResidualWrapper", "LayerNormBasicLSTMCell"]
CELLS += ["InputProjectionWrapper", "OutputProjectionWrapper", "stack_bidirectional_dynamic_rnn"]


def places(variables):
    """Each variable as kind/turn, in the order in which they were made."""
    seen = collections.Counter()
    for variable in variables:
        endings = (
            (re.search("(?:^|/)" + end + "$", variable.op.name), kind) for end, kind in KINDS
        )
        kind = next(found.expand(kind) for found, kind in endings if found)
        yield f"{kind}/{seen[kind]}", variable
        seen[kind] += 1


def outputs(case):
    """Run one case in a graph of its own."""
    with tf.Graph().as_default(), tf.Session() as session:
        found = dict(case(World(tf, seq2seq, rnn, tf.layers.Dense, lambda x: x)))
        known = list(places(tf.trainable_variables()))
        session.run(tf.global_variables_initializer())
        for place, variable in known:
            if "score_bias" not in place:  # its first value is an argument
                variable.load(draw(place, *variable.shape.as_list()), session)
        if "loss" in found:
            slopes = tf.gradients(found["loss"], [variable for _, variable in known])
            slopes = [tf.convert_to_tensor(slope) for slope in slopes]
            found.update({"slope/" + place: slope for (place, _), slope in zip(known, slopes)})
        return session.run(found)


def signature(thing):
    """["argument", "argument=default", ...]; the fields of a named tuple."""
    if hasattr(thing, "_fields"):
        return list(thing._fields)
    functions = [thing]
    if inspect.isclass(thing):
        functions = [base.__dict__.get("__init__") for base in thing.__mro__[:-1]]
    for function in functions:
        if function is not None:
            arguments = inspect.signature(inspect.unwrap(function)).parameters.values()
            named = [x for x in arguments if x.name != "self" and x.kind is x.POSITIONAL_OR_KEYWORD]
            if named:  # a wrapper's own __init__ hands everything on
                return [x.name + default(x) for x in named]
    return []


def default(argument):
    """`=value`; a function by its name, for it is not the same one here and there."""
    if argument.default is argument.empty:
        return ""
    return "=" + (getattr(argument.default, "__name__", None) or repr(argument.default))


def main(folder):
    results = {}
    for name, case in CASES.items():
        for key, value in outputs(case).items():
            results[f"{name}|{key}"] = np.asarray(value)
    np.savez_compressed(os.path.join(folder, "contrib_outputs.npz"), **results)
    names = [name for name in dir(seq2seq) if not name.startswith("_")]
    signatures = {
        "seq2seq": {name: signature(getattr(seq2seq, name)) for name in names},
        "rnn": {name: signature(getattr(rnn, name)) for name in CELLS},
    }
    with open(os.path.join(folder, "contrib_signatures.json"), "w") as file:
        json.dump(signatures, file, indent=1, sort_keys=True)
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__)))
