"""A SavedModel that any TensorFlow can serve, and the proof that it does."""

from keras_attention.export.saved_model import check_in_clean_process, save

__all__ = ["check_in_clean_process", "save"]
