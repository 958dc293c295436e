"""Write fixtures/{gpt1,gpt2,bert}.npz: what Hugging Face's models compute with random weights.

    python tests/models/make_hf_fixtures.py        with torch 2.13 and transformers 5 installed

Each file has the weights by the names of `state_dict`, the ids, and the logits.
"""

import pathlib

import numpy as np

FOLDER = pathlib.Path(__file__).parent / "fixtures"
IDS = np.array([[5, 6, 7, 8, 2], [9, 4, 3, 0, 0]])
SEGMENTS = np.array([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]])


def random_weights(model):
    """The model with weights N(0, 0.3^2), norms around 1, in inference mode."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            scale = "weight" in name and ("norm" in name.lower() or "ln_" in name)
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3 + float(scale))
    return model.eval()


def write(name, model, ids, **outputs):
    weights = {key: value.detach().numpy() for key, value in model.state_dict().items()}
    outputs = {key: value.detach().numpy() for key, value in outputs.items()}
    np.savez_compressed(FOLDER / f"{name}.npz", ids=ids, **outputs, **weights)


def main():
    import torch
    import transformers as hf

    FOLDER.mkdir(exist_ok=True)
    shape = dict(vocab_size=11, n_positions=6, n_embd=8, n_layer=2, n_head=2)
    for name, config, kind in (
        ("gpt1", hf.OpenAIGPTConfig(**shape), hf.OpenAIGPTLMHeadModel),
        ("gpt2", hf.GPT2Config(**shape), hf.GPT2LMHeadModel),
    ):
        model = random_weights(kind(config))
        write(name, model, IDS, logits=model(torch.tensor(IDS)).logits)
    config = hf.BertConfig(
        vocab_size=11, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=6,
    )  # fmt: skip
    model = random_weights(hf.BertForPreTraining(config))
    found = model(
        torch.tensor(IDS),
        attention_mask=torch.tensor(IDS != 0),
        token_type_ids=torch.tensor(SEGMENTS),
    )
    follows = found.seq_relationship_logits
    write("bert", model, IDS, segments=torch.tensor(SEGMENTS), logits=found.prediction_logits,
          follows=follows)  # fmt: skip


if __name__ == "__main__":
    main()
