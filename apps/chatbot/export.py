"""`--mode=export`: write the model with its search as a SavedModel, and check it."""

import os

from apps.chatbot import settings as stored
from apps.chatbot import store
from apps.chatbot.responder import Responder
from keras_attention import export

QUESTIONS = ("Hello!", "你好！", "", "春风吹绿江南岸")


def run(directory: str, explicit_flags: dict, export_dir: str) -> None:
    """Write `export_dir` and run it in a process without our code."""
    settings = stored.load(directory, explicit_flags)
    model, tokenizer = store.load_model(directory, settings)
    responder = Responder(model, tokenizer, settings)
    drawn_anew = (
        settings["sampling"] in ("sample", "stochastic") and settings["sample_seed"] is None
    )
    audit = export.save_search(
        export_dir, responder, QUESTIONS, compare=["source_tokens"] if drawn_anew else None
    )
    size = sum(
        os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(export_dir)
        for name in names
    )
    warm = os.path.exists(os.path.join(export_dir, export.WARM_UP))
    print(
        f"Exported to {export_dir} ({size / 1e6:.1f} MB), and checked in a clean process: "
        f"{', '.join(f'`{name}`' for name in sorted(responder.functions))}. For TF Serving "
        f"{audit.oldest_serving} or newer, "
        + (
            "with its warm-up."
            if warm
            else "without a warm-up: pip install 'keras-attention-seq2seq[serving]'."
        ),
        flush=True,
    )
