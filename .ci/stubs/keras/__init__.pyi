# Keras derives the types of arguments from their defaults ("glorot_uniform" is str, though a layer
# takes initializers, too): for the type check all of it is Any.
from typing import Any

def __getattr__(name: str) -> Any: ...
