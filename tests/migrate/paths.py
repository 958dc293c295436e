"""Where the old checkpoints are; tests/parity/checkpoint_*.py write them."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHECKPOINTS = ROOT / "tests" / "parity" / "checkpoints"


def old(name: str) -> str:
    return str(CHECKPOINTS / name)
