"""Train, evaluate, answer, export: see `--help`."""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

from absl import app, flags, logging

from apps.chatbot import settings

FLAGS = flags.FLAGS


def main(argv: list[str]) -> int:
    """Do what `--mode` says. 0: done. 1: it could not be done, and a message says why."""
    if len(argv) > 1:
        print(
            f"Stray arguments: {' '.join(argv[1:])}. Every value belongs to a flag, as "
            "--flag=value; a switch is turned off by --flag=false or --noflag, not `--flag False`.",
            file=sys.stderr,
        )
        return 1
    try:
        return 0 if _run() else 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if not _is_expected(error) or logging.get_verbosity() >= logging.DEBUG:
            raise
        message = str(error).strip().splitlines() or [type(error).__name__]
        print(f"{FLAGS.mode}: {' '.join(message[:3])}", file=sys.stderr, flush=True)
        return 1


def _run() -> bool:
    said, directory = settings.said(FLAGS), FLAGS.model_dir
    if FLAGS.mode == "train":
        from apps.chatbot import train

        try:
            train.run(directory, settings.of_flags(FLAGS), said)
        except train.Stopped:
            raise KeyboardInterrupt from None
        return True
    if FLAGS.mode == "eval":
        from apps.chatbot import evaluate

        evaluate.run(directory, said)
        return True
    if FLAGS.mode == "infer":
        from apps.chatbot import infer

        return infer.run(directory, said, FLAGS.input, FLAGS.output)
    from apps.chatbot import export

    export.run(directory, said, FLAGS.export_dir)
    return True


def _is_expected(error: Exception) -> bool:
    """Bad input, a full disk, a missing extra: said in one line. Anything else is our fault."""
    import tensorflow as tf

    disk = (tf.errors.ResourceExhaustedError, tf.errors.PermissionDeniedError)
    return isinstance(error, (ValueError, OSError, ImportError, RuntimeError, *disk))


def console() -> None:
    """The entry point of the installed command."""
    settings.define_flags()
    app.run(main)


if __name__ == "__main__":
    console()
