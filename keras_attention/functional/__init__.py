"""Attention as pure functions of tensors, without weights."""

from keras_attention.functional.addressing import (
    address,
    content_weights,
    interpolate,
    read_memory,
    rotate,
    sharpen,
    write_memory,
)
from keras_attention.functional.attend import Memory, attend
from keras_attention.functional.banded import banded_attention
from keras_attention.functional.chunked import chunked_attention
from keras_attention.functional.crf import crf_log_likelihood, crf_log_normalizer, viterbi
from keras_attention.functional.dilations import receptive_field, tc_dilations
from keras_attention.functional.gates import gated_tanh, glu
from keras_attention.functional.glimpse import glimpse
from keras_attention.functional.ids import as_ids
from keras_attention.functional.linear import LinearState, linear_attention, linear_step
from keras_attention.functional.linear_cross_entropy import (
    LinearCrossEntropyOutput,
    linear_cross_entropy,
)
from keras_attention.functional.masks import (
    atrous,
    block,
    causal,
    chosen,
    directional,
    fixed,
    padding,
    strided,
    window,
)
from keras_attention.functional.monotonic import (
    monotonic_attention,
    monotonic_hard,
    monotonic_parallel,
    monotonic_recursive,
    safe_cumprod,
)
from keras_attention.functional.normalizers import (
    entmax15,
    hardmax,
    sampled,
    softmax,
    sparsemax,
    with_initial_state,
)
from keras_attention.functional.packing import (
    Packing,
    pack,
    pack_heads,
    packing_of,
    right_padded,
    unpack,
    unpack_heads,
)
from keras_attention.functional.pairwise import average, concatenation
from keras_attention.functional.penalties import redundancy
from keras_attention.functional.places import flatten_places, pool_places
from keras_attention.functional.pointing import copy_mixture, taken_before
from keras_attention.functional.positions import (
    alibi,
    distance_decay,
    relative_index,
    rotary,
    sinusoid,
)
from keras_attention.functional.recurrence import Recurrence, recurrence
from keras_attention.functional.recurrent_attention import RecurrentAttention
from keras_attention.functional.recurrent_cells import GRUWeights, LSTMWeights
from keras_attention.functional.reinforce import entropy, log_prob_of_choice, reinforce
from keras_attention.functional.relative import relative_context, relative_scores
from keras_attention.functional.scores import (
    additive,
    biaffine,
    concat,
    cosine,
    dot,
    general,
    location,
    scaled_dot,
)
from keras_attention.functional.sparse import fixed_attention, strided_attention
from keras_attention.functional.temporal import temporal_softmax
from keras_attention.functional.windows import (
    cyclic_shift,
    relative_position_index,
    shifted_window_mask,
    window_merge,
    window_partition,
)

__all__ = [
    "GRUWeights",
    "LSTMWeights",
    "LinearCrossEntropyOutput",
    "LinearState",
    "Memory",
    "Packing",
    "Recurrence",
    "RecurrentAttention",
    "additive",
    "address",
    "alibi",
    "as_ids",
    "atrous",
    "attend",
    "average",
    "banded_attention",
    "biaffine",
    "block",
    "causal",
    "chosen",
    "chunked_attention",
    "concat",
    "concatenation",
    "content_weights",
    "copy_mixture",
    "cosine",
    "crf_log_likelihood",
    "crf_log_normalizer",
    "cyclic_shift",
    "directional",
    "distance_decay",
    "dot",
    "entmax15",
    "entropy",
    "fixed",
    "fixed_attention",
    "flatten_places",
    "gated_tanh",
    "general",
    "glimpse",
    "glu",
    "hardmax",
    "interpolate",
    "linear_attention",
    "linear_cross_entropy",
    "linear_step",
    "location",
    "log_prob_of_choice",
    "monotonic_attention",
    "monotonic_hard",
    "monotonic_parallel",
    "monotonic_recursive",
    "pack",
    "pack_heads",
    "packing_of",
    "padding",
    "pool_places",
    "read_memory",
    "receptive_field",
    "recurrence",
    "redundancy",
    "reinforce",
    "relative_context",
    "relative_index",
    "relative_position_index",
    "relative_scores",
    "right_padded",
    "rotary",
    "rotate",
    "safe_cumprod",
    "sampled",
    "scaled_dot",
    "sharpen",
    "shifted_window_mask",
    "sinusoid",
    "softmax",
    "sparsemax",
    "strided",
    "strided_attention",
    "taken_before",
    "tc_dilations",
    "temporal_softmax",
    "unpack",
    "unpack_heads",
    "viterbi",
    "window",
    "window_merge",
    "window_partition",
    "with_initial_state",
    "write_memory",
]
