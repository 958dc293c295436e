"""Train, evaluate, answer, export, serve: see `--help`."""

import os
import sys
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is imported

from absl import app, flags, logging

from apps.chatbot import command_line, settings

FLAGS = flags.FLAGS
INTERRUPTED = 130  # the exit code of a shell for Ctrl-C


def main(argv: list[str]) -> int:
    """Run `--mode`. Returns 0 for success, 1 after an error message."""
    if len(argv) > 1:
        print(
            f"Stray arguments: {' '.join(argv[1:])}. Write every value as "
            "--flag=value; a switch is turned off by --flag=false or --noflag, not `--flag False`.",
            file=sys.stderr,
        )
        return 1
    try:
        return _run()
    except KeyboardInterrupt:
        print(f"{FLAGS.mode}: interrupted.", file=sys.stderr, flush=True)
        return INTERRUPTED
    except Exception as error:
        if not _is_expected(error) or logging.get_verbosity() >= logging.DEBUG:
            raise
        message = str(error).strip().splitlines() or [type(error).__name__]
        print(f"{FLAGS.mode}: {' '.join(message[:3])}", file=sys.stderr, flush=True)
        return 1


def _run() -> int:
    explicit_flags, directory = settings.explicit_flags(FLAGS), FLAGS.model_dir
    _load_tensorflow()
    if FLAGS.mode == "train":
        from apps.chatbot import train

        wanted = settings.of_flags(FLAGS)
        arguments = directory, wanted, explicit_flags, _limits(), FLAGS.prepare_above
        return 0 if train.run(*arguments, strategy=FLAGS.strategy) else INTERRUPTED
    if FLAGS.mode == "eval":
        from apps.chatbot import evaluate

        evaluate.run(directory, explicit_flags, _limits(), FLAGS.bleu_tokenize)
        return 0
    if FLAGS.mode == "infer":
        from apps.chatbot import infer

        where = FLAGS.input, FLAGS.output
        whole = infer.run(directory, explicit_flags, *where, _limits(), FLAGS.batch_tokens)
        return 0 if whole else 1
    if FLAGS.mode == "serve":
        from apps.chatbot import serve

        limits = {name: FLAGS[name].value for name in ("max_batch_size", "max_rows", "time_limit")}
        talk = _talk(directory, explicit_flags) if FLAGS.page else None
        where = FLAGS.host, FLAGS.port, FLAGS.model_name
        serve.run(FLAGS.export_dir, *where, limits, talk, FLAGS.allowed_hosts)
        return 0
    from apps.chatbot import export

    export.run(directory, explicit_flags, FLAGS.export_dir)
    return 0


def _limits():
    from keras_attention.data import Limits

    values: list[Any] = [FLAGS[name].value for name in Limits._fields]
    return Limits(*values)


def _talk(directory, explicit_flags):
    from apps.chatbot.talk import talk_of

    return talk_of(
        directory if FLAGS["model_dir"].present else None, settings.of_flags(FLAGS), explicit_flags
    )


def _load_tensorflow() -> None:
    """Import TensorFlow without its notes on drivers and devices, which no log level hides."""
    if not FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # TensorFlow logs too much at absl's default, INFO
    if sys.stderr is None or "tensorflow" in sys.modules:
        return
    sys.stderr.flush()
    terminal = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        import tensorflow  # noqa: F401
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


def _is_expected(error: Exception) -> bool:
    """Whether an error is due to input, disk or a missing extra: reported in one line."""
    import tensorflow as tf

    disk = (tf.errors.ResourceExhaustedError, tf.errors.PermissionDeniedError)
    return isinstance(error, (ValueError, OSError, ImportError, RuntimeError, *disk))


def console() -> None:
    """The entry point of the installed command."""
    command_line.define_flags()
    if sys.stdout is not None:
        sys.stdout.reconfigure(errors="replace")  # a reply may have characters that it cannot show
    app.run(main)


if __name__ == "__main__":
    console()
