import asyncio
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from keras_attention.export.server import Batcher, Overloaded, Signature, load

LINES = [b"ab", "好，你好".encode(), b"", "🙂".encode(), b"a rather long line", b"\xff"]


def lines(*texts):
    return {"text": np.array(texts, dtype=object)}


def together(*asked, **settings):
    """The answers to (signature, inputs) that are asked at once; exceptions among them."""

    async def main():
        async with Batcher(**settings) as batcher:
            return await asyncio.gather(*(batcher(*one) for one in asked), return_exceptions=True)

    return asyncio.run(main())


class Recorder:
    """A signature that keeps the batches it was called with."""

    def __init__(self, function=lambda text: {"text": text}):
        self.batches = []
        spec = {"text": tf.TensorSpec([None], tf.string)}
        self.signature = Signature("recorder", spec, spec, self._call)
        self._function = function

    def _call(self, text):
        self.batches.append(text.numpy().tolist())
        return self._function(text)


def held():
    """A recorder whose runs wait, an event that one has begun, an event that lets them go on."""
    started, go = threading.Event(), threading.Event()

    def wait(text):
        started.set()
        assert go.wait(60)
        return {"text": text}

    return Recorder(wait), started, go


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape, name
        assert (found[name] == value).all(), name


def test_batched_replies_are_the_unbatched_ones(parrot):
    say = load(parrot).signatures["serving_default"]
    asked = [(say, lines(*LINES[:n], line)) for n in (0, 1, 3) for line in LINES]
    alone = [together(one, max_batch_size=1)[0] for one in asked]
    for found, expected in zip(together(*asked, max_wait=0.05, threads=1), alone):
        assert_same(found, expected)


def test_requests_that_arrive_together_are_one_batch_in_their_order():
    recorder = Recorder()
    asked = [(recorder.signature, lines(line)) for line in LINES]
    answers = together(*asked, max_wait=0.05)
    assert recorder.batches == [LINES]
    assert [answer["text"].tolist() for answer in answers] == [[line] for line in LINES]


def test_a_batch_has_no_more_rows_than_it_may():
    recorder = Recorder()
    asked = [(recorder.signature, lines(*[b"x"] * rows)) for rows in (2, 1, 3, 9, 1)]
    answers = together(*asked, max_batch_size=4, max_wait=0.05, threads=1)
    assert sum(map(len, recorder.batches)) == 16 and max(map(len, recorder.batches)) == 4
    assert [len(answer["text"]) for answer in answers] == [2, 1, 3, 9, 1]


def test_a_limit_of_one_runs_each_row_alone():
    recorder = Recorder()
    asked = [(recorder.signature, lines(line)) for line in LINES]
    together(*asked, (recorder.signature, lines(*LINES)), max_batch_size=1)
    assert recorder.batches.count([LINES[0]]) == 2
    assert sorted(map(len, recorder.batches)) == [1] * 2 * len(LINES)


def test_a_request_of_many_rows_takes_turns_with_the_others():
    recorder = Recorder()
    large = [str(i).encode() for i in range(100)]

    async def main():
        async with Batcher(max_batch_size=10, max_wait=0, threads=1) as batcher:
            whole = asyncio.create_task(batcher(recorder.signature, lines(*large)))
            await asyncio.sleep(0)
            await batcher(recorder.signature, lines(b"small"))
            assert not whole.done()
            return await whole

    assert asyncio.run(main())["text"].tolist() == large
    assert [b"small"] in recorder.batches[:3]


def test_a_request_of_many_rows_that_is_given_up_ends_with_its_batch():
    recorder, started, go = held()

    async def main():
        async with Batcher(max_batch_size=2, max_wait=0, threads=1) as batcher:
            large = asyncio.create_task(batcher(recorder.signature, lines(*[b"x"] * 100)))
            await asyncio.to_thread(started.wait, 60)
            large.cancel()
            await asyncio.gather(large, return_exceptions=True)
            go.set()
            return await batcher(recorder.signature, lines(b"next"))

    assert asyncio.run(main())["text"].tolist() == [b"next"]
    assert recorder.batches == [[b"x"] * 2, [b"next"]]


def test_no_rows_are_answered(parrot):
    say = load(parrot).signatures["serving_default"]
    (answer,) = together((say, lines()))
    assert answer["replies"].shape == (0, 2)


def test_other_signatures_and_other_shapes_are_never_mixed(parrot):
    total = load(parrot).signatures["total"]
    first, second = Recorder(), Recorder()
    answers = together(
        (first.signature, lines(b"a")),
        (second.signature, lines(b"b")),
        (total, {"ids": np.array([[1, 2]], np.int32)}),
        (total, {"ids": np.array([[1, 2, 3]], np.int32)}),
        (first.signature, lines(b"c")),
        max_wait=0.05,
    )
    assert first.batches == [[b"a", b"c"]] and second.batches == [[b"b"]]
    assert [answer["total"].tolist() for answer in answers[2:4]] == [[3], [6]]


