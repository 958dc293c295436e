"""Subwords: SentencePiece, trained without loss of information."""

import contextlib
import io
import os
import re
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from keras_attention.text.tokenizer import FileTokenizer
from keras_attention.text.vocabulary import (
    END,
    PAD,
    SPECIAL_TOKENS,
    START,
    UNKNOWN,
    clean,
    sha256,
)

BYTE_PIECES = 256
SPACE = "▁"  # U+2581, which stands for a space in a piece
PROBE = "  a  b "  # changed by a model that adds, removes or merges spaces


class Subwords(FileTokenizer):
    """SentencePiece unigram pieces (Kudo, 2018); `decode(encode(x)) == x` with two exceptions.

    No normalisation, no added or removed spaces. Characters that are not in the corpus are encoded
    as bytes, so emoji, full-width punctuation, rare characters and all spaces are preserved. The
    exceptions: U+2581, which SentencePiece reserves, decodes to a space, and each byte of invalid
    UTF-8 to U+FFFD. UNKNOWN is never encoded and decodes to U+FFFD. `tokens` shows a space as "▁"
    and a byte as "<0xE4>". `token_lengths` is known for all pieces except bytes.

    Needs tensorflow_text, also in a process that only loads a SavedModel which holds one.

    Args:
        model_file: a SentencePiece model made by `train`. Read once.

    Raises:
        ImportError: tensorflow_text cannot be imported.
        ValueError: the file is missing, is not a SentencePiece model, or has other special ids or
            treats spaces differently.

    >>> subwords = Subwords.train(["low lower lowest", "new newer newest"] * 9)
    >>> subwords.decode(subwords.encode(["  lowest 新 "])).numpy()[0].decode()
    '  lowest 新 '
    """

    KIND, FILE = "sentencepiece", "sentencepiece.model"

    def __init__(self, model_file: str):
        _tensorflow_text()
        super().__init__(model_file)

    def _parse(self, content, file):
        tensorflow_text = _tensorflow_text()
        try:
            with _without_notice():
                self._model = tensorflow_text.SentencepieceTokenizer(model=content)
                self._model._model_resource = _named_resource(self._model._model_resource, content)
                size = self._model.vocab_size().numpy()
        except tf.errors.OpError as error:
            raise ValueError(f"{file} is not a SentencePiece model: {error}") from error
        pieces = [piece.decode() for piece in self._model.id_to_string(tf.range(size)).numpy()]
        if pieces[: len(SPECIAL_TOKENS)] != ["<pad>", "<s>", "</s>", "<unk>"]:
            raise ValueError(
                f"{file} must have <pad>, <s>, </s>, <unk> as ids {PAD}, {START}, {END}, "
                f"{UNKNOWN}. Received: {pieces[:4]}; make it with Subwords.train."
            )
        back = self._model.detokenize(self._model.tokenize([PROBE])).numpy()[0].decode()
        if back != PROBE:
            raise ValueError(
                f"{file} must preserve spaces. Received: {PROBE!r} decodes to {back!r}; make it "
                "with Subwords.train."
            )
        return map(_length, pieces[len(SPECIAL_TOKENS) :])

    @classmethod
    def train(
        cls, lines: Iterable[str], vocab_size: int = 8000, character_coverage: float = 1.0
    ) -> "Subwords":
        """Train the unigram model of `lines`; the same lines give the same model, byte for byte.

        Args:
            lines: the corpus. A line break inside a line splits it.
            vocab_size: maximum V; a small corpus has fewer pieces. It must hold 4 special ids, 256
                byte pieces and one piece per distinct covered character; a smaller value is raised
                to that, with a warning.
            character_coverage: share of the corpus, 0.98 to 1.0, whose characters get their own
                pieces; the rarest are encoded as bytes. Lower it if thousands of characters
                (Chinese) must fit in a small vocabulary.

        Raises:
            ImportError: sentencepiece is not installed.
            ValueError: no text, or a coverage out of its range.
        """
        try:
            import sentencepiece
        except ImportError as error:
            raise ImportError(
                "Subwords.train needs sentencepiece, the extra [subword]: pip install sentencepiece"
            ) from error
        if not 0.98 <= character_coverage <= 1.0:
            raise ValueError(
                f"character_coverage must be 0.98 to 1.0. Received: {character_coverage}."
            )
        corpus = [part for line in clean(lines) for part in line.translate(_RESERVED).splitlines()]
        characters = Counter(character for part in corpus for character in part)
        if not characters.keys() - {" "}:
            raise ValueError("lines have no text to learn pieces from. Received: no text.")
        required = len(SPECIAL_TOKENS) + BYTE_PIECES + _covered(characters, character_coverage)
        if vocab_size < required:
            warnings.warn(
                f"vocab_size raised from {vocab_size} to {required}, which {len(SPECIAL_TOKENS)} "
                f"special ids, {BYTE_PIECES} byte pieces and the distinct characters of the corpus "
                "need. Pass that number, or a character_coverage below "
                f"{character_coverage} (0.98 at least) to encode the rarest as bytes.",
                stacklevel=2,
            )
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus),
            model_writer=model,
            model_type="unigram",
            vocab_size=max(vocab_size, required),
            hard_vocab_limit=False,
            character_coverage=character_coverage,
            required_chars=SPACE,  # else spaces would decode to U+2581 for a corpus without any
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            byte_fallback=True,
            unk_surface="\ufffd",
            pad_id=PAD,
            bos_id=START,
            eos_id=END,
            unk_id=UNKNOWN,
            max_sentence_length=2**30,  # the maximum: longer lines would be ignored silently
            num_threads=1,  # to get the same model every time
            minloglevel=2,
        )
        return cls._of_content(model.getvalue())

    def _encode(self, text):
        return self._model.tokenize(text)

    def _pieces(self, ids):
        return self._model.id_to_string(ids)

    def _spell(self, ids):
        return self._model.detokenize(ids)


