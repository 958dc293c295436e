"""Attention as pure functions: tensors in, tensors out, no weights."""

from keras_attention.functional.attend import Memory, attend
from keras_attention.functional.dtypes import widen
from keras_attention.functional.masks import padding
from keras_attention.functional.normalizers import hardmax, softmax
from keras_attention.functional.scores import additive, dot

__all__ = ["Memory", "additive", "attend", "dot", "hardmax", "padding", "softmax", "widen"]
