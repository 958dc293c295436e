"""One side of a comparison: a warm process that answers JSON lines and is timed by its own CPU.

It offers tasks, `{name: make}`: `make(settings, arrays)` gives a function without arguments that
does the work once and returns what both sides must agree on. Runs under any TensorFlow 2.
"""

import json
import os
import sys
import time

import numpy as np
import tensorflow as tf


def serve(tasks: dict) -> None:
    """Build a task, run it n times, forget it, as asked, until stdin is closed."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
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
            answer["outcome"] = [run().numpy().tolist()]
            answer["cpu"] = time.process_time() - begin  # tracing, and compiling, with it
            answer["outcome"] += [run().numpy().tolist() for _ in range(request["repeats"])]
            built[request["name"]] = run
        elif request["do"] == "run":
            begin = time.process_time()
            for _ in range(request["steps"]):
                built[request["name"]]().numpy()
            answer["cpu"] = time.process_time() - begin
        elif request["do"] == "forget":
            del built[request["name"]]
        print(json.dumps(answer), file=answers, flush=True)


def descend(variables: list, gradients: list, rate: float = 0.1) -> None:
    """Plain SGD on tf.Variables; of an embedding, only the rows that were used."""
    for variable, gradient in zip(variables, gradients):
        if isinstance(gradient, tf.IndexedSlices):
            variable.scatter_sub(tf.IndexedSlices(rate * gradient.values, gradient.indices))
        else:
            variable.assign_sub(rate * gradient)
