"""What `import keras_attention` costs beside TensorFlow and Keras: CPU time and memory.

    python tests/benchmarks/import_cost.py

In fresh processes, what is added once the two are there; the medians come last.
"""

import os
import statistics
import subprocess
import sys

PROBE = """
import os, resource, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow, keras
cpu, peak = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
import keras_attention
print(time.process_time() - cpu, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024)
"""
ROUNDS = 7


def main():
    found = [probe() for _ in range(ROUNDS + 1)][1:]  # the first writes the byte code
    cpu, memory = (statistics.median(column) for column in zip(*found))
    print(f"import keras_attention: {cpu:.3f} s of CPU, {memory:.1f} MB")


def probe():
    """(seconds, MB)."""
    # Byte code is written when a package is installed; what may forbid it is no part of the cost.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", PROBE]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return [float(number) for number in done.stdout.split()[-2:]]


if __name__ == "__main__":
    main()
