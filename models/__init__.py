"""Complete models, one paper per file; each runs as `python -m models.NAME`.

After `import models`, `keras.models.load_model` loads files that contain them.
"""

import functools
import importlib
import os
from typing import TYPE_CHECKING

import keras_attention  # noqa: F401  so that Keras knows the layers of a saved model, too
from keras_attention.backend.keras import never_convert
from keras_attention.layers._late import register_late

if TYPE_CHECKING:
    from models.bert import BERT
    from models.bilstm_crf import BiLSTMCRF
    from models.bran import BRAN
    from models.convs2s import ConvS2S
    from models.deepatt import DeepAtt
    from models.disan import DiSANClassifier, DistanceSANClassifier
    from models.encoder import TransformerTagger
    from models.gpt import GPT
    from models.han import HAN
    from models.language_model import TransformerLM
    from models.lstmn import LSTMNLM
    from models.lstmn_seq2seq import LSTMNSeq2Seq
    from models.luong import Luong
    from models.paulus import Summarizer
    from models.resan import ReSANClassifier
    from models.rnn_seq2seq import RNNSeq2Seq
    from models.rnnsearch import RNNsearch
    from models.seq2seq import Seq2Seq
    from models.shaw import RelativeTransformer
    from models.structured_attention import StructuredAttentionClassifier
    from models.transformer import Transformer

never_convert(os.path.dirname(__file__))

_FILES = {
    "BERT": "bert",
    "BRAN": "bran",
    "BiLSTMCRF": "bilstm_crf",
    "ConvS2S": "convs2s",
    "DeepAtt": "deepatt",
    "DiSANClassifier": "disan",
    "DistanceSANClassifier": "disan",
    "GPT": "gpt",
    "HAN": "han",
    "LSTMNLM": "lstmn",
    "LSTMNSeq2Seq": "lstmn_seq2seq",
    "Luong": "luong",
    "RNNSeq2Seq": "rnn_seq2seq",
    "RNNsearch": "rnnsearch",
    "ReSANClassifier": "resan",
    "RelativeTransformer": "shaw",
    "Seq2Seq": "seq2seq",
    "StructuredAttentionClassifier": "structured_attention",
    "Summarizer": "paulus",
    "Transformer": "transformer",
    "TransformerLM": "language_model",
    "TransformerTagger": "encoder",
}
__all__ = [
    "BERT",
    "BRAN",
    "BiLSTMCRF",
    "ConvS2S",
    "DeepAtt",
    "DiSANClassifier",
    "DistanceSANClassifier",
    "GPT",
    "HAN",
    "LSTMNLM",
    "LSTMNSeq2Seq",
    "Luong",
    "RNNSeq2Seq",
    "RNNsearch",
    "ReSANClassifier",
    "RelativeTransformer",
    "Seq2Seq",
    "StructuredAttentionClassifier",
    "Summarizer",
    "Transformer",
    "TransformerLM",
    "TransformerTagger",
]


def __getattr__(name: str):
    # On demand: a file that runs as a program must not be imported by its package before.
    if name not in _FILES:
        raise AttributeError(f"module 'models' has no attribute {name!r}. It has {__all__}.")
    return getattr(importlib.import_module(f"models.{_FILES[name]}"), name)


for _name in __all__:
    register_late(_name, functools.partial(__getattr__, _name))
