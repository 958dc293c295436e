"""Run requests that arrive together as one batch."""

import asyncio
import concurrent.futures
import contextlib
import os
import time
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from keras_attention.export.server.rows import batching_obstacle, joined, own, split
from keras_attention.export.server.servable import Signature

__all__ = ["Batcher", "Overloaded"]

Arrays = Mapping[str, np.ndarray]


class Overloaded(RuntimeError):
    """The queue is full, or all threads are blocked."""


class _Request(NamedTuple):
    inputs: Arrays
    rows: int
    answer: asyncio.Future
    deadline: float  # of time.monotonic


class _Batch:
    """Requests that will run together; others may join until it runs."""

    def __init__(self, signature: Signature, key: Hashable, opened: float):
        self.signature, self.key, self.opened = signature, key, opened
        self.requests: list[_Request] = []
        self.rows = 0
        self.full = asyncio.Event()


class Batcher:
    """Calls signatures in threads, with several requests in one batch where that is possible.

    A request joins the open batch of its signature and input shapes. A batch runs when it is full,
    or `max_wait` after it was opened, and a thread is free; until then it accepts more requests. If
    a shared batch fails, its requests run alone, so each gets its own reply or error.

    A request with more rows than a batch runs in several batches, each queued when the previous one
    is done: it takes turns with the others, and a cancelled one blocks a thread for one batch at
    most. Requests that cannot share a batch (`rows.batching_obstacle`) are not split either.

    Args:
        max_batch_size: rows; 1 runs each row alone.
        max_wait: seconds that the first request of a batch waits for others.
        max_pending: maximum number of unanswered requests; more are refused.
        threads: batches that run at a time. Default: one per core, and at least two, so that a long
            one does not block the others.
        time_limit: maximum seconds of a request. A batch is stopped when the time of all of its
            requests is over, if its signature can be stopped (`Signature.within`). The caller must
            handle its own timeout. None: no limit.

    An async context manager; it belongs to the event loop that entered it.

    >>> import asyncio, tensorflow as tf
    >>> text = {"text": tf.TensorSpec([None], tf.string)}
    >>> shout = Signature("shout", text, text, lambda text: {"text": text + "!"})
    >>> async def main():
    ...     async with Batcher() as batcher:
    ...         lines = (np.array([line], object) for line in (b"hello", b"you"))
    ...         return await asyncio.gather(*(batcher(shout, {"text": line}) for line in lines))
    >>> [answer["text"].tolist() for answer in asyncio.run(main())]
    [[b'hello!'], [b'you!']]
    """

    def __init__(
        self,
        max_batch_size: int = 32,
        max_wait: float = 0.002,
        max_pending: int = 256,
        threads: int | None = None,
        time_limit: float | None = None,
    ):
        self._max_batch_size, self._max_wait = max_batch_size, max_wait
        self._max_pending, self._pending = max_pending, 0
        self._count = threads or max(2, os.cpu_count() or 1)
        self._time_limit = float("inf") if time_limit is None else time_limit
        self._open: dict[Hashable, _Batch] = {}
        self._running: list[float] = []  # the deadlines of the running batches

    async def __aenter__(self) -> "Batcher":
        self._queue: asyncio.Queue[_Batch] = asyncio.Queue()
        self._threads = concurrent.futures.ThreadPoolExecutor(self._count, "model")
        self._runners = [asyncio.create_task(self._run_batches()) for _ in range(self._count)]
        return self

    async def __aexit__(self, *_) -> None:
        for runner in self._runners:
            runner.cancel()
        await asyncio.gather(*self._runners, return_exceptions=True)
        self._threads.shutdown(wait=False)

    @property
    def is_full(self) -> bool:
        """Whether a request would be refused now."""
        return self._pending >= self._max_pending

    @property
    def is_stuck(self) -> bool:
        """Whether every thread runs a batch whose time is over."""
        now = time.monotonic()
        return len(self._running) == self._count and all(end < now for end in self._running)

    async def __call__(self, signature: Signature, inputs: Arrays) -> dict[str, np.ndarray]:
        """The outputs for these inputs. Cancelled before it runs, it costs nothing.

        Raises Overloaded, and whatever the signature raises.
        """
        if self.is_full:
            raise Overloaded(f"{self._pending} requests wait already. Try again later.")
        if self.is_stuck:
            raise Overloaded("All model threads are busy beyond the time limit. Try again later.")
        self._pending += 1
        end = time.monotonic() + self._time_limit
        try:
            parts = split(signature, inputs, self._max_batch_size)
            answers = [await self._join(signature, part, end) for part in parts]
            return own(signature, joined(answers))
        finally:
            self._pending -= 1

    def _join(self, signature, inputs, deadline) -> asyncio.Future:
        answer = asyncio.get_running_loop().create_future()
        key, rows = _group(signature, inputs)
        batch = self._open.get(key)
        if batch is None or batch.rows + rows > self._max_batch_size:
            batch = _Batch(signature, key, asyncio.get_running_loop().time())
            self._queue.put_nowait(batch)
            self._open[key] = batch
        batch.requests.append(_Request(inputs, rows, answer, deadline))
        batch.rows += rows
        if key is None or batch.rows >= self._max_batch_size:
            self._close(batch)
        return answer

    def _close(self, batch) -> None:
        batch.full.set()
        if self._open.get(batch.key) is batch:
            del self._open[batch.key]

    async def _run_batches(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._queue.get()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(batch.opened + self._max_wait):
                    await batch.full.wait()
            self._close(batch)
            requests = [request for request in batch.requests if not request.answer.done()]
            if not requests:
                continue
            end = max(request.deadline for request in requests)
            self._running.append(end)
            try:
                running = loop.run_in_executor(self._threads, _run, batch.signature, requests, end)
                answers = await running
            finally:
                self._running.remove(end)
            for request, answer in zip(requests, answers):
                if request.answer.done():  # cancelled
                    continue
                if isinstance(answer, Exception):
                    request.answer.set_exception(answer)
                else:
                    request.answer.set_result(answer)


def _group(signature: Signature, inputs: Arrays) -> tuple[Hashable, int]:
    """-> the key of requests that can share a batch, None if it must run alone; its rows."""
    counts = {value.shape[0] if value.ndim else 0 for value in inputs.values()}
    rows = counts.pop() if len(counts) == 1 else 0
    if not rows or batching_obstacle(signature):
        return None, rows
    return (signature, *(inputs[name].shape[1:] for name in signature.inputs)), rows


def _run(
    signature: Signature, requests: Sequence[_Request], deadline: float
) -> Sequence[dict | Exception]:
    """An answer for each request, in their order."""
    try:
        if len(requests) == 1:
            return [_call(signature, requests[0].inputs, deadline)]
        return _run_together(signature, requests, deadline)
    except TimeoutError as error:
        return [error] * len(requests)
    except Exception as error:
        if len(requests) == 1:
            return [error]
        return [_run(signature, [request], deadline)[0] for request in requests]


def _call(signature, inputs, deadline) -> dict[str, np.ndarray]:
    if deadline == float("inf"):
        return signature(inputs)
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("The time limit of the request is over.")
    return signature(inputs, seconds)


def _run_together(signature, requests, deadline) -> list[dict]:
    inputs = {
        name: np.concatenate([request.inputs[name] for request in requests])
        for name in signature.inputs
    }
    ends = np.cumsum([request.rows for request in requests])[:-1]
    outputs = _call(signature, inputs, deadline)
    parts = {name: np.split(value, ends) for name, value in outputs.items()}
    return [{name: part[i] for name, part in parts.items()} for i in range(len(requests))]
