"""Tools for training: clipping, checkpoints, many workers, metrics, for any Keras model.

How the models of this repository choose what makes training fast:

- Recurrence: LSTM and GRU cells, alone or under additive or multiplicative attention, run all steps
  as one function with a gradient written by hand (`fused` of `seq2seq.RNN`, `AttentionRNN`,
  `BasicDecoder` and `RNNSeq2Seq`); with lengths or a mask, a step computes only rows that have not
  ended. Other cells go step by step.
- Loss: with `token_objective()`, logits of a large vocabulary are never in memory: the loss, its
  metrics and gradients come from `functional.linear_cross_entropy`, on real tokens only. A model of
  your own has `layers.LinearCrossEntropy`.
- Padding: a Transformer computes on real tokens in training (`packed` of `TransformerStack`), and
  `data.batches(..., buckets=True)` makes batches of like lengths on both sides.
- Precision: only yours. `dtype="mixed_bfloat16"` pays on a CPU with avx512_bf16 or amx_bf16, in a
  graph: see the table. A CPU without the instruction emulates it, at several times the cost of
  float32; a model with such a policy warns of that once.
- XLA: `compile(jit_compile="auto")` never compiles, on no device. XLA needs fixed shapes, so it
  computes on padding, compiles each new pair of lengths again, and has no fast bfloat16 on a CPU.
  `jit_compile=True` is worth a try with few lengths (`widths` of `data.batches`).

CPU time of a training step on one thread of an AMD EPYC with avx512_bf16, in ms:

| model | graph | XLA | graph, mixed_bfloat16 |
|---|---|---|---|
| Transformer, 6 + 6 layers of 512, B 32, L 16 to 32, V 8000 | 2290 | 3310 | 1290 |
| 2 + 2 LSTM of 512 with attention, B 64, L 10 to 20, V 8000 | 960 | 1380 | 620 |
| the same step by step, with logits | 1400 | - | - |
| 2 + 2 LSTM of 256 with attention, B 64, L 20 to 40, V 32000 | 1430 | 1700 | 940 |

(tests/benchmarks/transformer_train.py and rnn_train.py measure them, beside other libraries.)
"""

from keras_attention.training import distribute
from keras_attention.training.accumulation import AccumulateGradients
from keras_attention.training.averaging import average_checkpoints, average_weights
from keras_attention.training.checkpoint import TrainingCheckpoint
from keras_attention.training.clipping import clip_by_global_norm, global_norm
from keras_attention.training.clipping_optimizer import ClipByGlobalNorm
from keras_attention.training.embeddings import read_embeddings
from keras_attention.training.guided_alignment import (
    GuidedAlignment,
    WithAlignments,
    guided_alignment,
)
from keras_attention.training.loss_scale import LossScaleOptimizer
from keras_attention.training.metrics import (
    Perplexity,
    TokenAccuracy,
    TokenCrossentropy,
    token_objective,
)
from keras_attention.training.moving_average import OverwriteWithAverage
from keras_attention.training.resume import Resume
from keras_attention.training.schedules import InverseSquareRoot
from keras_attention.training.summaries import Summaries

__all__ = [
    "AccumulateGradients",
    "ClipByGlobalNorm",
    "GuidedAlignment",
    "InverseSquareRoot",
    "LossScaleOptimizer",
    "OverwriteWithAverage",
    "Perplexity",
    "Resume",
    "Summaries",
    "TokenAccuracy",
    "TokenCrossentropy",
    "TrainingCheckpoint",
    "WithAlignments",
    "average_checkpoints",
    "average_weights",
    "clip_by_global_norm",
    "distribute",
    "global_norm",
    "guided_alignment",
    "read_embeddings",
    "token_objective",
]
