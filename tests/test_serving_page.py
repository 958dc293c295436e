"""docs/serving.md is true: its requests are answered, its flags exist, its files can be read."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest
from absl import flags

from apps.chatbot import command_line
from keras_attention.export.server import Limits
from tests.export import made
from tests.export.server import serving

ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
URL = "http://127.0.0.1:8501"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


COMMANDS = "".join(blocks("bash")).splitlines()
CURLS = [command for command in COMMANDS if command.startswith("curl")]


@pytest.fixture(scope="module", params=["parrot", "export"])
def url(request, tmp_path_factory):
    """A server of a model with the name that the page has: one that repeats, and an export."""
    pytest.importorskip("fastapi", reason="pip install 'keras-attention-seq2seq[serving]'")
    pytest.importorskip("uvicorn", reason="pip install 'keras-attention-seq2seq[serving]'")
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "export":
        directory = str(made.make("rnn char", folder).directory)
    else:
        directory = serving.save(folder / "chatbot")
    with serving.served(directory, "chatbot") as address:
        yield address


@pytest.mark.full
@pytest.mark.parametrize("command", CURLS)
def test_its_requests_are_answered(command, url):
    if not shutil.which("curl"):
        pytest.skip("needs curl: apt-get install curl")
    command = command.replace("curl ", "curl --fail --silent --noproxy '*' ", 1)
    ran = subprocess.run(command.replace(URL, url), shell=True, capture_output=True, check=True)
    assert json.loads(ran.stdout)


@pytest.mark.full
def test_its_python_runs(url, capsys):
    code, _ = blocks("python")  # the other one: tests/export/test_compilers.py
    exec(compile(code.replace(URL, url), "serving.md", "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2  # lines, one of which is no UTF-8
    assert all(re.fullmatch(r".* -(\d+\.\d+|inf)", line) for line in said)


def test_its_flags_and_files_exist():
    if "mode" not in flags.FLAGS:
        command_line.define_flags()
    ours = [command for command in COMMANDS if "apps.chatbot" in command]
    named = {flag for command in ours for flag in re.findall(r"--(\w+)", command)}
    named |= {"time_limit", "max_batch_size", "sample_seed", "sampling", "host"}
    assert all(f"--{flag}" in PAGE for flag in named) and named <= set(flags.FLAGS)
    files = re.findall(r"tests/[\w/]+\.py", PAGE)
    assert files and all((ROOT / file).exists() for file in files)
    client = (ROOT / "tests/export/test_client.py").read_text("utf-8")
    assert all(name in client for name in re.findall(r"\b(TF_SERVING_\w+)=", PAGE))


def test_its_limits_are_the_servers():
    limits, said = Limits(), " ".join(PAGE.split())
    assert f"more than `--max_rows` lines ({limits.max_rows})" in said
    assert f"above {limits.max_body / 2**20:g} MiB" in said
    assert f"when {limits.max_pending} requests wait" in said
    assert f"within {limits.max_wait * 1000:g} ms" in said and limits.poll == 1


def test_its_manifest_is_a_kserve_service():
    yaml = pytest.importorskip("yaml", reason="pip install pyyaml")
    (text,) = blocks("yaml")
    service = yaml.safe_load(text)
    assert service["apiVersion"] == "serving.kserve.io/v1beta1"
    assert service["kind"] == "InferenceService"
    model = service["spec"]["predictor"]["model"]
    name = service["metadata"]["name"]
    assert model["modelFormat"] == {"name": "tensorflow"} and model["protocolVersion"] == "v1"
    assert model["storageUri"].endswith(f"/{name}")
    assert model["readinessProbe"]["httpGet"]["path"] == f"/v1/models/{name}"


def test_its_configurations_can_be_read():
    reason = "pip install 'keras-attention-seq2seq[serving]'"
    configs = pytest.importorskip(
        "tensorflow_serving.config.model_server_config_pb2", reason=reason
    )
    from google.protobuf import empty_pb2, text_format

    models, batching = blocks("protobuf")
    (config,) = text_format.Parse(models, configs.ModelServerConfig()).model_config_list.config
    assert (config.name, config.model_platform) == ("chatbot", "tensorflow")
    assert list(config.model_version_policy.specific.versions) == [1, 2]
    # The message of the other is in no package: whether it can be parsed at all.
    text_format.Parse(batching, empty_pb2.Empty(), allow_unknown_field=True)
    assert f"max_batch_size {{ value: {Limits().max_batch_size} }}" in batching


def test_the_docker_line_mounts_what_the_export_before_it_wrote():
    (line,) = [command for command in COMMANDS if command.startswith("docker run")]
    (written,) = [
        found[1] for command in COMMANDS if (found := re.search(r"--export_dir=(\S+)/1$", command))
    ]
    folder, name = os.path.split(written)
    assert f"$PWD/{folder}:/models:ro" in line and f"MODEL_NAME={name}" in line
    for file in re.findall(r"_file=(\S+?)`", " ".join(PAGE.split())):
        assert f"`{folder}/{file.removeprefix('/models/')}`" in PAGE
    assert f'base_path: "/models/{name}"' in PAGE


def test_no_folder_that_it_writes_shadows_a_package():
    """Python would find the folder in its place."""
    written = {folder.split("/")[0] for folder in re.findall(r"--export_dir=(\S+)", PAGE)}
    assert written and not written & {path.parent.name for path in ROOT.glob("*/__init__.py")}
