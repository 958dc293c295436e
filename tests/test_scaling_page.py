"""docs/scaling.md is true: its commands run, and its scripts set a TF_CONFIG that can be read."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from keras_attention.training.cluster import read_cluster

ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def environment(folder, **more):
    """That of this process, with programs of `folder` first, and this Python."""
    path = os.pathsep.join(
        [str(folder), str(pathlib.Path(sys.executable).parent), os.environ["PATH"]]
    )
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **more}


def script(folder, name, content):
    path = folder / name
    path.write_text(f"#!/bin/bash\n{content}\n")
    path.chmod(0o755)


@pytest.mark.full
def test_its_python_trains_two_workers_by_its_command(tmp_path):
    (tmp_path / "train.py").write_text(blocks("python")[0])
    command = blocks("bash")[0]
    subprocess.run(
        command, shell=True, check=True, cwd=tmp_path, env=environment(tmp_path), timeout=300
    )
    assert (tmp_path / "model.keras").stat().st_size > 1000


def test_its_slurm_script_makes_a_cluster_of_the_nodes(tmp_path):
    script(tmp_path, "scontrol", 'for n in a1 a2 b7 b9; do echo "$n"; done')
    # srun starts the command on each node, with another number.
    script(tmp_path, "srun", 'for n in 0 1 2 3; do SLURM_PROCID=$n RANK=$n "$@"; done')
    script(tmp_path, "python", f'echo "$TF_CONFIG" > {tmp_path}/$RANK.json')
    (tmp_path / "train.sh").write_text(blocks("sh")[0])
    subprocess.run(["bash", "train.sh"], check=True, cwd=tmp_path,
                   env=environment(tmp_path, SLURM_JOB_NODELIST="a[1-2],b[7,9]"))  # fmt: skip
    for index in range(4):
        cluster = read_cluster((tmp_path / f"{index}.json").read_text())
        assert cluster.index == index
        assert cluster.addresses == ("a1:23456", "a2:23456", "b7:23456", "b9:23456")


def test_its_kubernetes_job_makes_a_cluster_of_the_pods(tmp_path):
    yaml = pytest.importorskip("yaml", reason="pip install pyyaml")
    service, job = yaml.safe_load_all(blocks("yaml")[0])
    pod = job["spec"]["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"] == job["metadata"]["name"]
    assert job["spec"]["completionMode"] == "Indexed"
    container = pod["containers"][0]
    script(tmp_path, "python", f'echo "$TF_CONFIG" > {tmp_path}/$RANK.json')
    for index in range(job["spec"]["completions"]):
        more = {"JOB_COMPLETION_INDEX": str(index), "RANK": str(index)}
        subprocess.run([*container["command"], *container["args"]], check=True,
                       env=environment(tmp_path, **more))  # fmt: skip
        cluster = read_cluster((tmp_path / f"{index}.json").read_text())
        assert cluster.index == index and len(cluster.addresses) == 4
        assert cluster.addresses[2] == "train-2.train:23456"


@pytest.mark.slow
def test_its_ray_program_trains(tmp_path):
    """In an environment of its own: RAY_PYTHON, with ray[train], tensorflow and this package."""
    python = os.environ.get("RAY_PYTHON")
    if not python:
        pytest.skip("needs RAY_PYTHON: a Python with 'ray[train]' and this package's requirements")
    (tmp_path / "train.py").write_text(blocks("python")[0])
    (tmp_path / "on_ray.py").write_text(blocks("python")[-1])
    run = subprocess.run([python, "on_ray.py"], cwd=tmp_path, capture_output=True, text=True,
                         env=environment(tmp_path))  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]


def test_its_commands_have_flags_that_exist():
    program = subprocess.run([sys.executable, "-P", "keras_attention/training/launch.py", "--help"],
                             cwd=ROOT, capture_output=True, text=True, check=True)  # fmt: skip
    for flag in re.findall(r"launch (--\w+)", PAGE):
        assert flag in program.stdout


def test_its_numbers_follow_from_its_formulas():
    parameters, workers, tokens = 60e6, 4, 25_000
    sent = 2 * (workers - 1) / workers * 4 * parameters
    assert f"| {sent / 1e6:.0f} MB for N = 4 |" in PAGE
    assert f"| {8 * sent / 1e10:.2f} s at 10 Gbit/s, {8 * sent / 1e9:.1f} s at 1 Gbit/s |" in PAGE
    assert f"{tokens:,} tokens: {6 * parameters * tokens:.0e}".replace("e+12", "e12") in PAGE
    assert f"| {12 * parameters / 1e6:.0f} MB |" in PAGE
    pair = 2 * 2 * 20 + 16 + 4
    assert f"{pair} bytes" in PAGE and f"{pair} GB" in PAGE
    assert "about 2.6 CPU seconds a million pairs" in PAGE.replace("\n", " ")
    assert f"a billion pairs take {round(2.6 * 1000 / 60, -1):.0f} minutes" in PAGE.replace(
        "\n", " "
    )
