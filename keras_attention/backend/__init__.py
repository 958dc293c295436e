"""Differences between Keras 3, Keras 2.15 and TensorFlow, and what they do not offer."""
