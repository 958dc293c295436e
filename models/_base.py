"""What the models have in common."""

from typing import Any

import keras
import tensorflow as tf

from keras_attention.backend.keras import building, deserialize
from keras_attention.backend.precision import warn_of_emulation
from keras_attention.backend.saving import track
from keras_attention.functional import as_ids
from keras_attention.functional.projection import forget
from keras_attention.layers import TiedEmbedding, TransformerStack
from keras_attention.seq2seq import SearchResult, generate, projector
from keras_attention.training import Perplexity, TokenAccuracy, TokenCrossentropy


class ModelOfIds(keras.Model):
    """From ids [B, S], or from several of them, to logits: [B, T, L] for the last ids [B, T].

    A subclass has `inputs_count`, its `logits_width` L, `_config`, the arguments that make it anew,
    and `_build_parts()`, which builds all its layers.
    """

    inputs_count = 1
    ids_rank: Any = 2  # of all inputs, or of each
    logits_width: int
    _config: dict[str, Any]

    def _build_parts(self) -> None:
        raise NotImplementedError

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if isinstance(value, list) and any(isinstance(x, keras.layers.Layer) for x in value):
            track(self, name, value)  # `tf.train.Checkpoint` ignores lists

    def build(self, input_shape=None):
        """Everything: no weight depends on the shape of the ids."""
        if not self.built:
            warn_of_emulation(self.dtype_policy)
            with building(self):
                if not self.built:
                    self._build_parts()
                    self.built = True

    def _resolve_auto_jit_compile(self) -> bool:
        """What `compile(jit_compile="auto")` means: no XLA, see docs/training.md.

        A `compile` of our own would say it, too, but Keras does not call one when it loads a model.
        """
        return False

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True) -> Any:
        """`keras.Model.compute_loss`.

        The losses and metrics of `token_objective` do without logits, which then are not computed
        in a graph: see `functional.linear_cross_entropy`. If others need them, all read them.
        """
        compiled = getattr(getattr(self, "_compile_config", None), "config", {})
        parts = [compiled.get(name) for name in ("loss", "metrics", "weighted_metrics")]
        known = (TokenCrossentropy, Perplexity, TokenAccuracy)
        if not all(part is None or isinstance(part, known) for part in tf.nest.flatten(parts)):
            forget(y_pred)
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def get_build_config(self):
        return {"vocab_size": self._config["vocab_size"]}  # Keras ignores an empty dict

    def build_from_config(self, config):
        self.build()

    def get_config(self):
        return {**super().get_config(), **self._config}

    def compute_output_shape(self, input_shape) -> tuple:
        """The shape of the ids, or shapes of all ids -> [B, T, L]; None is an unknown size."""
        last = input_shape if self.inputs_count == 1 else input_shape[-1]
        if len(last) != 2:
            raise ValueError(f"Ids must be [B, T]. Received: shape {tuple(last)}")
        return (*last, self.logits_width)

    def compute_output_spec(self, *args, **kwargs) -> Any:
        """Trace `call`: `compute_output_shape` would give Keras shapes, but no dtypes."""
        return super(keras.layers.Layer, self).compute_output_spec(*args, **kwargs)

    def export(
        self, filepath, format="tf_saved_model", verbose=None, input_signature=None, **kwargs
    ) -> Any:
        """`keras.Model.export`; its default is one signature of int32 ids of any size.

        See `keras_attention.export` for a signature that generates.
        """
        self.build()
        if input_signature is None:
            ranks = self.ids_rank if isinstance(self.ids_rank, tuple) else (self.ids_rank,)
            ranks = ranks if len(ranks) > 1 else ranks * self.inputs_count
            specs = [keras.InputSpec(shape=(None,) * rank, dtype="int32") for rank in ranks]
            input_signature = specs if len(specs) == 1 else [tuple(specs)]
        return super().export(filepath, format, verbose, input_signature, **kwargs)


class EncoderDecoder(ModelOfIds):
    """A model of source and target, with `encode` and `decode`: see `decoding.Model`."""

    pad_id, start_id, end_id = 0, 1, 2
    inputs_count = 2

    def call(self, inputs, training=None):
        source, target_in = inputs
        memory, state = self.encode(source, training=training)
        return self.decode(target_in, memory, state, training=training)

    def generate(self, source, **settings) -> SearchResult:
        """The best answers: see `keras_attention.decoding.generate`."""
        source = as_ids(source, "source", "B S", self.pad_id)
        return generate(self, source, **settings)


class TiedOutput:
    """The output layer is the embedding transposed."""

    embedding: TiedEmbedding
    compute_dtype: Any

    def embed(self, tokens):
        """Target ids -> inputs of the cell, which adds the position.  [...] -> [..., D]."""
        return self.embedding(tokens)

    def project(self, output):
        """Outputs of the cell -> logits.  [..., D] -> [..., V]."""
        return self.embedding.logits(output)

    def projection(self):
        """`project`, with the part that can be done before a loop already done."""
        return projector(tf.transpose(self.embedding.embeddings), dtype=self.compute_dtype)


class OneStack(ModelOfIds):
    """A model of one `TransformerStack`, whose arguments are its own."""

    stack: TransformerStack

    def _stack_config(self) -> dict[str, Any]:
        names = "layers heads ff_width dropout norm positions max_length self_attention packed"
        config = self.stack.get_config()
        return {name: config[name] for name in names.split()}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "self_attention": deserialize(config["self_attention"])})


def check_sizes(**settings: Any) -> dict[str, Any]:
    """The settings, after checking that whole numbers are at least 1, dropouts from 0 to below 1.

    Others are not looked at.
    """
    rules = {
        "at least 1": lambda name, x: type(x) is not int or name.endswith("dropout") or x >= 1,
        "from 0 to below 1": lambda name, x: not name.endswith("dropout") or 0 <= x < 1,
    }
    for rule, holds in rules.items():
        wrong = {name: x for name, x in settings.items() if not holds(name, x)}
        if wrong:
            received = ", ".join(f"{name}={x!r}" for name, x in wrong.items())
            raise ValueError(f"{', '.join(wrong)} must be {rule}. Received: {received}")
    return settings
