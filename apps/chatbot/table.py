"""The one table of settings: their flags, and the checks of what a model directory stores."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from absl import flags

REQUIRED = object()  # a model directory of any version has it
WARMUP = 1000  # steps, of a Transformer that is told nothing else


class Setting(NamedTuple):
    """A setting of the program, or of a model.

    Attributes:
        name: of the flag, and in config.json.
        kind: int, float, bool, str or list (of str).
        default: of the flag; None is allowed as a value where it is the default.
        help: of the flag.
        low, high: the range of a number, ends included.
        choices: the values of a str; None: any.
        stored: "fixed" when training has begun, "free" to change, "search" (free, too), or
            None: not stored.
        earlier: the value meant by a model directory of an earlier version, which lacks it.
        optional: None is allowed as a value.
    """

    name: str
    kind: type
    default: Any
    help: str
    low: Any = None
    high: Any = None
    choices: tuple[str, ...] | None = None
    stored: str | None = None
    earlier: Any = REQUIRED
    optional: bool = False

    def check(self, value: Any) -> None:
        """Raise ValueError, with the name and what is expected, for another type or range."""
        if (self.optional or self.default is None) and value is None:
            return
        kinds = {float: (int, float)}.get(self.kind, self.kind)
        right = isinstance(value, kinds) and isinstance(value, bool) == (self.kind is bool)
        if right and self.kind in (int, float):
            right = self.low <= value <= self.high  # false for NaN, too
        if right and self.choices:
            right = value in self.choices
        if right and self.kind is list:
            right = all(isinstance(item, str) for item in value)
        if not right:
            raise ValueError(f"{self.name} must be {self.expected}. Received: {value!r}")

    @property
    def expected(self) -> str:
        """The values there are, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.kind in (int, float):
            number = "a whole number" if self.kind is int else "a number"
            return f"{number} from {_shown(self.low)} to {_shown(self.high)}"
        return {bool: "true or false", str: "a text", list: "a list of texts"}[self.kind]


def define(table: Iterable[Setting]) -> None:
    """Declare the flag of each setting."""
    for setting in table:
        name, default, text = setting.name, setting.default, setting.help
        if setting.choices:
            flags.DEFINE_enum(name, default, list(setting.choices), text)
        elif setting.kind in (int, float):
            add = flags.DEFINE_integer if setting.kind is int else flags.DEFINE_float
            add(name, default, text, lower_bound=setting.low, upper_bound=setting.high)
            if setting.kind is float:  # neither above nor below a bound
                flags.register_validator(
                    name, lambda value: value is None or not math.isnan(value), "is no number"
                )
        else:
            add = {bool: flags.DEFINE_bool, str: flags.DEFINE_string, list: flags.DEFINE_list}
            add[setting.kind](name, default, text)


def _shown(bound) -> str:
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:g}"


def _fixed(*row, **about) -> Setting:
    return Setting(*row, stored="fixed", **about)


def _free(*row, **about) -> Setting:
    return Setting(*row, stored="free", **about)


def _search(*row, **about) -> Setting:
    return Setting(*row, stored="search", **about)


