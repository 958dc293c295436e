"""Which release of TensorFlow, or of TF-Text, added an op, or an attribute of one.

    python -m keras_attention.export.op_ages PYTHON [PYTHON ...]

reads the libraries of these interpreters, and writes `op_ages.json`.
"""

import functools
import json
import os
import re
import subprocess
import sys
from typing import NamedTuple

FILE = os.path.join(os.path.dirname(__file__), "op_ages.json")

# `raw_ops` is generated when TensorFlow is built: it contains no ops of TensorFlow's own tests, and
# none that other libraries register later.
_ASK = """
import json
import tensorflow as tf
from tensorflow.core.framework.op_def_pb2 import OpList
from tensorflow.python.client import pywrap_tf_session

def registered():
    content = pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList())
    return {op.name: [attr.name for attr in op.attr] for op in OpList.FromString(content).op}

core = {name: attrs for name, attrs in registered().items() if hasattr(tf.raw_ops, name)}
found = {"core": [tf.__version__, core], "graphs": tf.version.GRAPH_DEF_VERSION}
try:
    before = registered()
    import tensorflow_text
    added = {name: attrs for name, attrs in registered().items() if name not in before}
    found["text"] = [tensorflow_text.__version__, added]
except ImportError:
    pass
print(json.dumps(found))
"""


class OpAges(NamedTuple):
    """Releases are written "2.15.1"; an attribute "Op.attribute"."""

    graphs: dict[str, int]  # release of TensorFlow -> the version of the graphs it writes and reads
    core: dict[str, str]  # op, or attribute younger than its op -> the first release that has it
    text: dict[str, str]  # the same for TF-Text


@functools.cache
def op_ages() -> OpAges:
    """Read `op_ages.json`, the result for the releases that were inspected.

    >>> op_ages().core["While"], op_ages().text["SentencepieceOp"]
    ('2.12.1', '2.12.1')
    """
    with open(FILE, encoding="utf-8") as file:
        stored = json.load(file)
    first = {
        library: {name: release for release, names in stored[library].items() for name in names}
        for library in ("core", "text")
    }
    return OpAges(stored["graphs"], **first)


def in_order(releases) -> list[str]:
    """Oldest first.

    >>> in_order(["2.9.1", "2.21.0"])
    ['2.9.1', '2.21.0']
    """
    return sorted(releases, key=lambda release: [int(part) for part in re.findall(r"\d+", release)])


def _ask(python: str) -> dict:
    answer = subprocess.run(
        [python, "-c", _ASK], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return json.loads(answer.stdout.splitlines()[-1])


def _brought(known: dict[str, dict[str, list[str]]]) -> dict[str, list[str]]:
    """Release -> its ops with their attributes: release -> what no older one has."""
    brought, ops = {}, {}
    for release in in_order(known):
        new = []
        for name, attributes in known[release].items():
            if name not in ops:
                new.append(name)
            else:
                new += [f"{name}.{attr}" for attr in attributes if attr not in ops[name]]
            ops.setdefault(name, set()).update(attributes)
        brought[release] = sorted(new)
    return brought


def main(pythons: list[str]) -> None:
    """Ask, and write."""
    answers = [_ask(python) for python in pythons]
    table = {
        "graphs": {answer["core"][0]: answer["graphs"] for answer in answers},
        "core": _brought(dict(answer["core"] for answer in answers)),
        "text": _brought(dict(answer["text"] for answer in answers if "text" in answer)),
    }
    with open(FILE, "w", encoding="utf-8") as file:
        json.dump(table, file, indent=0)
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1:])
