"""Split, join and copy surface words. Strings only, no vocabulary."""

import tensorflow as tf

from keras_attention.text.vocabulary import SPECIAL_TOKENS, UNKNOWN

# RE2 has no look-around: a text is split by adding a space after each match of TOKEN.
SPACE = r"[\p{Z}\p{Cc}\x{200B}\x{FEFF}]+"
CJK = (  # the last range: planes 2 and 3 are ideographs, also those unknown to RE2
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\x{30FC}\x{FF70}\x{20000}-\x{3FFFF}]\p{M}*"
)
UNIT = r"(?:\p{Nd}(?:[.,:]\p{Nd})+|[\p{L}\p{N}])"  # a letter, or digits around . , :
WORD = rf"{UNIT}(?:['’‐-]?{UNIT}|[\p{{M}}\x{{200C}}\x{{200D}}])*"
GLYPH = r"[^ ][\p{M}\x{1F3FB}-\x{1F3FF}\x{E0020}-\x{E007F}]*"  # skin tones, tags of flags
TOKEN = rf"[\x{{1F1E6}}-\x{{1F1FF}}]{{2}}|{WORD}|{GLYPH}(?:\x{{200D}}{GLYPH})*"

# Where `join` puts no space.
EASTERN = rf"{CJK}|[“”‘’…—·]"  # between two of these
WIDE = (  # on neither side
    r"[\x{3001}-\x{3003}\x{3008}-\x{3020}\x{3030}\x{30FB}\x{FE10}-\x{FE1F}\x{FE30}-\x{FE4F}"
    r"\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF20}\x{FF3B}-\x{FF40}\x{FF5B}-\x{FF65}\x{FFE0}-\x{FFE6}]\p{M}*"
)
OPENING = r"[\p{Ps}\p{Pi}¿¡]"  # after
CLOSING = r"[\p{Pe}\p{Pf}.,;:!?%…]"  # before


def split(text: tf.Tensor) -> tf.RaggedTensor:
    """The surface words of a text, in original case: string [B] -> string, ragged [B, None].

    White space, control characters and invisible separators (U+200B, U+FEFF) separate words and are
    removed. A word consists of letters, digits and their marks, with apostrophes and hyphens inside
    of it, and . , : inside of a number. Each CJK character and each other symbol is one word; an
    emoji sequence is one. Invalid UTF-8 is U+FFFD.

    >>> [word.decode() for word in split(["Don't pay 3.50€ (我们)!"])[0].numpy()]
    ["Don't", 'pay', '3.50', '€', '(', '我', '们', ')', '!']
    """
    text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8")  # RE2 needs valid UTF-8
    text = tf.strings.regex_replace(text, SPACE, " ")
    text = tf.strings.regex_replace(text, CJK, r" \0 ")
    return tf.strings.split(tf.strings.regex_replace(text, TOKEN, r"\0 "))


def join(tokens: tf.Tensor) -> tf.Tensor:
    """Join tokens to a text: string [..., T], dense or ragged -> string [...].

    Tokens are separated by single spaces, except before closing punctuation, after an opening
    bracket or quote, inside a pair of straight double quotes, between CJK characters, and around
    full-width punctuation. "" and "<s>" are ignored, and so is everything from the first "</s>" on.

    >>> join([["say", '"', "hi", '"', "(", "now", ")", "!", "</s>", "x"]]).numpy().tolist()
    [b'say "hi" (now)!']
    """
    tokens = tokens.to_tensor("") if isinstance(tokens, tf.RaggedTensor) else tokens
    tokens = tf.convert_to_tensor(tokens, tf.string)
    shape = tf.shape(tokens)
    rows = tf.reshape(tokens, [tf.reduce_prod(shape[:-1]), shape[-1]])
    pad, start, end, _ = SPECIAL_TOKENS
    ended = tf.cumsum(tf.cast(rows == end, tf.int32), axis=-1) > 0
    words = tf.ragged.boolean_mask(rows, ~ended & (rows != pad) & (rows != start)).to_tensor(pad)

    quote = words == '"'
    second = tf.cumsum(tf.cast(quote, tf.int32), axis=-1) % 2 == 0
    wide = tf.strings.regex_full_match(words, WIDE)
    eastern = tf.strings.regex_full_match(words, EASTERN)
    before = tf.strings.regex_full_match(words, CLOSING) | wide | (quote & second) | (words == pad)
    after = tf.strings.regex_full_match(words, OPENING) | wide | (quote & ~second)
    tight = after[:, :-1] | before[:, 1:] | (eastern[:, :-1] & eastern[:, 1:])
    spaced = tf.strings.join([tf.where(tight, "", " "), words[:, 1:]])
    text = tf.strings.reduce_join(tf.concat([words[:, :1], spaced], axis=-1), axis=-1)
    return tf.reshape(text, shape[:-1])


def replace_unknown(
    tokens: tf.Tensor, source_tokens: tf.Tensor, alignments: tf.Tensor
) -> tf.Tensor:
    """Copy the most attended source word for every "<unk>" (Jean et al.; Luong et al., 2015b).

    Args:
        tokens: string [B, T] or [B, K, T].
        source_tokens: string [B, S'], dense padded with "" or ragged, S' <= S: slots after S' (of
            an end token or padding) are never copied, nor are "", "<s>", "</s>".
        alignments: float [B, T, S] or [B, K, T, S], the weight of each source slot.

    Returns:
        string, shape of `tokens`. "<unk>" stays if the source has no word.

    Raises:
        tf.errors.InvalidArgumentError: S' > S.

    >>> weights = [[[0.1, 0.8, 0.1], [0.2, 0.1, 0.7]]]
    >>> replace_unknown([["hallo", "<unk>"]], [["hello", "dear", "Zoë"]], weights)[0, 1].numpy()
    b'Zo\\xc3\\xab'
    """
    unknown = SPECIAL_TOKENS[UNKNOWN]
    if isinstance(source_tokens, tf.RaggedTensor):
        source_tokens = source_tokens.to_tensor("")
    source = tf.convert_to_tensor(source_tokens, tf.string)
    tokens, weights = tf.convert_to_tensor(tokens), tf.convert_to_tensor(alignments)
    shape = tf.shape(tokens)
    slots = tf.shape(weights)[-1] + 1  # one extra slot without a word, because S may be 0
    tf.debugging.assert_less(
        tf.shape(source)[1],
        slots,
        "source_tokens must not have more slots than alignments: S' <= S.",
    )
    source = tf.pad(source, [[0, 0], [0, slots - tf.shape(source)[1]]])
    wordless = tf.reduce_any(source[..., None] == SPECIAL_TOKENS[:UNKNOWN], axis=-1)  # [B, S + 1]
    source = tf.where(wordless, unknown, source)
    weights = tf.reshape(weights, [shape[0], tf.reduce_prod(shape[1:]), slots - 1])
    weights = tf.pad(weights, [[0, 0], [0, 0], [0, 1]])
    weights = tf.where(wordless[:, None], weights.dtype.min, weights)
    copied = tf.gather(source, tf.argmax(weights, axis=-1), batch_dims=1)
    return tf.where(tokens == unknown, tf.reshape(copied, shape), tokens)
