"""The launcher starts workers, tells who they are, and ends all when one fails."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from keras_attention.training.launch import free_ports, launch, main

ROOT = pathlib.Path(__file__).parents[2]
TELL = "import os, json; c = json.loads(os.environ['TF_CONFIG']); "


def command(code):
    return [sys.executable, "-c", TELL + code]


def test_each_process_is_another_worker_of_one_cluster(tmp_path):
    code = f"open(r'{tmp_path}/' + str(c['task']['index']), 'w').write(json.dumps(c))"
    assert launch(command(code), 3) == 0
    found = [json.loads((tmp_path / str(index)).read_text()) for index in range(3)]
    assert [one["task"] for one in found] == [{"type": "worker", "index": i} for i in range(3)]
    addresses = found[0]["cluster"]["worker"]
    assert len(set(addresses)) == 3
    assert all(one["cluster"] == found[0]["cluster"] for one in found)


def test_lines_of_other_workers_are_marked_and_the_chief_keeps_the_terminal(capfd):
    assert launch(command("print('I am', c['task']['index'], flush=True)"), 2) == 0
    out, err = capfd.readouterr()
    assert out == "I am 0\n"
    assert "[worker 1] I am 1\n" in err


def test_a_port_that_is_given_is_that_of_worker_0(tmp_path):
    port = free_ports(1)[0]
    code = f"open(r'{tmp_path}/a', 'a').write(c['cluster']['worker'][c['task']['index']] + ' ')"
    assert launch(command(code), 1, port) == 0
    assert (tmp_path / "a").read_text() == f"127.0.0.1:{port} "


@pytest.mark.parametrize(
    ("end", "code", "words"),
    [
        ("raise SystemExit(7)", 7, "Worker 1 ended with exit code 7"),
        ("os.kill(os.getpid(), 9)", 137, "Worker 1 was killed by signal 9"),
    ],
)
def test_one_worker_that_fails_ends_all_with_one_message(capfd, monkeypatch, end, code, words):
    """Even workers that ignore SIGTERM, as those do that wait in TensorFlow."""
    monkeypatch.setattr("keras_attention.training.launch.GRACE", 0.5)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    wait = f"time.sleep(.5)\nif c['task']['index'] == 1: {end}\ntime.sleep(600)"
    begin = time.monotonic()
    assert launch(command(deaf + wait), 3) == code
    assert time.monotonic() - begin < 60
    err = capfd.readouterr().err
    assert err.count("[launch]") == 1 and words in err and "run the same command again" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_and_the_workers_may_save(tmp_path, number):
    code = (
        "import signal, time, sys\n"
        f"name = r'{tmp_path}/' + str(c['task']['index'])\n"
        "def stop(number, frame):\n"
        "    open(name + '.saved', 'w').close()\n"
        "    sys.exit(0)\n"
        f"signal.signal({int(number)}, stop)\n"
        "open(name + '.began', 'w').close()\n"
        "time.sleep(600)"
    )
    launch_file = str(ROOT / "keras_attention" / "training" / "launch.py")
    process = subprocess.Popen(
        [sys.executable, launch_file, "--workers=2", "--",
         *command(code)], cwd=ROOT,
    )  # fmt: skip
    while len(list(tmp_path.glob("*.began"))) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == 0
    assert sorted(path.name for path in tmp_path.glob("*.saved")) == ["0.saved", "1.saved"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workers=0", "--", "true"], "--workers must be at least 1"),
        (["--workers=2"], "a command must follow"),
        (["--workers=2", "--"], "a command must follow"),
        (["--workers=2", "--port=65535", "--", "true"], "--port must be 1 to 65534"),
        (["--workers=1", "--", "/no/such/command"], "/no/such/command must be a command"),
    ],
)
def test_bad_arguments_are_refused_before_anything_starts(capsys, arguments, words):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_nothing_runs_on_after_the_launcher_has_ended(tmp_path):
    failing = (
        "import time\n"
        f"open(r'{tmp_path}/' + str(os.getpid()), 'w').close()\n"
        "time.sleep(1 if c['task']['index'] == 0 else 600)\n"
        "raise SystemExit(3)"
    )
    assert launch(command(failing), 2) == 3
    for path in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name), 0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("python train.py", 1), "command must be a list"),
        (([], 1), "command must be a list"),
        ((["true"], 0), "workers must be a whole number"),
        ((["true"], "2"), "workers must be a whole number"),
        ((["true"], 2, 65535), "port must be 1 to 65534"),
        ((["true"], 1, "x"), "port must be 1 to 65535"),
    ],
)
def test_bad_arguments_of_launch_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        launch(*arguments)
