"""The flags of a search: see `search`, which makes controls of them."""

from absl import flags

from apps.chatbot.settings import ADDED


def define() -> None:
    """How an answer is searched for: for eval, infer and export, at each use anew."""
    flags.DEFINE_integer(
        "beam_width", 4, "Hypotheses a search keeps, or answers it draws.", lower_bound=1
    )
    flags.DEFINE_integer(
        "n_best",
        ADDED["n_best"],
        "Answers to give, best first, at most --beam_width; infer parts them by tabs. Default: "
        "all in an export, one in infer.",
        lower_bound=1,
    )
    flags.DEFINE_float("length_penalty", 0.6, "0 prefers short answers.", lower_bound=0.0)
    flags.DEFINE_float(
        "coverage_penalty",
        ADDED["coverage_penalty"],
        "How much an answer loses that leaves a part of its line unread. 0: nothing.",
        lower_bound=0.0,
    )
    flags.DEFINE_enum(
        "sampling",
        ADDED["sampling"],
        ["off", "sample", "stochastic", "diverse"],
        "off: the best answers. sample: draws, each token by its probability. stochastic: draws of "
        "which no two are the same. diverse: the best of groups that avoid each other's words.",
    )
    flags.DEFINE_integer(
        "sample_seed", ADDED["sample_seed"], "For the same draws each time. Default: new ones."
    )
    flags.DEFINE_integer(
        "diversity_groups", ADDED["diversity_groups"], "Of --sampling=diverse.", lower_bound=1
    )
    flags.DEFINE_float(
        "diversity_strength",
        ADDED["diversity_strength"],
        "What it costs to say a token that another group has just said.",
        lower_bound=0.0,
    )
    flags.DEFINE_float(
        "temperature",
        ADDED["temperature"],
        "Below 1 the likely becomes likelier, above 1 all more alike.",
        lower_bound=0.01,
    )
    flags.DEFINE_integer("top_k", ADDED["top_k"], "Only the k likeliest; 0: all.", lower_bound=0)
    for name, what, off in (
        ("top_p", "Only the likeliest tokens that have this probability together", 1),
        ("min_p", "Only what is at least this share as likely as the likeliest token", 0),
        ("typical_p", "Only the least surprising tokens of this probability together", 1),
    ):
        flags.DEFINE_float(
            name, ADDED[name], f"{what}; {off}: all.", lower_bound=0.0, upper_bound=1.0
        )
    flags.DEFINE_integer(
        "min_length", ADDED["min_length"], "Tokens of an answer, at least.", lower_bound=0
    )
    flags.DEFINE_float(
        "repetition_penalty",
        ADDED["repetition_penalty"],
        "Above 1, what was said already becomes less likely.",
        lower_bound=0.01,
    )
    flags.DEFINE_integer(
        "no_repeat_ngram",
        ADDED["no_repeat_ngram"],
        "So many tokens in a row are said once at most; 0: as often as may be.",
        lower_bound=0,
    )
    flags.DEFINE_list(
        "banned_words",
        ADDED["banned_words"],
        "Words or phrases that no answer has, parted by commas.",
    )
    flags.DEFINE_list(
        "must_contain",
        ADDED["must_contain"],
        "Words or phrases that each answer has, all of them, parted by commas.",
    )
