"""Healthy: language models, translation, recognition and forecasting."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from diagnose.pipeline import Pipeline
from zoo.healthy.common import cases_of, digits

WORDS = 24


def sentences(n: int, length: int, seed: int = 31) -> Tensor:
    """Rows of a Markov chain of second order: the next word follows from two before it, nine times of ten."""
    g = torch.Generator().manual_seed(seed)
    rows = torch.randint(2, WORDS, (n, length), generator=g)
    for t in range(2, length):
        sure = torch.rand(n, generator=g) < 0.9
        rows[:, t] = torch.where(sure, 2 + (rows[:, t - 1] + 5 * (rows[:, t - 2] % 2)) % (WORDS - 2), rows[:, t])
    return rows


class CausalTransformer(nn.Module):
    """Post-norm encoder layers with a causal mask; the output weights are the embedding's."""

    mask: Tensor
    positions: Tensor

    def __init__(self, width: int = 32, length: int = 16) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, width)
        nn.init.normal_(self.embed.weight, std=width**-0.5)
        layer = nn.TransformerEncoderLayer(width, 4, 64, dropout=0.05, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2)
        self.bias = nn.Parameter(torch.zeros(WORDS))
        self.scale = math.sqrt(width)
        with torch.no_grad():
            t = torch.arange(length)[:, None] * torch.exp(torch.linspace(0, -4, width // 2))
            self.register_buffer("positions", torch.cat([t.sin(), t.cos()], dim=1))
        self.register_buffer("mask", torch.triu(torch.full((length, length), float("-inf")), 1), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        steps = ids.shape[1]
        x = self.embed(ids) * self.scale + self.positions[:steps]
        x = self.layers(x, mask=self.mask[:steps, :steps])
        return F.linear(x, self.embed.weight, self.bias)


def causal_model_with_tied_embedding() -> Pipeline:
    class Blocks(Dataset[tuple[Tensor, Tensor]]):
        """Inputs and the same one step on."""

        def __init__(self, rows: Tensor) -> None:
            self.rows = rows

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
            return self.rows[i, :-1], self.rows[i, 1:]

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits.reshape(-1, WORDS), target.reshape(-1))

    rows = sentences(600, 17)
    model = CausalTransformer()
    train = DataLoader(Blocks(rows[:500]), batch_size=20, shuffle=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95))
    return Pipeline(
        model, train, DataLoader(Blocks(rows[500:]), 50), loss, optimizer, clip_grad_norm=1.0, task="language-model"
    )


class Recurrent(nn.Module):
    """Time first: (L, N) words to (L, N, words) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn, self.out = nn.Embedding(WORDS, 24), nn.GRU(24, 64), nn.Linear(64, WORDS)

    def forward(self, ids: Tensor) -> Any:
        return self.out(self.rnn(self.embed(ids))[0])


def recurrent_model_time_first() -> Pipeline:
    """Batches of (L, N), cut from 20 columns of one long text, in order, as in PyTorch's word model."""
    columns = sentences(20, 701, seed=32).t()

    def batchify(part: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [(part[i : i + 20], part[i + 1 : i + 21]) for i in range(0, len(part) - 21, 20)]

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits.view(-1, WORDS), target.reshape(-1))

    model = Recurrent()
    return Pipeline(
        model, batchify(columns[:560]), batchify(columns[560:]), loss, torch.optim.Adam(model.parameters(), 5e-3),
        clip_grad_norm=0.25, task="custom",
    )  # fmt: skip


class Masked(nn.Module):
    def __init__(self, width: int = 40) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(WORDS, width), nn.Parameter(0.02 * torch.randn(14, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 80, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, WORDS))

    def forward(self, ids: Tensor) -> Any:
        return self.head(self.encoder(self.embed(ids) + self.place))


def masked_words() -> Pipeline:
    """About one word of six is hidden (token 0); every other place has the label -100."""
    g = torch.Generator().manual_seed(33)
    step = torch.randint(1, 4, (2000, 1), generator=g)
    rows = 2 + (torch.randint(0, 22, (2000, 1), generator=g) + step * torch.arange(14)) % 22
    hidden = torch.rand(rows.shape, generator=g) < 0.16
    hidden[:, 3] = True
    labels = rows.masked_fill(~hidden, -100)
    data = TensorDataset(rows.masked_fill(hidden, 0), labels)
    train, val = torch.utils.data.Subset(data, range(1700)), torch.utils.data.Subset(data, range(1700, 2000))

    def compute_loss(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        ids, wanted = batch
        logits = model(ids)
        return F.cross_entropy(logits.transpose(1, 2), wanted, ignore_index=-100), logits

    model = Masked()
    return Pipeline(
        model, DataLoader(train, 24, shuffle=True), DataLoader(val, 60), compute_loss=compute_loss,
        optimizer=torch.optim.AdamW(model.parameters(), lr=6e-3), task="custom",
    )  # fmt: skip


class Seq2Seq(nn.Module):
    """A GRU reads, another writes with attention over what was read; the target enters shifted by one."""

    def __init__(self, words: int = 14, width: int = 32) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(words, width), nn.Embedding(words, width)
        self.encoder = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.decoder = nn.GRU(width, width, batch_first=True)
        self.bridge, self.query = nn.Linear(2 * width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(3 * width, words)

    def forward(self, source: Tensor, target_in: Tensor) -> Any:
        memory, state = self.encoder(self.source(source))
        first = torch.tanh(self.bridge(torch.cat([state[0], state[1]], -1)))[None]
        hidden, _ = self.decoder(self.target(target_in), first)
        weights = (self.query(hidden) @ memory.transpose(1, 2) / 8).softmax(-1)
        return self.out(torch.cat([hidden, weights @ memory], -1))


def translation_with_teacher_forcing() -> Pipeline:
    """The target is the source backwards through a substitution table."""
    g = torch.Generator().manual_seed(34)
    table = 2 + torch.randperm(12, generator=g)
    source = torch.randint(0, 12, (1100, 6), generator=g)
    target = table[source.flip(1)]
    target_in = torch.cat([torch.ones(1100, 1, dtype=torch.long), target[:, :-1]], 1)

    def compute_loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        logits = model(batch["src"], batch["tgt_in"])
        return F.cross_entropy(logits.flatten(0, 1), batch["tgt_out"].flatten()), logits

    rows: Any = [{"src": a, "tgt_in": b, "tgt_out": c} for a, b, c in zip(source + 2, target_in, target, strict=True)]
    model = Seq2Seq()
    return Pipeline(
        model, DataLoader(rows[:900], 30, shuffle=True), DataLoader(rows[900:], 50), compute_loss=compute_loss,
        optimizer=torch.optim.Adam(model.parameters(), lr=8e-3), clip_grad_norm=1.0, task="custom",
    )  # fmt: skip


class Reader(nn.Module):
    """Reads a strip of digits: two convolutions, one column of scores for each two pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 24, (8, 5), padding=(0, 2)), nn.BatchNorm2d(24), nn.ReLU(),
            nn.Conv2d(24, 48, (1, 5), stride=(1, 2), padding=(0, 2)), nn.BatchNorm2d(48), nn.ReLU(),
        )  # fmt: skip
        self.out = nn.Conv1d(48, 11, 3, padding=1)

    def forward(self, strip: Tensor) -> Tensor:
        return F.log_softmax(self.out(self.cnn(strip).squeeze(2)), dim=1).permute(2, 0, 1)


def strips_by_ctc() -> Pipeline:
    """Two to four digits in a strip, blank is 10, lengths differ."""
    images, classes = digits()
    g = torch.Generator().manual_seed(35)

    def strips(first: int, last: int, n: int) -> list[tuple[Tensor, Tensor]]:
        made = []
        for _ in range(n):
            pick = first + torch.randint(0, last - first, (int(torch.randint(2, 5, (1,), generator=g)),), generator=g)
            made.append((torch.cat(list(images[pick]), -1), classes[pick]))
        return made

    def collate(rows: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        strips = torch.stack([F.pad(strip, (0, 32 - strip.shape[-1])) for strip, _ in rows])
        widths = torch.tensor([strip.shape[-1] // 2 for strip, _ in rows])
        return strips, widths, torch.cat([y for _, y in rows]), torch.tensor([len(y) for _, y in rows])

    def compute_loss(model: nn.Module, batch: Any) -> Tensor:
        strips, widths, text, lengths = batch
        return F.ctc_loss(model(strips), text, widths, lengths, blank=10, zero_infinity=True)

    model = Reader()
    train: Any = strips(0, 1400, 640)
    val: Any = strips(1400, 1797, 120)
    return Pipeline(
        model, DataLoader(train, 16, shuffle=True, collate_fn=collate), DataLoader(val, 40, collate_fn=collate),
        compute_loss=compute_loss, optimizer=torch.optim.Adam(model.parameters(), lr=5e-3), task="custom",
    )  # fmt: skip


class Forecaster(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.out = nn.GRU(1, 32, batch_first=True), nn.Linear(32, 1)

    def forward(self, window: Tensor) -> Any:
        return self.out(self.gru(window)[0][:, -1])


def forecast_split_in_time() -> Pipeline:
    """Overlapping windows of one series; validation is what comes later, behind a gap."""
    t = torch.arange(1400.0)
    series = (
        (t / 9).sin() + 0.5 * (t / 3.7).cos() + 0.1 * torch.randn(1400, generator=torch.Generator().manual_seed(36))
    )
    mean, std = series[:1050].mean(), series[:1050].std()
    windows = ((series - mean) / std).unfold(0, 25, 1)
    x, y = windows[:, :24].unsqueeze(-1), windows[:, 24:]
    train, val = TensorDataset(x[:1000], y[:1000]), TensorDataset(x[1060:], y[1060:])
    model = Forecaster()
    return Pipeline(
        model, DataLoader(train, 40, shuffle=True), DataLoader(val, 100), nn.MSELoss(),
        torch.optim.Adam(model.parameters(), lr=5e-3), task="regression",
    )  # fmt: skip


CASES = cases_of(
    causal_model_with_tied_embedding, recurrent_model_time_first, masked_words, translation_with_teacher_forcing,
    strips_by_ctc, forecast_split_in_time,
)  # fmt: skip
