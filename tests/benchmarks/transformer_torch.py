"""A training step of torch.nn.Transformer, float32 or bfloat16 by autocast, eager or compiled."""

import torch
from worker import serve


class Model(torch.nn.Module):
    """torch.nn.Transformer around one embedding."""

    def __init__(self, settings, arrays):
        super().__init__()
        sizes = {
            "d_model": settings["width"],
            "nhead": settings["heads"],
            "dim_feedforward": settings["hidden"],
            "dropout": 0.0,
            "layer_norm_eps": settings["epsilon"],
            "batch_first": True,
        }
        layer = torch.nn.TransformerEncoderLayer(**sizes)
        encoder = torch.nn.TransformerEncoder(layer, settings["layers"])
        decoder_layer = torch.nn.TransformerDecoderLayer(**sizes)
        decoder = torch.nn.TransformerDecoder(decoder_layer, settings["layers"])  # no last norm
        self.transformer = torch.nn.Transformer(
            **sizes, custom_encoder=encoder, custom_decoder=decoder
        )
        self.embedding = torch.nn.Parameter(torch.tensor(arrays["embedding"]))
        self.register_buffer("positions", torch.tensor(arrays["positions"]))
        with torch.no_grad():
            for role, layers in (("encoder", encoder.layers), ("decoder", decoder.layers)):
                for i, one in enumerate(layers):
                    self._load(one, f"{role}_{i}", arrays)

    def _load(self, layer, name, arrays):
        def get(part, turned=False):
            array = torch.tensor(arrays[f"{name}_{part}"])
            return array.T if turned else array

        attentions = {"self": (layer.self_attn, layer.norm1)}
        if hasattr(layer, "multihead_attn"):
            attentions["cross"] = (layer.multihead_attn, layer.norm2)
        for part, (attention, norm) in attentions.items():
            kinds = [get(f"{part}_{kind}", turned=True) for kind in ("query", "key", "value")]
            attention.in_proj_weight.copy_(torch.cat(kinds))
            attention.out_proj.weight.copy_(get(f"{part}_output", turned=True))
            for bias in (attention.in_proj_bias, attention.out_proj.bias):
                bias.zero_().requires_grad_(False)  # the other sides have none
            norm.weight.copy_(get(f"{part}_gamma"))
            norm.bias.copy_(get(f"{part}_beta"))
        for linear, way in ((layer.linear1, "in"), (layer.linear2, "out")):
            linear.weight.copy_(get(f"feed_forward_{way}", turned=True))
            linear.bias.copy_(get(f"feed_forward_{way}_bias"))
        norm = layer.norm3 if "cross" in attentions else layer.norm2
        norm.weight.copy_(get("feed_forward_gamma"))
        norm.bias.copy_(get("feed_forward_beta"))

    def forward(self, source, target_in):
        def embed(ids):
            rows = torch.nn.functional.embedding(ids, self.embedding)
            return rows * rows.shape[-1] ** 0.5 + self.positions[: ids.shape[1]]

        steps = target_in.shape[1]
        hidden = self.transformer(
            embed(source),
            embed(target_in),
            tgt_mask=torch.ones(steps, steps, dtype=torch.bool).triu(1),
            src_key_padding_mask=source == 0,
            memory_key_padding_mask=source == 0,
            tgt_is_causal=True,
        )
        return torch.nn.functional.linear(hidden, self.embedding)


def train(settings, arrays):
    model = Model(settings, arrays).train()
    call = torch.compile(model) if settings["compile"] else model
    names = ("source", "target_in", "target_out")
    source, target_in, target_out = (torch.tensor(arrays[name]).long() for name in names)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(weights, settings["rate"])
    low = settings["dtype"] == "bfloat16"

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            logits = call(source, target_in)
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), target_out.flatten(), ignore_index=0
        )
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


if __name__ == "__main__":
    serve({"train": train})
