"""The one table of settings: their flags, and the checks of what a model directory stores."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from absl import flags

REQUIRED = object()  # a model directory of any version has it
WARMUP = 1000  # steps, of a Transformer without another setting


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
        "mode", str, "train",
        "train: learn from --data; eval: score the model on held-out pairs; infer: reply to "
        "lines; export: write a SavedModel; serve: serve that over HTTP.",
        choices=("train", "eval", "infer", "export", "serve"),
    ),
    _fixed(
        "task", str, "chat",
        "What to learn. chat: a reply to each line; choose it for translation, too, and for "
        "any other pairs of source and target. couplet: the second line of a Chinese couplet, "
        "with exactly as many characters as the first line.",
        choices=("chat", "couplet"),
    ),
    _fixed(
        "data", str, None,
        "Text pairs: a file of lines `source TAB target` (may be .gz) or a .csv file, or two "
        "line-aligned files as SRC,TGT. Default: the data that comes with the program. For "
        "eval: what to evaluate on; default: the held-out part.",
    ),
    _fixed(
        "dev_data", str, None,
        "Held-out pairs, in the formats of --data: training keeps the model with the lowest "
        "loss on them. Default: the pairs of 5% of the sources of --data.",
    ),
    Setting(
        "model_dir", str, "model",
        "Directory of the model: its settings, vocabulary, weights, checkpoints and logs.",
    ),
    Setting(
        "export_dir", str, "export",
        "Directory of the SavedModel: written by export, read by serve.",
    ),
    _fixed(
        "tokenizer", str, "char",
        "What a token is. char: a character; for every language, Chinese included; keeps "
        "case. word: a word, a punctuation mark, or a single Chinese or Japanese character; "
        "everything becomes lower case, replies too. sentencepiece: a frequent part of words; "
        "for every language; keeps case and spells rare characters in bytes; needs the extra "
        "[subword].",
        choices=("char", "word", "sentencepiece"),
    ),
    _fixed(
        "vocab_size", int, 8000,
        "Size of the vocabulary, at most, with 4 special tokens. Source and target share one "
        "vocabulary. char and word keep the most frequent tokens; all others are unknown to "
        "the model. sentencepiece needs 260 and one for each distinct character of the data; "
        "a smaller value is raised to that, with a warning.",
        8, 1_000_000,
    ),
    _free(
        "epochs", int, 16,
        "Passes over the training data, at most: see --patience.",
        1, 1_000_000,
    ),
    _free(
        "steps", int, None,
        "Training steps in all, those of earlier runs in --model_dir included; overrides "
        "--epochs.",
        1, 1_000_000_000,
    ),
    _fixed("batch_size", int, 64, "Pairs in a training step.", 1, 65_536),
    _fixed(
        "learning_rate", float, 3e-3,
        "Learning rate of Adam. Of an RNN: the first one, halved after every epoch without a "
        "better dev loss. Of a Transformer: the highest one, see --warmup_steps; Vaswani et "
        "al. (2017) take 1 / sqrt(units * warmup_steps), which is 0.0028 for the default "
        "sizes and 0.0014 for --units=512.",
        0.0, 1000.0,
    ),
    _fixed(
        "warmup_steps", int, None,
        "Steps in which the learning rate rises in a straight line to --learning_rate; from "
        "there it falls with 1 / sqrt(step). 0: no warm-up; it is halved after every epoch "
        f"without a better dev loss. Default: {WARMUP} for a Transformer, 0 for an RNN.",
        0, 1_000_000_000, earlier=0,
    ),
    _fixed(
        "label_smoothing", float, 0.0,
        "Share of the probability of each target token that is spread over all tokens, in "
        "training; 0.1 is usual for a Transformer.",
        0.0, 0.99, earlier=0.0,
    ),
    _free(
        "average", int, 0,
        "Number of last epochs whose weights are averaged at the end of the training; the "
        "average is kept if its dev loss is lower. 0: no averaging.",
        0, 1000, earlier=0,
    ),
    _fixed(
        "model", str, "rnn",
        "Kind of model: rnn (GRU with attention) or transformer.",
        choices=("rnn", "transformer"), earlier="rnn",
    ),
    _fixed(
        "units", int, 128,
        "Width of the embeddings and of every layer; for the feed-forward layers of a "
        "Transformer see --ff_units.",
        1, 8192,
    ),
    _fixed("layers", int, 1, "Number of layers of the encoder, and of the decoder.", 1, 100),
    _fixed(
        "attention", str, "bahdanau",
        "Attention of an RNN decoder: bahdanau (additive), luong (multiplicative) or none.",
        choices=("bahdanau", "luong", "none"), optional=True,  # of a Transformer
    ),
    _fixed(
        "heads", int, 4,
        "Number of attention heads of a Transformer; must divide --units.",
        1, 1024, earlier=4,
    ),
    _fixed(
        "ff_units", int, None,
        "Width of the feed-forward layers of a Transformer. Default: 4 * units.",
        1, 65_536, earlier=None,
    ),
    _fixed(
        "max_gradient_norm", float, 5.0,
        "Gradients are scaled down to this global norm where theirs is larger; 0: no "
        "clipping.",
        0.0, 1e9,
    ),
    _fixed("dropout", float, 0.0, "Dropout rate, in training.", 0.0, 0.99),
    _fixed(
        "dtype_policy", str, "float32",
        "Keras dtype policy. The mixed ones compute in 16 bits and keep weights in float32.",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
    ),
    _fixed(
        "context_turns", int, 0,
        "Number of turns of the conversation, of either side, that are read before a line; "
        "the oldest are left out where all together are longer than --max_length. Lines of "
        "--data may then have more than two turns, `TURN TAB TURN TAB TURN ...`: each is a "
        "reply to those before it.",
        0, 100, earlier=0,
    ),
    _search(
        "beam_width", int, 4,
        "Hypotheses that beam search keeps for each line, or answers that are sampled. 1 is "
        "greedy search, or one sample.",
        1, 256,
    ),
    _search(
        "n_best", int, None,
        "Answers to return, at most --beam_width: best first, samples in the order drawn; "
        "infer separates them by tabs. Default: all in an export, one in infer.",
        1, 256, earlier=None,
    ),
    _search(
        "length_penalty", float, 0.6,
        "Weight w of the length penalty. Answers are ranked by log p / ((5 + T) / 6)^w, where "
        "T counts their tokens and the end token. 0 ranks by log p, which prefers short "
        "answers; a larger w prefers longer ones. Usual: 0.6 to 1.",
        0.0, 100.0,
    ),
    _search(
        "coverage_penalty", float, 0.0,
        "Weight of the coverage penalty (Wu et al., 2016, eq. 14), which lowers the score of "
        "an answer whose attention left out a part of the source. 0: none.",
        0.0, 1000.0, earlier=0.0,
    ),
    _search(
        "sampling", str, "off",
        "off: beam search. sample: each token is drawn by its probability. stochastic: "
        "answers are drawn without replacement, so no two are the same. diverse: beam search "
        "in groups which avoid each other's tokens.",
        choices=("off", "sample", "stochastic", "diverse"), earlier="off",
    ),
    _search(
        "sample_seed", int, None,
        "Seed of --sampling=sample and --sampling=stochastic: the same seed draws the same "
        "answers. Default: other answers each time.",
        -(2**31), 2**31 - 1, earlier=None,
    ),
    _search(
        "diversity_groups", int, 2,
        "Number of groups of --sampling=diverse; must divide --beam_width.",
        1, 256, earlier=2,
    ),
    _search(
        "diversity_strength", float, 1.0,
        "Of --sampling=diverse: subtracted from the log p of a token for every time that an "
        "earlier group has chosen it at the same step.",
        0.0, 1e6, earlier=1.0,
    ),
    _search(
        "temperature", float, 1.0,
        "Divides the logits: below 1 the likely tokens become likelier, above 1 all become "
        "more alike. 1: no change.",
        0.01, 1e6, earlier=1.0,
    ),
    _search(
        "top_k", int, 0,
        "Keep the k most likely tokens of each step; 0: all.",
        0, 1_000_000, earlier=0,
    ),
    _search(
        "top_p", float, 1.0,
        "Keep the most likely tokens of each step whose probabilities add up to this "
        "(nucleus); 1: all.",
        0.0, 1.0, earlier=1.0,
    ),
    _search(
        "min_p", float, 0.0,
        "Keep the tokens of each step that are at least this times as likely as the most "
        "likely one; 0: all.",
        0.0, 1.0, earlier=0.0,
    ),
    _search(
        "typical_p", float, 1.0,
        "Keep the tokens of each step whose -log p is nearest to the entropy, until their "
        "probabilities add up to this (locally typical sampling); 1: all.",
        0.0, 1.0, earlier=1.0,
    ),
    _search(
        "min_length", int, 0,
        "Tokens of an answer, at least, the end token not counted.",
        0, 10_000, earlier=0,
    ),
    _search(
        "repetition_penalty", float, 1.0,
        "Multiplies the log p of every token that the answer already has: above 1 it becomes "
        "less likely. 1: no change.",
        0.01, 1e6, earlier=1.0,
    ),
    _search(
        "no_repeat_ngram", int, 0,
        "No n-gram of this many tokens occurs twice in an answer; 0: no such rule.",
        0, 10_000, earlier=0,
    ),
    _search(
        "banned_words", list, [],
        "Words or phrases that no answer contains, separated by commas.",
        earlier=[],
    ),
    _search(
        "must_contain", list, [],
        "Words or phrases that every answer contains, all of them, separated by commas.",
        earlier=[],
    ),
    _fixed(
        "max_length", int, 64,
        "Tokens of a source and of a target, at most, the end token not counted. train and "
        "eval leave longer pairs out. infer and an export read the first tokens of a longer "
        "line alone (a longer line of a couplet gets no reply), and give no longer answers.",
        1, 10_000,
    ),
    _fixed(
        "seed", int, 0,
        "Seed of the initial weights, the order of the pairs, dropout, and the split of "
        "--data.",
        0, 2**32 - 1,
    ),
    _free(
        "patience", int, 5,
        "Training stops after this many epochs without a better dev loss; 0: never.",
        0, 1_000_000,
    ),
    Setting("input", str, None, "Of infer: file of lines to reply to. Default: standard input."),
    Setting(
        "output", str, None,
        "Of infer: file for the replies, which appears when they are complete: until then they are "
        "in OUTPUT.part, and the same command continues after a kill or a full disk. Default: "
        "standard output.",
    ),
    Setting(
        "batch_tokens", int, 16_384,
        "Of infer, for a file of lines: tokens of a batch, at most. A line counts --beam_width "
        "times the tokens of the longest line of its batch and --max_length. Lower it for less "
        "memory. The replies do not depend on it.",
        1, 2**31 - 1,
    ),
    Setting(
        "max_line_bytes", int, 10_000_000,
        "A longer line of --data or --input is an error.",
        1, 2**40,
    ),
    Setting(
        "max_data_bytes", int, 1_000_000_000,
        "A file of --data or --dev_data with more bytes, after decompression, is an error.",
        1, 2**50,
    ),
    Setting(
        "max_data_lines", int, 10_000_000,
        "A file of --data or --dev_data with more lines is an error.",
        1, 2**40,
    ),
    Setting(
        "strategy", str, "none",
        "Of train. none: one replica; mirrored: one on each GPU of this machine; multi_worker: "
        "one or more in each of several processes, which TF_CONFIG describes; `python -m "
        "keras_attention.training.launch --workers=2 -- COMMAND` starts them on one machine. "
        "--batch_size is that of all replicas together, and the result that of one.",
        choices=("none", "mirrored", "multi_worker"),
    ),
    Setting(
        "prepare_above", int, 64_000_000,
        "Of train: if the files of --data and --dev_data have more bytes than this in all, they "
        "are not read into memory, but encoded once into files below --model_dir, from which "
        "the training reads; the vocabulary is learned from a sample of 16 MB of them, if they "
        "have more. 0: always. A training that has begun keeps to what it began with.",
        0, 2**50,
    ),
    Setting(
        "bleu_tokenize", str, None,
        "Of eval: the tokenizer of sacrebleu that finds the words for BLEU. Default: by the "
        "script of the targets.",
        choices=("13a", "intl", "zh", "char", "ja-mecab", "ko-mecab", "none"),
    ),
    # Of serve.
    Setting(
        "host", str, "127.0.0.1",
        "Of serve: the address to listen at; 0.0.0.0 is every network interface. There is no "
        "password.",
    ),
    Setting(
        "allowed_hosts", list, [],
        "Of serve: host names that a request may have in its headers Host and Origin, beside "
        "localhost and, with another --host, addresses and the name of this machine; *: any.",
    ),
    Setting("port", int, 8501, "Of serve: the port to listen at; 0: a free one.", 0, 65_535),
    Setting(
        "model_name", str, "chatbot",
        "Of serve: the name of the model in URLs, /v1/models/NAME.",
    ),
    Setting(
        "max_batch_size", int, 32,
        "Of serve: lines that are answered at a time, from requests that arrive together; "
        "those of a longer request take turns with the others. 1 answers each line alone.",
        1, 4096,
    ),
    Setting("max_rows", int, 256, "Of serve: lines of a request, at most.", 1, 1_000_000),
    Setting(
        "time_limit", float, 30.0,
        "Of serve: seconds after which a request is given up.",
        0.001, 86_400.0,
    ),
    Setting(
        "page", bool, False,
        "Of serve: also serve a web page to talk to the model, at /; needs the extra [demo]. "
        "The page is for --task, or for the model of --model_dir if that is given: then it "
        "also shows the reply of a chat while it is made.",
    ),
)  # fmt: skip
