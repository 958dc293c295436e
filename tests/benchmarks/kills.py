"""Kill trainings with -9 at random moments, resume each, and compare the last weights bit for bit.

    python -m tests.benchmarks.kills [KILLS] [SEED]

An RNN and a Transformer, in float32 and in mixed precision, with dropout, a moving average, early
stopping and a falling learning rate; a checkpoint after each step, so that kills meet its writing
too. Each training is a process of its own, forked before TensorFlow runs.
"""

import hashlib
import os
import pathlib
import random
import signal
import sys
import tempfile
import time

import keras

from tests.training import test_resume as case

KINDS = [
    (body, policy)
    for body in (case.rnn, case.transformer)
    for policy in ("float32", "mixed_float16")
]
EPOCHS = 4  # of six batches


class Tell(keras.callbacks.Callback):
    """Writes to the parent when the first step begins; each step takes a while."""

    def __init__(self, pipe):
        super().__init__()
        self.pipe = pipe

    def get_state(self):
        """None: a pipe."""

    def set_state(self, state):
        """Nothing."""

    def on_train_batch_begin(self, batch, logs=None):
        if self.pipe is not None:
            os.write(self.pipe, b"1")
            self.pipe = None
        time.sleep(0.01)


def process(directory, body, policy, result, delay=None) -> bool:
    """Train in a process, killed `delay` seconds after its first step began: whether it was."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            more = [*case.listeners(), Tell(writer)]
            how = {"model": case.fresh(body, policy), "more": more, "epochs": EPOCHS}
            _, history, resume, state = case.train(directory, every_steps=1, **how)
            digest = hashlib.sha256(b"".join(value.tobytes() for value in state)).hexdigest()
            result.write_text(repr((digest, resume.step, history.history)))
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writer)
    started = os.read(reader, 1)
    os.close(reader)
    if delay is not None and started:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, -signal.SIGKILL):
        raise SystemExit(f"A training ended with exit code {code}.")
    return code != 0


def main(kills, seed):
    draws, resumed = random.Random(seed), 0
    for place, (body, policy) in enumerate(KINDS):
        wanted = (kills + place) // len(KINDS)
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            begin = time.monotonic()
            process(folder / "straight", body, policy, folder / "right")
            print(f"{body.__name__}, {policy}: {time.monotonic() - begin:.0f} s alone", flush=True)
            right, run = (folder / "right").read_text(), 0
            while wanted:
                run, killed = run + 1, 0
                where, found = folder / f"run{run}", folder / f"found{run}"
                while killed < wanted and process(
                    where, body, policy, found, draws.uniform(0, 1.5)
                ):
                    killed += 1
                if not found.exists():
                    process(where, body, policy, found)
                same = found.read_text() == right
                print(
                    f"  {killed} kills in a run, {'the same' if same else 'OTHER'} bits", flush=True
                )
                wanted -= killed
                resumed += killed * same
    print(f"{resumed} of {kills} resumed to the bit")


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    main(*given, *(40, 0)[len(given) :])
