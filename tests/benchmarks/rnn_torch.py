"""The training step of `rnn_train.py`, written as tutorials of PyTorch do."""

import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from worker import serve


class Model(torch.nn.Module):
    """A two-layer LSTM encoder, and a decoder that attends and feeds its attention back."""

    def __init__(self, settings, arrays):
        super().__init__()
        units, vocabulary = settings["units"], settings["vocabulary"]
        self.source_embedding = torch.nn.Embedding(vocabulary, units, sparse=True)
        self.target_embedding = torch.nn.Embedding(vocabulary, units, sparse=True)
        self.encoder = torch.nn.LSTM(units, units, num_layers=2, batch_first=True)
        self.decoder = torch.nn.ModuleList(
            [torch.nn.LSTMCell(2 * units, units), torch.nn.LSTMCell(units, units)]
        )
        self.query = torch.nn.Linear(units, units, bias=False)
        self.memory = torch.nn.Linear(units, units, bias=False)
        self.v = torch.nn.Parameter(torch.empty(units))
        self.attention = torch.nn.Linear(2 * units, units, bias=False)
        self.output = torch.nn.Linear(units, vocabulary)
        with torch.no_grad():
            self._load(arrays)

    def _load(self, arrays):
        arrays = {name: torch.tensor(array) for name, array in arrays.items()}
        self.source_embedding.weight.copy_(arrays["source_embedding"])
        self.target_embedding.weight.copy_(arrays["target_embedding"])
        for layer, name in (
            (self.query, "query"),
            (self.memory, "memory"),
            (self.attention, "attention"),
            (self.output, "output_kernel"),
        ):
            layer.weight.copy_(arrays[name].T)
        self.v.copy_(arrays["v"])
        self.output.bias.copy_(arrays["output_bias"])
        for i in range(2):
            for role, owner, end in (
                ("encoder", self.encoder, f"_l{i}"),
                ("decoder", self.decoder[i], ""),
            ):
                getattr(owner, f"weight_ih{end}").copy_(arrays[f"{role}_{i}_kernel"].T)
                getattr(owner, f"weight_hh{end}").copy_(arrays[f"{role}_{i}_recurrent"].T)
                getattr(owner, f"bias_ih{end}").copy_(arrays[f"{role}_{i}_bias"])
                second = getattr(owner, f"bias_hh{end}")  # the other sides have one bias
                second.zero_().requires_grad_(False)

    def forward(self, source, source_lengths, target_in):
        packed = pack_padded_sequence(
            self.source_embedding(source), source_lengths, batch_first=True, enforce_sorted=False
        )
        encoded, (h, c) = self.encoder(packed)
        encoded, _ = pad_packed_sequence(encoded, batch_first=True, total_length=source.shape[1])
        states = [(h[i], c[i]) for i in range(2)]
        keys = self.memory(encoded)
        beyond = torch.arange(source.shape[1]) >= source_lengths[:, None]
        attention, attentions = torch.zeros_like(h[0]), []
        for inputs in self.target_embedding(target_in).unbind(1):
            x = torch.cat([inputs, attention], 1)
            for i, cell in enumerate(self.decoder):
                states[i] = cell(x, states[i])
                x = states[i][0]
            scores = torch.tanh(self.query(x)[:, None] + keys) @ self.v
            weights = scores.masked_fill(beyond, -torch.inf).softmax(1)
            context = torch.bmm(weights[:, None], encoded)[:, 0]
            attention = self.attention(torch.cat([x, context], 1))
            attentions.append(attention)
        return self.output(torch.stack(attentions, 1))  # once, after the loop


def train(settings, arrays):
    model = Model(settings, arrays)
    data = {name: torch.tensor(arrays[name]).long() for name in settings["inputs"]}
    steps = data["target_out"].shape[1]
    beyond = torch.arange(steps) >= data["target_lengths"][:, None]
    targets = data["target_out"].masked_fill(beyond, -100).flatten()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(weights, 0.1)

    def step():
        optimizer.zero_grad(set_to_none=True)
        logits = model(data["source"], data["source_lengths"], data["target_in"])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


if __name__ == "__main__":
    serve({"train": train})