def _tensorflow_text():
    """The module; ImportError with the command that installs it."""
    try:
        import tensorflow_text
    except ImportError as error:
        raise ImportError("Subwords needs tensorflow_text: pip install tensorflow-text") from error
    return tensorflow_text


# Characters that the trainer rejects, or drops whole lines for. They are encoded as bytes.
_RESERVED = str.maketrans("\0\t▁▅", "    ")


def _named_resource(resource, content: bytes):
    """The same resource with its own name, so that it outlives the op that made it.

    An unnamed one belongs to that op, and is deleted when TensorFlow clears its op cache, as
    `tf.random.set_seed` and `keras.utils.set_random_seed` do. Equal models share a resource.
    """
    from tensorflow_text.python.ops import sentencepiece_tokenizer

    class Lasting(type(resource)):
        def _create_resource(self):
            make = sentencepiece_tokenizer.gen_sentencepiece_tokenizer.sentencepiece_op
            return make(model=content, shared_name=f"keras_attention_{sha256(content)}")

    return Lasting(content, "sentencepiece")


_STDERR = threading.Lock()


@contextlib.contextmanager
def _without_notice():
    """Filter SentencePiece's note that it does not normalise from standard error.

    No log level hides it. Everything else written in the meantime is passed on.
    """
    with _STDERR, contextlib.ExitStack() as undo:
        try:
            usual = os.dup(2)
            caught = undo.enter_context(tempfile.TemporaryFile())
        except OSError:  # there is no standard error, or no space
            yield
            return
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(usual, 2)
            os.close(usual)
            caught.seek(0)
            os.write(2, b"".join(line for line in caught if b"precompiled_charsmap" not in line))


def _covered(characters: Counter, coverage: float) -> int:
    """The number of characters that the trainer requires; computed in float32, as it does."""
    counts = np.array(sorted(characters.values(), reverse=True))
    before = (np.cumsum(counts) - counts) / counts.sum()
    needed = int(np.sum(before.astype(np.float32) < np.float32(coverage)))
    return needed + 1  # the space, if it is not among them


def _length(piece: str) -> int:
    # By name, because the type of a piece is not available here; a text piece of that name only
    # gets -1.
    return -1 if re.fullmatch("<0x[0-9A-F]{2}>", piece) else len(piece)
