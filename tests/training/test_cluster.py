"""TF_CONFIG is read strictly, and the workers that it names meet before they train."""

import json
import socket
import threading
import time

import pytest

from keras_attention.training.cluster import Cluster, check_port, read_cluster
from keras_attention.training.launch import free_ports
from keras_attention.training.rendezvous import code_about, meet


def config(cluster, kind="worker", index=0):
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


TWO = {"worker": ["a:1", "b:2"]}


@pytest.mark.parametrize("empty", ["", "  ", "{}", '{"cluster": {}, "task": {}}'])
def test_without_a_cluster_a_process_is_the_chief_and_alone(empty, monkeypatch):
    assert read_cluster(empty) == Cluster()
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert read_cluster().is_chief and len(read_cluster().addresses) == 1


def test_the_chief_is_the_task_of_that_type_or_worker_0():
    assert read_cluster(config(TWO)).is_chief
    assert read_cluster(config(TWO, index=1)) == Cluster(("a:1", "b:2"), 1)
    three = {"chief": ["c:3"], **TWO}
    assert read_cluster(config(three, "chief")) == Cluster(("c:3", "a:1", "b:2"), 0)
    assert read_cluster(config(three, index=1)) == Cluster(("c:3", "a:1", "b:2"), 2)
    assert not read_cluster(config(three)).is_chief
    assert read_cluster(config({"worker": ["[::1]:5"]})).addresses == ("[::1]:5",)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("{", "not JSON"),
        ("[]", "object"),
        ('"worker"', "object"),
        ('{"cluster": []}', "objects"),
        (config({"worker": "a:1"}), "list"),
        (config({"worker": [1, 2]}), "list"),
        (config({"worker": ["a"]}), "host:port"),
        (config({"worker": ["a:b"]}), "host:port"),
        (config({"worker": ["a:0"]}), "host:port"),
        (config({"worker": ["a:65536"]}), "host:port"),
        (config({"worker": [":1"]}), "host:port"),
        (config({"worker": ["a:1", "a:1"]}), "of its own"),
        (config({"chief": ["a:1", "b:1"]}, "chief"), "one chief"),
        (config({**TWO, "ps": ["c:1"]}), "parameter servers"),
        (config(TWO, "evaluator"), "evaluator"),
        (config(TWO, "chief"), "index"),
        (config(TWO, index=2), "0 to 1"),
        (config(TWO, index=-1), "0 to 1"),
        (config(TWO, index="0"), "0 to 1"),
        (config(TWO, index=True), "0 to 1"),
        (json.dumps({"cluster": TWO}), "type"),
        (json.dumps({"task": {"type": "worker", "index": 0}}), "index"),
    ],
)
def test_a_malformed_tf_config_is_refused_with_an_example(given, words):
    with pytest.raises(ValueError, match="TF_CONFIG must be like .*host0:2222") as error:
        read_cluster(given)
    assert words in str(error.value) and "Received: " in str(error.value)


def test_a_port_in_use_is_refused_by_its_number():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        cluster = Cluster((f"127.0.0.1:{port}", "127.0.0.1:1"), 0)
        with pytest.raises(ValueError, match=f"port {port} .*cannot be used.*another port"):
            check_port(cluster)
    check_port(cluster)


def met(abouts, timeout=20.0, indices=None, absent=()):
    """What each worker got: None, or its error."""
    addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(len(abouts)))
    results = {}

    def worker(place, index, about):
        try:
            meet(Cluster(addresses, index), about, timeout)
            results[place] = None
        except (ValueError, TimeoutError) as error:
            results[place] = error

    threads = [
        threading.Thread(target=worker, args=(place, index, about))
        for place, (index, about) in enumerate(zip(indices or range(len(abouts)), abouts))
        if place not in absent
    ]
    for thread in reversed(threads):  # the chief comes last
        thread.start()
    for thread in threads:
        thread.join(30.0)
    return results


def test_workers_that_agree_all_go_on():
    assert met([{"data": "1"}] * 4) == dict.fromkeys(range(4))


def test_what_differs_is_named_to_every_worker_with_the_values():
    results = met([{"data": "old", "seed": "1"}, {"data": "new", "seed": "1"}, {"data": "old"}])
    assert len(results) == 3
    for error in results.values():
        assert isinstance(error, ValueError)
        assert "data: old (worker 0), new (worker 1), old (worker 2)" in str(error)
        assert "seed: 1 (worker 0), 1 (worker 1), nothing (worker 2)" in str(error)


def test_an_absent_worker_is_named_to_those_who_wait():
    results = met([{}] * 3, timeout=1.0, absent=[1])
    assert set(results) == {0, 2}
    for error in results.values():
        assert isinstance(error, TimeoutError)
        assert "worker 1 (127.0.0.1:" in str(error) and "worker 2" not in str(error)


def test_an_absent_chief_is_named_by_its_address():
    results = met([{}] * 2, timeout=1.0, absent=[0])
    assert isinstance(results[1], TimeoutError) and "chief at 127.0.0.1" in str(results[1])


def test_two_processes_that_are_one_worker_are_refused():
    results = met([{}] * 3, indices=[0, 1, 1])
    assert any(isinstance(e, ValueError) and "Two processes are worker 1" in str(e)
               for e in results.values())  # fmt: skip


def test_strangers_that_connect_to_the_chief_do_not_disturb(monkeypatch):
    monkeypatch.setattr("keras_attention.training.rendezvous._HELLO", 0.2)
    ports = free_ports(2)
    cluster = Cluster(tuple(f"127.0.0.1:{port}" for port in ports), 0)
    chief = threading.Thread(target=meet, args=(cluster, {"a": "1"}, 20.0))
    chief.start()
    for content in (b"GET / HTTP/1.1\r\n\r\n", b"", b"[]\n", b'{"index": 9}\n'):
        for _ in range(200):
            try:
                with socket.create_connection(("127.0.0.1", ports[0]), 1.0) as stranger:
                    stranger.sendall(content)
                break
            except OSError:
                time.sleep(0.05)
    with socket.create_connection(("127.0.0.1", ports[0]), 1.0):  # says nothing, and stays
        meet(cluster._replace(index=1), {"a": "1"}, 20.0)
    chief.join(20.0)
    assert not chief.is_alive()


def test_another_number_of_workers_is_a_difference():
    ports = free_ports(3)
    addresses = tuple(f"127.0.0.1:{port}" for port in ports)
    results = []

    def chief():
        with pytest.raises(ValueError, match=r"number of workers: 2 .worker 0., 3 .worker 1.") as e:
            meet(Cluster(addresses[:2], 0), {}, 20.0)
        results.append(e)

    thread = threading.Thread(target=chief)
    thread.start()
    with pytest.raises(ValueError, match="number of workers"):
        meet(Cluster(addresses, 1), {}, 20.0)
    thread.join(20.0)
    assert results


def test_the_code_of_the_package_is_part_of_what_is_compared():
    about = code_about()
    assert about == code_about()
    assert len(about["keras_attention"]) == 16 and about["numbers"].startswith("float32")
