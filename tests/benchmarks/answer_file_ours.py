"""A file of lines answered by the chatbot's infer, with the weights that both sides load."""

import contextlib
import os
import tempfile

import numpy as np
from absl import flags
from transformer_case import letters
from transformer_ours import build
from worker import serve

from apps.chatbot import command_line, infer
from apps.chatbot import settings as stored
from apps.chatbot.answer_file import AnswerFile
from apps.chatbot.progress import LineProgress
from apps.chatbot.responder import Responder
from keras_attention import text
from keras_attention.data import open_lines, read_lines


def answer(settings, arrays):
    """-> a function that answers the lines, file to file, and returns the answers."""
    model = build(settings, arrays)
    tokenizer = text.Characters.train([letters(len(arrays["embedding"]))])
    if "mode" not in flags.FLAGS:
        command_line.define_flags()
    wanted = {name: flags.FLAGS[name].default for name in stored.FIXED + stored.FREE}
    wanted.update(
        model="transformer",
        attention=None,
        beam_width=settings["beam_width"],
        length_penalty=0.0,
        max_length=settings["steps"],
    )
    responder = Responder(model, tokenizer, wanted)
    folder = tempfile.TemporaryDirectory()
    asked, answered = (os.path.join(folder.name, name) for name in ("asked", "answered"))
    with open(asked, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in arrays["lines"])

    def run():
        with contextlib.ExitStack() as files:
            lines = read_lines(files.enter_context(open_lines(asked)))
            target = files.enter_context(AnswerFile(answered, "the input", "", {}, 0))
            progress = LineProgress(None, shown=False)
            tokens = settings["batch_tokens"]
            infer.answer_lines(responder, wanted, lines, target, progress, tokens)
        with open(answered, encoding="utf-8") as file:
            return np.array(file.read().splitlines())

    run.folder = folder  # removed with it
    return run


if __name__ == "__main__":
    serve({"answer": answer})
