import pytest

from tests.export import made
from tests.export.server import serving


@pytest.fixture(scope="session")
def parrot(tmp_path_factory):
    """The directory of a SavedModel."""
    return serving.save(tmp_path_factory.mktemp("models") / "parrot")


@pytest.fixture(scope="session")
def url(parrot):
    """A server with its usual limits."""
    pytest.importorskip("fastapi", reason="pip install 'keras-attention-seq2seq[serving]'")
    pytest.importorskip("uvicorn", reason="pip install 'keras-attention-seq2seq[serving]'")
    with serving.served(parrot) as address:
        yield address


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """kind -> an export, made once; see `made`."""
    found = {}

    def export(kind):
        if "sentencepiece" in kind:
            pytest.importorskip(
                "sentencepiece", reason="pip install 'keras-attention-seq2seq[subword]'"
            )
        if kind not in found:
            found[kind] = made.make(kind, tmp_path_factory.mktemp("exports") / kind)
        return found[kind]

    return export
