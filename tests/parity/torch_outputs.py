"""What torch gives, with the weights it gives it for: run by a Python that has torch.

    python torch_outputs.py FOLDER [SEED]

writes FOLDER/torch_outputs.npz: for each case its sizes, weights by torch's names, inputs, masks
(True = may look, unlike torch's own) and outputs.
"""

import itertools
import pathlib
import sys

import numpy as np
import torch

B, S, T, D, H = 2, 5, 4, 8, 2


def drawn(module):
    """Every weight from N(0, 0.3): torch begins with zeros and ones that would hide mistakes."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(0.0, 0.3)
    return module.train()  # without dropout the same numbers, and no short cuts


def masks():
    """Which of the sources and of the targets are real; none of a row is nowhere."""
    source = torch.arange(S) < torch.tensor([[S], [3]])
    target = torch.arange(T) < torch.tensor([[2], [T]])
    return source, target


def attention(bias, key_width, value_width):
    """Cross-attention to a memory of other widths, if these are given."""
    layer = torch.nn.MultiheadAttention(
        D, H, bias=bias, kdim=key_width, vdim=value_width, batch_first=True
    )
    drawn(layer)
    query = torch.randn(B, T, D)
    memory = torch.randn(B, S, key_width or D)
    source, _ = masks()
    output, weights = layer(
        query, memory, memory, key_padding_mask=~source, average_attn_weights=False
    )
    future = torch.triu(torch.ones(T, T, dtype=torch.bool), 1)
    causal, _ = layer(query, *[query if key_width is None else memory[:, :T]] * 2, attn_mask=future)
    return layer, {
        "query": query, "memory": memory, "mask": source, "output": output,
        "weights": weights, "causal": causal,
    }  # fmt: skip


def transformer(pre):
    """Post-norm without the last norms, which the paper does not have; pre-norm with them."""
    sizes = dict(
        d_model=D, nhead=H, dim_feedforward=12, dropout=0.0, layer_norm_eps=1e-6,
        batch_first=True, norm_first=pre,
    )  # fmt: skip
    model = torch.nn.Transformer(**sizes, num_encoder_layers=2, num_decoder_layers=2)
    if not pre:
        model.encoder.norm = model.decoder.norm = None
    drawn(model)
    source, target = torch.randn(B, S, D), torch.randn(B, T, D)
    source_mask, target_mask = masks()
    future = torch.triu(torch.ones(T, T, dtype=torch.bool), 1)
    hidden = {"src_key_padding_mask": ~source_mask}
    output = model(
        source, target, tgt_mask=future, tgt_key_padding_mask=~target_mask,
        memory_key_padding_mask=~source_mask, **hidden,
    )  # fmt: skip
    return model, {
        "source": source, "target": target, "source_mask": source_mask,
        "target_mask": target_mask, "encoded": model.encoder(source, **hidden), "output": output,
    }  # fmt: skip


def main(folder, seed=0):
    torch.manual_seed(int(seed))
    cases = {
        f"attention_{bias}_{width}": attention(bias, width, width)
        for bias, width in itertools.product((True, False), (None, 6))
    }
    cases |= {"post": transformer(False), "pre": transformer(True)}
    arrays = {}
    for name, (module, tensors) in cases.items():
        weights = {f"weight:{key}": value for key, value in module.state_dict().items()}
        for key, value in {**weights, **tensors}.items():
            arrays[f"{name}|{key}"] = value.detach().numpy()
    np.savez_compressed(pathlib.Path(folder) / "torch_outputs.npz", **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
