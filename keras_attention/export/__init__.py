"""Export a model with its search as a SavedModel, and check that servers can run it."""

from keras_attention.export.audit import Audit, audit, check_servable
from keras_attention.export.endpoints import Endpoints
from keras_attention.export.lines import readable
from keras_attention.export.saved_model import check_in_clean_process, save
from keras_attention.export.search import save_search, warm_up_requests
from keras_attention.export.settings import Settings
from keras_attention.export.warm_up import FILE as WARM_UP
from keras_attention.export.warm_up import Request, read_warm_up, write_warm_up

__all__ = [
    "WARM_UP",
    "Audit",
    "Endpoints",
    "Request",
    "Settings",
    "audit",
    "check_in_clean_process",
    "check_servable",
    "read_warm_up",
    "readable",
    "save",
    "save_search",
    "warm_up_requests",
    "write_warm_up",
]
