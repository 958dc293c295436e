"""The Transformer of CTranslate2, converted from the weights that all sides load."""

import os
import tempfile

import ctranslate2
import numpy as np
from ctranslate2.specs import TransformerSpec
from transformer_case import letters
from worker import serve

START, END = "<s>", "</s>"
THREADS = int(os.environ.get("BENCHMARK_THREADS", "1"))


def _translator(folder, settings):
    return ctranslate2.Translator(
        folder,
        device="cpu",
        compute_type=settings["compute_type"],
        inter_threads=settings.get("inter_threads", 1),
        intra_threads=settings.get("intra_threads", THREADS),
    )


def beam(settings, arrays):
    tokens = _tokens(len(arrays["embedding"]))
    with tempfile.TemporaryDirectory() as folder:
        _convert(settings, arrays, tokens, folder)
        translator = _translator(folder, settings)
    ids = {token: i for i, token in enumerate(tokens)}
    source = [[tokens[i] for i in row] for row in arrays["source"]]
    width, steps = settings["beam_width"], settings["steps"]

    def search():
        found = translator.translate_batch(
            source,
            beam_size=width,
            num_hypotheses=width,
            length_penalty=0,
            max_decoding_length=steps,
            min_decoding_length=1,
            return_scores=True,
        )
        answers = [[[ids[token] for token in one] for one in f.hypotheses] for f in found]
        return np.array(answers), np.array([f.scores for f in found])

    return search


def translate(settings, arrays):
    """Lines of characters, file to file."""
    tokens = ["<pad>", START, END, "<unk>", *letters(len(arrays["embedding"]))]
    with tempfile.TemporaryDirectory() as folder:
        _convert(settings, arrays, tokens, folder)
        translator = _translator(folder, settings)
    folder = tempfile.TemporaryDirectory()
    asked, answered = (os.path.join(folder.name, name) for name in ("asked", "answered"))
    with open(asked, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in arrays["lines"])

    def run():
        with open(asked, encoding="utf-8") as file:
            source = [[*line.rstrip("\n"), END] for line in file]
        found = translator.translate_batch(
            source,
            beam_size=settings["beam_width"],
            num_hypotheses=1,
            length_penalty=0,
            max_decoding_length=settings["steps"] + 1,
            max_batch_size=settings["max_batch_size"],
            batch_type="tokens",
        )
        with open(answered, "w", encoding="utf-8") as file:
            file.writelines("".join(one.hypotheses[0]) + "\n" for one in found)
        with open(answered, encoding="utf-8") as file:
            return np.array(file.read().splitlines())

    run.folder = folder  # removed with it
    return run


def _tokens(vocabulary):
    return ["<pad>", START, END] + [f"t{i}" for i in range(3, vocabulary - 1)] + ["<unk>"]


def _convert(settings, arrays, tokens, folder):
    spec = TransformerSpec.from_config(settings["layers"], settings["heads"], pre_norm=False)
    spec.config.layer_norm_epsilon = settings["epsilon"]
    spec.config.bos_token, spec.config.eos_token = START, END
    spec.config.decoder_start_token, spec.config.unk_token = START, "<unk>"
    for side in (spec.encoder.embeddings[0], spec.decoder.embeddings, spec.decoder.projection):
        side.weight = arrays["embedding"]
    for role, part in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        part.position_encodings.encodings = arrays["positions"]
        for i, layer in enumerate(part.layer):
            _attention(
                layer.self_attention, f"{role}_{i}_self", arrays, (("query", "key", "value"),)
            )
            if role == "decoder":
                _attention(
                    layer.attention, f"{role}_{i}_cross", arrays, (("query",), ("key", "value"))
                )
            name = f"{role}_{i}_feed_forward"
            for linear, way in ((layer.ffn.linear_0, "in"), (layer.ffn.linear_1, "out")):
                linear.weight = _turned(arrays[f"{name}_{way}"])
                linear.bias = arrays[f"{name}_{way}_bias"]
            _norm(layer.ffn.layer_norm, name, arrays)
    spec.register_source_vocabulary(tokens)
    spec.register_target_vocabulary(tokens)
    spec.validate()
    spec.optimize()
    spec.save(folder)


def _attention(spec, name, arrays, fused):
    for linear, kinds in zip(spec.linear, (*fused, ("output",))):
        linear.weight = _turned(np.concatenate([arrays[f"{name}_{kind}"] for kind in kinds], 1))
    _norm(spec.layer_norm, name, arrays)


def _norm(spec, name, arrays):
    spec.gamma, spec.beta = arrays[f"{name}_gamma"], arrays[f"{name}_beta"]


def _turned(kernel):
    return np.ascontiguousarray(kernel.T)


if __name__ == "__main__":
    serve({"beam": beam, "translate": translate})
