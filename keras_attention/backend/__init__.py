"""What Keras 3, Keras 2.15 and TensorFlow do differently, or do not offer: in one place."""
