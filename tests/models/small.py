"""The papers' models, as small as they can be, for what every model owes."""

from models import (
    BERT,
    BRAN,
    GPT,
    HAN,
    LSTMNLM,
    BiLSTMCRF,
    ConvS2S,
    DeepAtt,
    DiSANClassifier,
    DistanceSANClassifier,
    LSTMNSeq2Seq,
    Luong,
    RelativeTransformer,
    ReSANClassifier,
    RNNsearch,
    Seq2Seq,
    StructuredAttentionClassifier,
    Summarizer,
)

V = 11
# From source and target to logits of the target.
ENCODER_DECODERS = {
    "Seq2Seq": lambda: Seq2Seq(V, units=4, layers=2, embedding_width=3),
    "RNNsearch": lambda: RNNsearch(V, units=4, embedding_width=3, maxout_units=2),
    "Luong": lambda: Luong(V, units=4, layers=2),
    "LSTMNSeq2Seq": lambda: LSTMNSeq2Seq(V, units=4, memory_length=5),
    "RelativeTransformer": lambda: RelativeTransformer(
        V, reach=2, layers=2, width=4, heads=2, ff_width=5
    ),
    "ConvS2S": lambda: ConvS2S(V, units=4, embedding_width=3, max_length=12),
    "Summarizer": lambda: Summarizer(V, units=2, embedding_width=3, copy_slots=2, look_back=4),
}
OTHERS = {
    "LSTMNLM": lambda: LSTMNLM(V, units=4, memory_length=5),
    "GPT": lambda: GPT(V, layers=2, width=4, heads=2, max_length=6),
    "BERT": lambda: BERT(V, layers=2, width=4, heads=2, max_length=6),
    "HAN": lambda: HAN(V, labels=3, embedding_width=3, units=2, attention_units=4),
    "StructuredAttentionClassifier": lambda: StructuredAttentionClassifier(
        V, labels=3, embedding_width=3, units=2, attention_units=4, hops=2, hidden_units=5
    ),
    "DiSANClassifier": lambda: DiSANClassifier(
        V, labels=3, embedding_width=4, hidden_units=5, units=3
    ),
    "DistanceSANClassifier": lambda: DistanceSANClassifier(
        V, labels=3, embedding_width=4, hidden_units=5, heads=2, ff_width=3
    ),
    "ReSANClassifier": lambda: ReSANClassifier(
        V, labels=3, embedding_width=4, hidden_units=5, units=3
    ),
    "DeepAtt rnn": lambda: DeepAtt(V, ["A"], "rnn", layers=2, width=4, heads=2),
    "DeepAtt cnn": lambda: DeepAtt(V, ["A"], "cnn", layers=2, width=4, heads=2),
    "DeepAtt": lambda: DeepAtt(V, ["A"], layers=2, width=4, heads=2, ff_width=5),
    "BiLSTMCRF": lambda: BiLSTMCRF(V, ["A"], units=3, width=4),
    "BRAN": lambda: BRAN(V, relations=3, tags=4, width=4, blocks=2, heads=2, max_length=9),
}


def built(make):
    """A maker of the model with all its weights."""

    def make_and_build():
        model = make()
        model.build()
        return model

    return make_and_build


ALL = {name: built(make) for name, make in (ENCODER_DECODERS | OTHERS).items()}
