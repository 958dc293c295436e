"""Scripts that run in other environments are no tests, and cannot be imported here."""

collect_ignore = [
    "checkpoint_tf1.py",
    "checkpoint_tfa.py",
    "contrib_outputs.py",
    "torch_outputs.py",
]
