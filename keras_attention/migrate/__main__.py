"""`python -m keras_attention.migrate OLD --model MODEL --out NEW.weights.h5`."""

import argparse
import importlib
import sys
import traceback

import keras

from keras_attention.migrate.checkpoints import Checkpoint, read
from keras_attention.migrate.matching import Plan, Rules
from keras_attention.migrate.writing import ENDINGS, check_ending, migrate, write


def main(arguments: list[str] | None = None) -> None:
    """See `--help`."""
    options = _parser().parse_args(arguments)
    if not options.list and not options.model:
        _parser().error("--model MODEL is required (or --list to list the checkpoint)")
    try:
        if options.list:
            _print_checkpoint(read(options.old))
        else:
            _migrate(options)
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m keras_attention.migrate",
        description="Load weights of tf.contrib, tensorflow-addons and Keras 2 into our models.",
    )
    parser.add_argument("old", help="checkpoint prefix or directory, SavedModel, or .h5 of weights")
    parser.add_argument("--list", action="store_true", help="only print its names and shapes")
    parser.add_argument(
        "--model",
        help="the new model: FILE.keras, or package.module:function that returns it built",
    )
    parser.add_argument("--rules", help="JSON file: map, ignore, keep, forget_bias")
    parser.add_argument(
        "--out", help=f"file to write, {' or '.join(ENDINGS)}; without it only print the table"
    )
    return parser


def _migrate(options) -> None:
    rules = Rules.load(options.rules) if options.rules else None
    model = _model(options.model)
    if options.out:
        check_ending(model, options.out)
    _print_plan(migrate(options.old, model, rules))
    if options.out:
        write(model, options.out)
    print(f"{options.out}: written and verified" if options.out else "no --out: not written")


def _model(name: str) -> keras.layers.Layer:
    if name.endswith(".keras"):
        try:
            return keras.saving.load_model(name, compile=False)
        except TypeError as error:  # a class that was not imported
            raise ValueError(
                f"Expected a .keras file of known classes. Received: {name}. Name a function that "
                f"imports them and returns the model: --model package.module:function. "
                f"({str(error).splitlines()[0][:200]})"
            ) from error
    module, separator, function = name.partition(":")
    if not separator:
        raise ValueError(
            f"Expected FILE.keras or package.module:function. Received: --model {name}"
        )
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"Expected a function that can be imported from here. Received: {name}, {error}"
        ) from error
    try:
        model = make()
    except Exception as error:
        traceback.print_exc()  # an error in the user's code
        raise ValueError(f"Expected {name} to return a model. Received: the error above") from error
    if not isinstance(model, keras.layers.Layer):
        raise ValueError(
            f"Expected {name} to return a Keras model or layer. Received: {type(model).__name__}"
        )
    return model


def _print_checkpoint(checkpoint: Checkpoint) -> None:
    for name, value in checkpoint.weights.items():
        print(f"{name}  {list(value.shape)}  {value.dtype}")
    _print_ignored(checkpoint.ignored)
    size = sum(value.size for value in checkpoint.weights.values())
    print(f"{len(checkpoint.weights)} weights, {size:,} parameters")


def _print_plan(planned: Plan) -> None:
    rows = [("old", "transform", "new", "shape")] + [
        (" + ".join(a.old), a.how, a.new, str(list(a.value.shape))) for a in planned.assignments
    ]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    _print_ignored(planned.ignored)
    for name in planned.kept:
        print(f"kept: {name}")
    old = {name for assignment in planned.assignments for name in assignment.old}
    size = sum(assignment.value.size for assignment in planned.assignments)
    print(f"{len(old)} old weights -> {len(planned.assignments)} variables, {size:,} parameters")


def _print_ignored(ignored: dict[str, str]) -> None:
    for name, reason in ignored.items():
        print(f"ignored: {name} ({reason})")


if __name__ == "__main__":
    main()
