"""Programs built on keras_attention."""
