"""Attention as pure functions: tensors in, tensors out, no weights."""

from keras_attention.functional.attend import Memory, attend
from keras_attention.functional.dtypes import widen
from keras_attention.functional.likelihood import cross_entropy, log_normalizer
from keras_attention.functional.masks import padding
from keras_attention.functional.monotonic import monotonic_attention, safe_cumprod
from keras_attention.functional.normalizers import hardmax, softmax
from keras_attention.functional.scores import additive, dot
from keras_attention.functional.top_k import top_k

__all__ = [
    "Memory",
    "additive",
    "attend",
    "cross_entropy",
    "dot",
    "hardmax",
    "log_normalizer",
    "monotonic_attention",
    "padding",
    "safe_cumprod",
    "softmax",
    "top_k",
    "widen",
]
