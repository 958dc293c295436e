"""A small model server with TF Serving's REST API, for any SavedModel with signatures.

FastAPI and uvicorn are in the extra `pip install 'keras-attention-seq2seq[serving]'`, and imported
when a server is created. `keras_attention.export.client` works with this server and TF Serving.
"""

from keras_attention.export.server.batching import Batcher, Overloaded
from keras_attention.export.server.guard import hosts_of
from keras_attention.export.server.process import serve
from keras_attention.export.server.rest import Limits, application
from keras_attention.export.server.servable import Servable, Signature, load
from keras_attention.export.server.versions import NotServed, Versions

__all__ = [
    "Batcher",
    "Limits",
    "NotServed",
    "Overloaded",
    "Servable",
    "Signature",
    "Versions",
    "application",
    "hosts_of",
    "load",
    "serve",
]
