"""Start N workers of a command on this machine, for `MultiWorkerMirroredStrategy`.

    python -m keras_attention.training.launch --workers=2 -- python train.py --epochs=3

Each process gets a TF_CONFIG in which it is another worker. Worker 0, the chief, keeps the
terminal; the lines of the others begin with "[worker 1] ". If a worker ends with an error, the
others are ended too, because TensorFlow would let them wait for it. On several machines the cluster
manager starts the processes and sets TF_CONFIG: see docs/scaling.md.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

GRACE = 10.0  # seconds that workers have to end by themselves when another one has failed
STOPPING = 120.0  # seconds that they have to save and end after Ctrl-C or SIGTERM
_POLL = 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m keras_attention.training.launch",
        description="Start N workers of a command on this machine, and end all if one fails.",
    )
    parser.add_argument("--workers", type=int, required=True, help="how many processes")
    parser.add_argument(
        "--port",
        type=int,
        help="that of worker 0; the others get the next ones. Default: free ports",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- COMMAND ARGUMENTS")
    parsed = parser.parse_args(arguments)
    command = parsed.command[1:] if parsed.command[:1] == ["--"] else parsed.command
    if parsed.workers < 1:
        parser.error(f"--workers must be at least 1. Received: {parsed.workers}")
    if parsed.port is not None and not 0 < parsed.port <= 65536 - parsed.workers:
        parser.error(
            f"--port must be 1 to {65536 - parsed.workers}, so that {parsed.workers} workers have "
            f"one each. Received: {parsed.port}"
        )
    if not command:
        parser.error("a command must follow: -- COMMAND ARGUMENTS. Received: none")
    try:
        return launch(command, parsed.workers, parsed.port)
    except OSError as error:
        parser.error(f"{command[0]} must be a command that can be started. Received: {error}")


def launch(command: Sequence[str], workers: int, port: int | None = None) -> int:
    """Run `workers` processes of a command, and return the exit code of the run.

    Args:
        command: program and arguments.
        workers: how many.
        port: of worker 0; the others get the next ones. Default: free ports.

    Returns:
        0 if all ended with 0, else the exit code of the first that failed (128 + the signal that
        killed it).

    Raises:
        ValueError: an argument of another kind, or out of its range.
        OSError: the command cannot be started.
    """
    if isinstance(command, str) or not command:
        raise ValueError(
            f'command must be a list, such as ["python", "train.py"]. Received: {command!r}.'
        )
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ValueError(f"workers must be a whole number of at least 1. Received: {workers!r}.")
    if port is not None and not (isinstance(port, int) and 0 < port <= 65536 - workers):
        raise ValueError(
            f"port must be 1 to {65536 - workers}, so that {workers} workers have one each, or "
            f"None. Received: {port!r}."
        )
    ports = free_ports(workers) if port is None else range(port, port + workers)
    addresses = [f"127.0.0.1:{number}" for number in ports]
    processes, printers = [], []
    stopped = _Stop()
    with stopped:
        try:
            for index in range(workers):
                process = _start(command, addresses, index)
                processes.append(process)
                if process.stdout is not None:
                    printer = threading.Thread(target=_print_lines, args=(index, process.stdout))
                    printer.start()
                    printers.append(printer)
            return _watch(processes, stopped)
        finally:
            _end(processes, signal.SIGKILL, 0.0)
            for printer in printers:
                printer.join(timeout=5.0)


def free_ports(count: int) -> list[int]:
    """Ports of this machine at which nothing listens now.

    >>> len(set(free_ports(3)))
    3
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _start(command, addresses, index) -> subprocess.Popen:
    config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    environment = {**os.environ, "TF_CONFIG": json.dumps(config)}
    output = None if index == 0 else subprocess.PIPE
    return subprocess.Popen(
        command,
        env=environment,
        stdin=None if index == 0 else subprocess.DEVNULL,
        stdout=output,
        stderr=None if index == 0 else subprocess.STDOUT,
        # Ctrl-C of a terminal reaches all of a group at once: here the launcher passes it on.
        start_new_session=True,
    )


def _print_lines(index, stream):
    for line in iter(stream.readline, b""):
        text = line.decode(errors="replace").rstrip("\r\n").rsplit("\r", 1)[-1]
        print(f"[worker {index}] {text}", file=sys.stderr, flush=True)


def _watch(processes, stopped) -> int:
    """Wait until all have ended, or one has failed."""
    while True:
        codes = [process.poll() for process in processes]
        failed = [index for index, code in enumerate(codes) if code]
        if failed:
            return _end_all(processes, failed[0], stopped)
        if None not in codes:
            return 0
        if stopped.number is not None and not stopped.passed_on:
            stopped.passed_on = time.monotonic()
            _signal(processes, stopped.number)
            _say("Stopping: waiting for the workers to save and end.")
        late = stopped.passed_on and time.monotonic() - stopped.passed_on > STOPPING
        if stopped.number is not None and (stopped.again or late):
            _say("The workers did not end in time: killed. The last checkpoint counts.")
            _end(processes, signal.SIGKILL, 0.0)
            return 128 + stopped.number
        time.sleep(_POLL)


def _end_all(processes, index, stopped) -> int:
    """End the other workers after one has failed, and say so."""
    code = processes[index].returncode
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    waiting = [process for process in processes if process.poll() is None]
    if not stopped.passed_on:
        # Those that wait for the failed one say why by themselves, if TensorFlow notices.
        _say(
            f"Worker {index} {how}. "
            + (f"Ending the other {len(waiting)}. " if waiting else "")
            + "Once the cause (see its last lines) is mended, run the same command again: a "
            "training with checkpoints goes on from the last one."
        )
    _end(processes, signal.SIGTERM, STOPPING if stopped.passed_on else GRACE)
    return 128 - code if code < 0 else code


def _end(processes, number, grace):
    """Send a signal to those that run, and kill those that run after `grace` seconds."""
    _signal(processes, number)
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline and any(process.poll() is None for process in processes):
        time.sleep(_POLL)
    _signal(processes, signal.SIGKILL)
    for process in processes:
        process.wait()


def _signal(processes, number):
    for process in processes:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)


def _say(line):
    print(f"[launch] {line}", file=sys.stderr, flush=True)


class _Stop:
    """Ctrl-C and SIGTERM, which are passed on to the workers."""

    def __init__(self):
        self.number: int | None = None
        self.passed_on: float = 0.0
        self.again = False

    def __enter__(self):
        self._before = {
            number: signal.signal(number, self._on) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def _on(self, number, frame):
        self.again = self.number is not None
        self.number = self.number or number

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    if "tensorflow" in sys.modules:  # the package imported it: start again without, for its memory
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-P", os.path.abspath(__file__), *sys.argv[1:]])
    sys.exit(main())