def test_requests_with_scalars_run_alone(parrot):
    repeat = load(parrot).signatures["repeat"]
    asked = [(repeat, {**lines(b"ab"), "times": np.array(n, np.int32)}) for n in (3, 3, 1)]
    answers = together(*asked, max_wait=0.05)
    assert [answer["said"].tolist() for answer in answers] == [[b"ababab"]] * 2 + [[b"ab"]]


def test_inputs_with_different_rows_are_the_models_to_judge():
    spec = {name: tf.TensorSpec([None]) for name in ("a", "b")}
    signature = Signature("sum", spec, {"c": tf.TensorSpec([None])}, lambda a, b: {"c": a + b})
    inputs = {"a": np.ones(1, np.float32), "b": np.ones(3, np.float32)}
    (answer,) = together((signature, inputs))
    assert answer["c"].tolist() == [2, 2, 2]


def test_one_bad_request_does_not_spoil_the_batch():
    def fail_at_bad(text):
        if b"bad" in text.numpy():
            raise ValueError("bad")
        return {"text": text}

    recorder = Recorder(fail_at_bad)
    asked = [(recorder.signature, lines(line)) for line in (b"good", b"bad", b"fine")]
    good, bad, fine = together(*asked, max_wait=0.05)
    assert good["text"].tolist() == [b"good"] and fine["text"].tolist() == [b"fine"]
    assert isinstance(bad, ValueError)


def test_more_than_may_wait_are_refused_and_the_others_answered():
    recorder = Recorder()
    asked = [(recorder.signature, lines(b"x")) for _ in range(5)]
    answers = together(*asked, max_pending=3)
    assert [isinstance(answer, Overloaded) for answer in answers] == [False] * 3 + [True] * 2


def test_who_gives_up_before_the_run_is_not_run_and_frees_the_place():
    recorder, started, go = held()

    async def main():
        async with Batcher(max_wait=0, max_pending=3, threads=1) as batcher:
            runs = asyncio.create_task(batcher(recorder.signature, lines(b"runs")))
            await asyncio.to_thread(started.wait, 60)
            queued = [
                asyncio.create_task(batcher(recorder.signature, lines(line)))
                for line in (b"stays", b"leaves")
            ]
            await asyncio.sleep(0)
            assert batcher.is_full
            queued[1].cancel()
            runs.cancel()
            await asyncio.gather(runs, queued[1], return_exceptions=True)
            assert not batcher.is_full
            go.set()
            return await queued[0]

    assert asyncio.run(main())["text"].tolist() == [b"stays"]
    assert recorder.batches == [[b"runs"], [b"stays"]]


@pytest.mark.parametrize("threads", [1, 3])
def test_replies_are_never_crossed(threads, parrot):
    say = load(parrot).signatures["serving_default"]
    texts = [f"line {i} ".encode() * (1 + i % 5) for i in range(200)]
    answers = together(*[(say, lines(text)) for text in texts], max_batch_size=8, threads=threads)
    assert [answer["replies"][0, 1] for answer in answers] == texts


def test_what_is_past_its_time_gives_its_thread_back(parrot, tmp_path):
    signatures = load(parrot).signatures
    never = {"file": np.array([str(tmp_path / "never").encode()], object)}

    async def main():
        async with Batcher(threads=1, time_limit=0.3) as batcher:
            with pytest.raises(TimeoutError):
                await batcher(signatures["wait"], never)
            return await batcher(signatures["serving_default"], lines(b"next"))

    assert asyncio.run(main())["replies"].tolist() == [[b"next!", b"next"]]


def test_a_batch_that_timed_out_is_not_run_again_for_each_request(parrot, tmp_path):
    wait, asked = load(parrot).signatures["wait"], []

    def within(seconds):
        def run(file):
            asked.append(len(file))
            return wait.within(seconds)(file=file)

        return run

    spec = {"file": tf.TensorSpec([None], tf.string)}
    looks = {**spec, "looks": tf.TensorSpec([None], tf.int32)}
    recorded = Signature("wait", spec, looks, wait.function, within)
    never = {"file": np.array([str(tmp_path / "never").encode()], object)}
    answers = together((recorded, never), (recorded, never), time_limit=0.3, max_wait=0.1)
    assert [type(answer) for answer in answers] == [TimeoutError] * 2 and asked == [2]


def test_threads_that_cannot_be_stopped_are_reported_and_nothing_more_is_taken():
    recorder, started, go = held()

    async def main():
        async with Batcher(threads=1, time_limit=0.2) as batcher:
            runs = asyncio.create_task(batcher(recorder.signature, lines(b"stuck")))
            await asyncio.to_thread(started.wait, 60)
            assert not batcher.is_stuck
            end = time.monotonic() + 60
            while not batcher.is_stuck and time.monotonic() < end:
                await asyncio.sleep(0.02)
            with pytest.raises(Overloaded, match="beyond the time limit"):
                await batcher(recorder.signature, lines(b"more"))
            go.set()
            await runs
            assert not batcher.is_stuck
            return await batcher(recorder.signature, lines(b"next"))

    assert asyncio.run(main())["text"].tolist() == [b"next"]
    assert recorder.batches == [[b"stuck"], [b"next"]]
