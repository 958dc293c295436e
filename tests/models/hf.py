"""Weights and outputs of Hugging Face's models, which make_hf_fixtures.py wrote."""

import pathlib

import numpy as np


def fixture(name):
    """The arrays of fixtures/NAME.npz by their names."""
    with np.load(pathlib.Path(__file__).parent / "fixtures" / f"{name}.npz") as arrays:
        return dict(arrays)


def assign(layer, given, name, transpose=False):
    """Give a layer the weight and the bias of a module."""
    weight = given[f"{name}.weight"]
    layer.set_weights([weight.T if transpose else weight, given[f"{name}.bias"]])
