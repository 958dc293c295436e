"""Every flag of the program."""

from absl import flags

from apps.chatbot import search_flags, serve_flags
from apps.chatbot.settings import ADDED, WARMUP


def define_flags() -> None:
    """Declare every flag of the program."""
    flags.DEFINE_enum("mode", "train", ["train", "eval", "infer", "export", "serve"], "What to do.")
    flags.DEFINE_enum("task", "chat", ["chat", "couplet"], "What to learn.")
    flags.DEFINE_string(
        "data",
        None,
        "Text pairs: a file of lines `source TAB target` (may be .gz), or two line-aligned files "
        "as SRC,TGT. Default: the data that comes with the program. For eval: what to evaluate "
        "on; default: the held-out part.",
    )
    flags.DEFINE_string(
        "dev_data", None, "Held-out pairs, like --data. Default: a split of --data."
    )
    flags.DEFINE_string("model_dir", "model", "Where the model is kept.")
    flags.DEFINE_string("export_dir", "export", "The SavedModel: written by export, read by serve.")
    flags.DEFINE_enum(
        "tokenizer",
        "char",
        ["char", "word", "sentencepiece"],
        "What a token is. sentencepiece needs the extra [subword].",
    )
    flags.DEFINE_integer("vocab_size", 8000, "The most tokens to know.", lower_bound=8)
    flags.DEFINE_integer("epochs", 16, "Passes over the data, at most.", lower_bound=1)
    flags.DEFINE_integer("steps", None, "Training steps in all; overrides --epochs.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 64, "Pairs a step.", lower_bound=1)
    flags.DEFINE_float(
        "learning_rate",
        3e-3,
        "Of Adam; halved after every epoch without a better dev loss, or see --warmup_steps.",
        lower_bound=0.0,
    )
    flags.DEFINE_integer(
        "warmup_steps",
        None,
        "Steps in which the learning rate rises to --learning_rate, to fall with the root of the "
        f"step from there; 0 halves it instead. Default: 0, of a Transformer {WARMUP}.",
        lower_bound=0,
    )
    flags.DEFINE_float(
        "label_smoothing",
        ADDED["label_smoothing"],
        "Share of each target spread over all tokens.",
        lower_bound=0.0,
        upper_bound=0.99,
    )
    flags.DEFINE_integer(
        "average",
        ADDED["average"],
        "Epochs, the last ones, whose weights are averaged at the end; the mean is the model if "
        "its dev loss is better. 0 averages none.",
        lower_bound=0,
    )
    flags.DEFINE_enum("model", ADDED["model"], ["rnn", "transformer"], "What kind of model.")
    flags.DEFINE_integer("units", 128, "Width of every layer.", lower_bound=1)
    flags.DEFINE_integer("layers", 1, "Layers of the encoder and of the decoder.", lower_bound=1)
    flags.DEFINE_enum(
        "attention",
        "bahdanau",
        ["bahdanau", "luong", "none"],
        "How the decoder of an RNN looks back.",
    )
    flags.DEFINE_integer("heads", ADDED["heads"], "Heads of a Transformer.", lower_bound=1)
    flags.DEFINE_integer(
        "ff_units",
        None,
        "Width of a Transformer's feed-forward layers. Default: 4 * units.",
        lower_bound=1,
    )
    flags.DEFINE_float(
        "max_gradient_norm", 5.0, "Clip gradients to this global norm; 0 does not.", lower_bound=0.0
    )
    flags.DEFINE_float(
        "dropout", 0.0, "Share of inputs dropped.", lower_bound=0.0, upper_bound=0.99
    )
    flags.DEFINE_enum(
        "dtype_policy", "float32", ["float32", "mixed_bfloat16", "mixed_float16"], "Of Keras."
    )
    flags.DEFINE_integer(
        "context_turns",
        ADDED["context_turns"],
        "Turns before a line, of either side, that are read with it. Data may then have lines of "
        "more than two turns, `TURN TAB TURN TAB TURN ...`: each is a reply to those before it.",
        lower_bound=0,
    )
    search_flags.define()
    serve_flags.define()
    flags.DEFINE_integer(
        "max_length", 64, "Tokens of a source or a target, at most.", lower_bound=1
    )
    flags.DEFINE_integer("seed", 0, "Of everything random.", lower_bound=0)
    flags.DEFINE_integer(
        "patience",
        5,
        "Epochs without a better dev loss before stopping; 0 never stops.",
        lower_bound=0,
    )
    flags.DEFINE_string("input", None, "File of lines to answer. Default: standard input.")
    flags.DEFINE_string("output", None, "File for the answers. Default: standard output.")
