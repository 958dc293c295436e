"""str <-> ids, inside the TensorFlow graph.

| tokenizer    | one id is             | decode(encode(x)) is                | ops needed      |
|--------------|-----------------------|-------------------------------------|-----------------|
| `Characters` | a code point          | x                                   | core TensorFlow |
| `Words`      | a word or a mark      | x folded: lower case, single spaces | core TensorFlow |
| `Subwords`   | a SentencePiece piece | x                                   | tensorflow_text |

Each docstring states exactly what is lost. All are `tf.Module`s with the same four special ids and
the same methods: `encode`, `decode`, `tokens`, `save`, and `vocab_size`, `token_lengths`. Create
them eagerly; use them in eager mode, `tf.function`, `Dataset.map`, and SavedModel signatures.
"""

from keras_attention.text.characters import Characters
from keras_attention.text.subwords import Subwords
from keras_attention.text.surface import join, replace_unknown, split
from keras_attention.text.tokenizer import Tokenizer
from keras_attention.text.vocabulary import END, PAD, START, UNKNOWN, saved_file
from keras_attention.text.words import Words

__all__ = [
    "END",
    "PAD",
    "START",
    "UNKNOWN",
    "Characters",
    "Subwords",
    "Tokenizer",
    "Words",
    "join",
    "load",
    "replace_unknown",
    "split",
]


def load(directory: str) -> Tokenizer:
    """The tokenizer that `save(directory)` wrote, of any kind.

    Raises ValueError if a file is missing, half-written, changed since, or of another version.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     Characters.train(["abc"]).save(directory)
    ...     load(directory).vocab_size
    7
    """
    kinds = {kind.KIND: kind for kind in (Characters, Words, Subwords)}
    kind, file = saved_file(directory, {name: kind.FILE for name, kind in kinds.items()})
    return kinds[kind](file)
