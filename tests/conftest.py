"""Draws and signals that are the same at every run."""

import random
import signal
import sys
import zlib

import numpy as np
import pytest

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in the background of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def same_draws_at_every_run(request):
    random.seed(0)
    np.random.seed(0)
    if "tensorflow" in sys.modules:  # most tests of strings and files can do without it
        _seed_tensorflow(zlib.crc32(request.node.nodeid.encode()))


def _seed_tensorflow(seed):
    """As `tf.random.set_seed`, which also makes TensorFlow forget how it optimised a function.

    That took a quarter of the time of all tests. Two seeds make the draws of an op: the global one,
    and the next number of a generator. The generator of each test is another one, so that it meets
    no op that has drawn before.
    """
    from tensorflow.python.eager import context

    if context.global_seed() != 0:
        sys.modules["tensorflow"].random.set_seed(0)
    context.context()._rng = random.Random(seed)
