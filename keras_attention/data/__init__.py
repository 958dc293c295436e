"""From files of text pairs to padded batches of token ids.

Pairs that fit into memory: `read_pairs`, `split_by_source`, a tokenizer of `keras_attention.text`,
and `batches` for `fit`.

More pairs than fit into memory: `PairStream` reads them without keeping them, `SourceSplit` splits
off a held-out part, `prepare` encodes the rest once, in several processes if you like, into a
directory of files, and `PreparedCorpus` reads its batches from there.

>>> import pathlib, tempfile
>>> from keras_attention.text import Characters
>>> folder = tempfile.TemporaryDirectory()
>>> data = pathlib.Path(folder.name, "pairs.tsv")
>>> _ = data.write_text("".join(f"{i} + 1\\t{i + 1}\\n" for i in range(1050)))
>>> pairs, split = PairStream(data), SourceSplit(0.1)
>>> for source, _ in pairs:
...     split.add(source)
>>> characters = Characters.train(side for pair in pairs for side in pair)
>>> for_training = (pair for pair in pairs if not split.holds_out(pair[0]))
>>> corpus = prepare(for_training, f"{folder.name}/train", characters, max_length=7)
>>> print(len(corpus), "of", corpus.manifest["read"], "pairs:", corpus.manifest["skipped"])
902 of 947 pairs: {'source longer than max_length': {'count': 45, 'first': 902}}

The directory appears when it is complete: a run that is killed leaves nothing that is read by
mistake, and the same call then begins anew. Later runs open the directory, which compares the
hashes of the files and refuses those that are damaged, or of another tokenizer:

>>> corpus = PreparedCorpus(f"{folder.name}/train", characters)

The order of the pairs depends on the seed and the epoch alone, pairs of like length are together,
and the place in it is one number: the steps that a training has made. A training that goes on
passes it; nothing has to be read again or skipped.

>>> per_epoch = corpus.order(64, seed=0).per_epoch
>>> rest_of_the_second_epoch = corpus.batches(64, seed=0, place=per_epoch + 5)
>>> print(per_epoch, len(list(rest_of_the_second_epoch)))
15 10

Each of several workers reads its rows of the same global batch:

>>> for worker in (0, 1):
...     share = corpus.batches(64, seed=0, worker=worker, workers=2)
...     (source, _), _, _ = next(iter(share))
...     print(source.shape[0])
32
32
>>> folder.cleanup()

`batch_tokens=4096` makes batches by their number of tokens instead. `python -m apps.chatbot
--mode=train` does all of this by itself for files above `--prepare_above` bytes, with a progress
bar; tests/benchmarks/prepared_corpus.py measures time and memory for ten million pairs.
"""

from keras_attention.data.batch import batches, epoch_batches
from keras_attention.data.lines import Limits, decode_line, open_lines, read_lines
from keras_attention.data.order import BatchOrder
from keras_attention.data.preparation import prepare
from keras_attention.data.prepared import PreparedCorpus
from keras_attention.data.read import (
    BETWEEN_TURNS,
    PairFile,
    PairStream,
    file_names,
    read_pair_file,
    read_pairs,
    with_context,
)
from keras_attention.data.split import SourceSplit, split_by_source

__all__ = [
    "BETWEEN_TURNS",
    "BatchOrder",
    "Limits",
    "PairFile",
    "PairStream",
    "PreparedCorpus",
    "SourceSplit",
    "batches",
    "decode_line",
    "epoch_batches",
    "file_names",
    "open_lines",
    "prepare",
    "read_lines",
    "read_pair_file",
    "read_pairs",
    "split_by_source",
    "with_context",
]
