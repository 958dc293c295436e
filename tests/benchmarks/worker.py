"""One side of a comparison: a warm process that answers JSON lines and is timed by its own CPU.

It offers tasks, `{name: make}`: `make(settings, arrays)` gives a function without arguments that
does the work once and returns what the sides must agree on: an array, or a tuple of arrays. Runs
in any environment that has NumPy.
"""

import json
import os
import resource
import sys
import time

import numpy as np


def serve(tasks: dict) -> None:
    """Build a task, run it n times, forget it, as asked, until stdin is closed."""
    _set_threads(int(os.environ.get("BENCHMARK_THREADS", "1")))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not end up between the answers
    built = {}
    for line in sys.stdin:
        request = json.loads(line)
        answer = {}
        if request["do"] == "build":
            with np.load(request["arrays"]) as arrays:
                run = tasks[request["task"]](request["settings"], dict(arrays))
            begin = time.process_time()
            answer["outcome"] = [_lists(run())]
            answer["cpu"] = time.process_time() - begin  # tracing, and compiling, with it
            answer["outcome"] += [_lists(run()) for _ in range(request["repeats"])]
            built[request["name"]] = run
        elif request["do"] == "run":
            begin, wall = time.process_time(), time.perf_counter()
            for _ in range(request["steps"]):
                _fetch(built[request["name"]]())
            answer["cpu"] = time.process_time() - begin
            answer["wall"] = time.perf_counter() - wall
        elif request["do"] == "memory":
            answer = _memory()
        elif request["do"] == "forget":
            del built[request["name"]]
        print(json.dumps(answer), file=answers, flush=True)


def _memory() -> dict:
    """Resident MB now, and at most so far."""
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * resource.getpagesize() / 2**20
    return {
        "resident": resident,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _set_threads(count: int) -> None:
    """Whichever of the two libraries the tasks have imported."""
    if "tensorflow" in sys.modules:
        threading = sys.modules["tensorflow"].config.threading
        threading.set_intra_op_parallelism_threads(count)
        threading.set_inter_op_parallelism_threads(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def _fetch(result):
    parts = result if isinstance(result, tuple) else (result,)
    return [np.asarray(part) for part in parts]


def _lists(result):
    lists = [part.tolist() for part in _fetch(result)]
    return lists if isinstance(result, tuple) else lists[0]


def descend(variables: list, gradients: list, rate: float = 0.1) -> None:
    """Plain SGD on tf.Variables; of an embedding, only the rows that were used."""
    for variable, gradient in zip(variables, gradients):
        if hasattr(gradient, "indices"):
            variable.scatter_sub(type(gradient)(rate * gradient.values, gradient.indices))
        else:
            variable.assign_sub(rate * gradient)
