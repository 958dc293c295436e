"""What a dtype policy costs on this machine."""

import functools
import warnings
from typing import Any

import tensorflow as tf

# Of x86 and ARM, as /proc/cpuinfo names them.
_INSTRUCTIONS = {"avx512_bf16", "amx_bf16", "bf16"}


@functools.cache
def emulates_bfloat16() -> bool:
    """Whether products in bfloat16 would be computed by a CPU that has no instruction for them.

    False if it is not known: only Linux lists the instructions.
    """
    if any(device.device_type != "CPU" for device in tf.config.list_physical_devices()):
        return False
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            lines = [line.partition(":") for line in file]
    except OSError:
        return False
    return lacks_bfloat16({name.strip(): value for name, _, value in lines})


def lacks_bfloat16(about: dict[str, str]) -> bool:
    """Whether a CPU with these entries of /proc/cpuinfo lists its instructions, and none fits.

    >>> lacks_bfloat16({"flags": "fpu avx2"}), lacks_bfloat16({"flags": "avx2 avx512_bf16"})
    (True, False)
    >>> lacks_bfloat16({})
    False
    """
    listed = {*about.get("flags", about.get("Features", "")).split()}
    return bool(listed) and not listed & _INSTRUCTIONS


class WarnOnce:
    """Say once in a process what a policy that computes in bfloat16 costs where it is emulated.

    Args: `probe`: tells whether this machine emulates it; by default `emulates_bfloat16`.

    >>> warn = WarnOnce(probe=lambda: True)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warn("mixed_bfloat16"), warn("mixed_bfloat16")
    (None, None)
    >>> len(caught)
    1
    """

    def __init__(self, probe: Any = None):
        self.probe = emulates_bfloat16 if probe is None else probe
        self.done = False

    def __call__(self, policy: Any) -> None:
        """`policy`: a Keras dtype policy, or its name."""
        name = getattr(policy, "name", policy)
        if self.done or "bfloat16" not in str(name) or not self.probe():
            return
        self.done = True
        warnings.warn(
            f"The dtype policy {name} computes products in bfloat16, for which this CPU has no "
            "instruction (avx512_bf16 or amx_bf16): it emulates them, and training and search take "
            "several times as long as in float32. Use float32 here, or a machine with the "
            "instruction.",
            stacklevel=2,
        )


warn_of_emulation = WarnOnce()