# The upper bounds are what a usual machine survives, each with the defaults of the others; the
# sizes of a model are checked together before it is made, see `store.check_memory`.
TABLE = (
    Setting(
        "mode", str, "train", "What to do.", choices=("train", "eval", "infer", "export", "serve")
    ),
    _fixed("task", str, "chat", "What to learn.", choices=("chat", "couplet")),
    _fixed(
        "data",
        str,
        None,
        "Text pairs: a file of lines `source TAB target` (may be .gz) or a .csv file, or two "
        "line-aligned files as SRC,TGT. Default: the data that comes with the program. For eval: "
        "what to evaluate on; default: the held-out part.",
    ),
    _fixed(
        "dev_data", str, None, "Held-out pairs, like --data. Default: a split of --data."
    ),
    Setting("model_dir", str, "model", "Where the model is kept."),
    Setting("export_dir", str, "export", "The SavedModel: written by export, read by serve."),
    _fixed(
        "tokenizer",
        str,
        "char",
        "What a token is. sentencepiece needs the extra [subword].",
        choices=("char", "word", "sentencepiece"),
    ),
    _fixed("vocab_size", int, 8000, "The most tokens to know.", 8, 1_000_000),
    _free("epochs", int, 16, "Passes over the data, at most.", 1, 1_000_000),
    _free("steps", int, None, "Training steps in all; overrides --epochs.", 1, 1_000_000_000),
    _fixed("batch_size", int, 64, "Pairs a step.", 1, 65_536),
    _fixed(
        "learning_rate",
        float,
        3e-3,
        "Of Adam; halved after every epoch without a better dev loss, or see --warmup_steps.",
        0.0,
        1000.0,
    ),
    _fixed(
        "warmup_steps",
        int,
        None,
        "Steps in which the learning rate rises to --learning_rate, to fall with the root of the "
        f"step from there; 0 halves it instead. Default: 0, of a Transformer {WARMUP}.",
        0,
        1_000_000_000,
        earlier=0,
    ),
    _fixed(
        "label_smoothing",
        float,
        0.0,
        "Share of each target spread over all tokens.",
        0.0,
        0.99,
        earlier=0.0,
    ),
    _free(
        "average",
        int,
        0,
        "Epochs, the last ones, whose weights are averaged at the end; the mean is the model if "
        "its dev loss is better. 0 averages none.",
        0,
        1000,
        earlier=0,
    ),
    _fixed(
        "model",
        str,
        "rnn",
        "What kind of model.",
        choices=("rnn", "transformer"),
        earlier="rnn",
    ),
    _fixed("units", int, 128, "Width of every layer.", 1, 8192),
    _fixed("layers", int, 1, "Layers of the encoder and of the decoder.", 1, 100),
    _fixed(
        "attention",
        str,
        "bahdanau",
        "How the decoder of an RNN looks back.",
        choices=("bahdanau", "luong", "none"),
        optional=True,  # of a Transformer
    ),
    _fixed("heads", int, 4, "Heads of a Transformer.", 1, 1024, earlier=4),
    _fixed(
        "ff_units",
        int,
        None,
        "Width of a Transformer's feed-forward layers. Default: 4 * units.",
        1,
        65_536,
        earlier=None,
    ),
    _fixed(
        "max_gradient_norm",
        float,
        5.0,
        "Clip gradients to this global norm; 0 does not.",
        0.0,
        1e9,
    ),
    _fixed("dropout", float, 0.0, "Share of inputs dropped.", 0.0, 0.99),
    _fixed(
        "dtype_policy",
        str,
        "float32",
        "Of Keras.",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
    ),
    _fixed(
        "context_turns",
        int,
        0,
        "Turns before a line, of either side, that are read with it; the oldest are left out where "
        "--max_length has no room for them. Data may then have lines of more than two turns, `TURN "
        "TAB TURN TAB TURN ...`: each is a reply to those before it.",
        0,
        100,
        earlier=0,
    ),
    _search(
        "beam_width", int, 4, "Hypotheses a search keeps, or answers it draws.", 1, 256
    ),
    _search(
        "n_best",
        int,
        None,
        "Answers to give, at most --beam_width: best first, drawn ones in the order drawn; infer "
        "separates them by tabs. Default: all in an export, one in infer.",
        1,
        256,
        earlier=None,
    ),
    _search("length_penalty", float, 0.6, "0 prefers short answers.", 0.0, 100.0),
    _search(
        "coverage_penalty",
        float,
        0.0,
        "How much an answer loses that leaves a part of its line unread. 0: nothing.",
        0.0,
        1000.0,
        earlier=0.0,
    ),
    _search(
        "sampling",
        str,
        "off",
        "off: the best answers. sample: draws, each token by its probability. stochastic: draws of "
        "which no two are the same. diverse: the best of groups that avoid each other's words.",
        choices=("off", "sample", "stochastic", "diverse"),
        earlier="off",
    ),
    _search(
        "sample_seed",
        int,
        None,
        "For the same draws each time. Default: new ones.",
        -(2**31),
        2**31 - 1,
        earlier=None,
    ),
    _search("diversity_groups", int, 2, "Of --sampling=diverse.", 1, 256, earlier=2),
    _search(
        "diversity_strength",
        float,
        1.0,
        "What it costs to say a token that another group has just said.",
        0.0,
        1e6,
        earlier=1.0,
    ),
    _search(
        "temperature",
        float,
        1.0,
        "Below 1 the likely becomes likelier, above 1 all more alike.",
        0.01,
        1e6,
        earlier=1.0,
    ),
    _search("top_k", int, 0, "Only the k likeliest; 0: all.", 0, 1_000_000, earlier=0),
    _search(
        "top_p",
        float,
        1.0,
        "Only the likeliest tokens that have this probability together; 1: all.",
        0.0,
        1.0,
        earlier=1.0,
    ),
    _search(
        "min_p",
        float,
        0.0,
        "Only what is at least this share as likely as the likeliest token; 0: all.",
        0.0,
        1.0,
        earlier=0.0,
    ),
    _search(
        "typical_p",
        float,
        1.0,
        "Only the least surprising tokens of this probability together; 1: all.",
        0.0,
        1.0,
        earlier=1.0,
    ),
    _search("min_length", int, 0, "Tokens of an answer, at least.", 0, 10_000, earlier=0),
    _search(
        "repetition_penalty",
        float,
        1.0,
        "Above 1, what was said already becomes less likely.",
        0.01,
        1e6,
        earlier=1.0,
    ),
    _search(
        "no_repeat_ngram",
        int,
        0,
        "So many tokens in a row are said once at most; 0: as often as may be.",
        0,
        10_000,
        earlier=0,
    ),
    _search(
        "banned_words",
        list,
        [],
        "Words or phrases that no answer has, separated by commas.",
        earlier=[],
    ),
    _search(
        "must_contain",
        list,
        [],
        "Words or phrases that each answer has, all of them, separated by commas.",
        earlier=[],
    ),
    _fixed("max_length", int, 64, "Tokens of a source or a target, at most.", 1, 10_000),
    _fixed("seed", int, 0, "Of everything random.", 0, 2**32 - 1),
    _free(
        "patience",
        int,
        5,
        "Epochs without a better dev loss before stopping; 0 never stops.",
        0,
        1_000_000,
    ),
    Setting("input", str, None, "File of lines to answer. Default: standard input."),
    Setting("output", str, None, "File for the answers. Default: standard output."),
    Setting(
        "max_line_bytes",
        int,
        10_000_000,
        "A longer line of --data or --input is refused.",
        1,
        2**40,
    ),
    Setting(
        "max_data_bytes",
        int,
        1_000_000_000,
        "A file of --data or --dev_data that has more, after decompression, is refused.",
        1,
        2**50,
    ),
    Setting(
        "max_data_lines",
        int,
        10_000_000,
        "A file of --data or --dev_data that has more is refused.",
        1,
        2**40,
    ),
    Setting(
        "bleu_tokenize",
        str,
        None,
        "How eval finds the words that BLEU counts: a tokenizer of sacrebleu. Default: by the "
        "script of the targets.",
        choices=("13a", "intl", "zh", "char", "ja-mecab", "ko-mecab", "none"),
    ),
    # Of serve.
    Setting(
        "host",
        str,
        "127.0.0.1",
        "Where to listen; 0.0.0.0 is every interface, without any password.",
    ),
    Setting(
        "allowed_hosts",
        list,
        [],
        "Names for which it may be asked (headers Host and Origin), beside localhost and, with "
        "another --host, addresses and this machine's name; *: any.",
    ),
    Setting("port", int, 8501, "Where to listen; 0: a free one.", 0, 65_535),
    Setting("model_name", str, "chatbot", "The model's name in the requests."),
    Setting(
        "max_batch_size",
        int,
        32,
        "Lines that are answered at a time, of requests that arrive together; those of a longer "
        "request take turns with the others. 1 answers each line alone.",
        1,
        4096,
    ),
    Setting("max_rows", int, 256, "Lines that a request may have.", 1, 1_000_000),
    Setting(
        "time_limit", float, 30.0, "Seconds after which a request is given up.", 0.001, 86_400.0
    ),
    Setting(
        "page",
        bool,
        False,
        "Also a page to talk to the model, at /; extra [demo]. It is for --task, or for the model "
        "of --model_dir, if that is given: then a chat's reply is also drafted token by token.",
    ),
)  # fmt: skip
