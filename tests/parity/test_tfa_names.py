"""tensorflow_addons: all names of tfa.seq2seq exist here, with the same arguments."""

import importlib
import inspect

import pytest

from tests.parity.tfa_pairs import OURS, THEIRS, name_case

NAMES = [name for name in dir(THEIRS) if not name.startswith("_")]
MODULES = [name for name in NAMES if inspect.ismodule(getattr(THEIRS, name))]
CLASSES = [name for name in NAMES if inspect.isclass(getattr(THEIRS, name))]

# What tests and subclasses of tfa.seq2seq import from its modules beside the public names.
HELPERS = [
    ("beam_search_decoder", "_beam_search_step"),
    ("beam_search_decoder", "_mask_probs"),
    ("beam_search_decoder", "_check_batch_beam"),
    ("beam_search_decoder", "_check_static_batch_beam_maybe"),
    ("sampler", "_check_sequence_is_right_padded"),
    ("sampler", "categorical_sample"),
    ("sampler", "bernoulli_sample"),
]

# What is knowingly not there or not the same, and why.
DIFFERENT = {
    "deserialize_inner_layer_from_config": "a step of their from_config; layers inside of a config "
    "are what keras.saving makes of them",
    "from_config": "custom objects are told by keras.saving.custom_object_scope, as everywhere",
    "compute_mask": "Keras 3 hands the mask over as previous_mask",
}


def methods_of(name):
    """The public methods and properties that a class of theirs defines itself."""
    own = [c for c in getattr(THEIRS, name).__mro__ if c.__module__.startswith("tensorflow_addons")]
    return sorted({m for c in own for m in vars(c) if not m.startswith("_")} - {"_fields"})


METHODS = [(c, m) for c in CLASSES for m in methods_of(c) if m not in DIFFERENT]


def assert_accepts(ours, theirs):
    """The same parameters in the same order with the same defaults; others of ours are optional."""
    theirs, ours = (list(inspect.signature(f).parameters.values()) for f in (theirs, ours))
    collects = [any(x.kind is x.VAR_KEYWORD for x in parameters) for parameters in (ours, theirs)]
    assert collects[0] or not collects[1]
    theirs, ours = ([x for x in parameters if x.kind < 2] for parameters in (theirs, ours))
    assert [x.name for x in ours[: len(theirs)]] == [x.name for x in theirs]
    for our, their in zip(ours, theirs):
        assert our.default == their.default or their.default is their.empty
    assert all(x.default is not x.empty for x in ours[len(theirs) :])


def test_every_name_is_there():
    assert len(NAMES) == 38
    assert set(NAMES) <= set(dir(OURS))
    assert set(NAMES) <= set(OURS.__all__)
    assert all(inspect.ismodule(getattr(OURS, name)) for name in MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_offers_what_the_original_defines_for_the_public(name):
    assert len(MODULES) == 6
    ours = importlib.import_module(f"{OURS.__name__}.{name}")
    theirs = getattr(THEIRS, name)
    defined = [n for n in NAMES if getattr(getattr(THEIRS, n), "__module__", "") == theirs.__name__]
    assert defined
    for n in defined:
        assert getattr(ours, n) is getattr(OURS, n)


@pytest.mark.parametrize("module, name", HELPERS)
def test_a_helper_is_where_the_original_is_and_takes_the_same(module, name):
    theirs, ours = (getattr(getattr(library, module), name) for library in (THEIRS, OURS))
    assert_accepts(ours, theirs)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in MODULES])
def test_a_class_or_function_takes_what_the_original_takes(name):
    theirs, ours = getattr(THEIRS, name), getattr(OURS, name)
    assert inspect.isclass(theirs) == inspect.isclass(ours)
    if hasattr(theirs, "_fields"):
        assert ours._fields == theirs._fields
    else:
        assert_accepts(ours, theirs)


@pytest.mark.parametrize("name, method", METHODS, ids=name_case)
def test_a_method_takes_what_the_original_takes(name, method):
    theirs, ours = getattr(THEIRS, name), getattr(OURS, name)
    assert hasattr(ours, method)
    kinds = [inspect.getattr_static(library, method) for library in (theirs, ours)]
    assert isinstance(kinds[0], property) == isinstance(kinds[1], property)
    if callable(getattr(theirs, method)) and method not in getattr(theirs, "_fields", ()):
        assert_accepts(getattr(ours, method), getattr(theirs, method))


@pytest.mark.parametrize("name", CLASSES)
def test_classes_have_the_same_base_classes(name):
    theirs, ours = getattr(THEIRS, name), getattr(OURS, name)
    for parent in CLASSES:
        if issubclass(theirs, getattr(THEIRS, parent)):
            assert issubclass(ours, getattr(OURS, parent))


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_is_abstract_where_the_original_is(name):
    assert inspect.isabstract(getattr(OURS, name)) == inspect.isabstract(getattr(THEIRS, name))
