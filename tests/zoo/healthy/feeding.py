"""Healthy: data sets and loaders that are unusual and right."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, WeightedRandomSampler, get_worker_info

from diagnose.pipeline import Pipeline
from zoo.healthy.common import cases_of, digits, loaders, shapes, table


def mlp(*sizes: int, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), act()]
    return nn.Sequential(*layers[:-1])


def fit(model: nn.Module, lr: float = 3e-3) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=lr)


class Shards(IterableDataset[tuple[Tensor, int]]):
    """Each worker reads its own share; no length; the order is drawn anew each time."""

    def __init__(self, count: int = 1200) -> None:
        self.count = count

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        info = get_worker_info()
        first, step = (info.id, info.num_workers) if info else (0, 1)
        x, y = digits()
        mine = torch.arange(self.count)[first::step]
        for index in mine[torch.randperm(len(mine))].tolist():
            yield x[index], int(y[index])


def sharded_stream() -> Pipeline:
    model = mlp(64, 64, 10)
    train = DataLoader(Shards(), batch_size=32, num_workers=2)
    return Pipeline(model, train, loaders(*digits(), 1200)[1], nn.CrossEntropyLoss(), fit(model), num_classes=10)


class Forever:
    """A loader that begins again when it ends; not a DataLoader, and without a length."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield from self.loader


def infinite_loader() -> Pipeline:
    model = mlp(64, 64, 10, act=nn.SiLU)
    train, val = loaders(*digits(), 1200)
    return Pipeline(model, Forever(train), val, nn.CrossEntropyLoss(), fit(model), num_classes=10)


class SetOfPaths(nn.Module):
    """Takes a list of tensors of unlike lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.point = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 32))
        self.head = nn.Linear(64, 3)

    def forward(self, paths: list[Tensor]) -> Any:
        pooled = [torch.cat([h.mean(0), h.amax(0)]) for h in map(self.point, paths)]
        return self.head(torch.stack(pooled))


def walks(count: int = 600) -> list[tuple[Tensor, int]]:
    """Paths of 5 to 14 points: a drift, a circle or a shaking, with noise."""
    g = torch.Generator().manual_seed(12)
    samples = []
    for _ in range(count):
        kind = int(torch.randint(0, 3, (1,), generator=g))
        t = torch.linspace(0, 1, int(torch.randint(5, 15, (1,), generator=g)))
        angle = 6.28 * (t + torch.rand(1, generator=g))
        forms = ([2 * t - 1, t, t - 1], [angle.cos(), angle.sin(), 0 * t], [1 - 2 * (t * 10 % 2).floor(), 0 * t, 0 * t])
        path = torch.stack(forms[kind], 1)
        samples.append((path + 0.25 * torch.randn(len(t), 3, generator=g), kind))
    return samples


def list_of_tensors() -> Pipeline:
    def keep_list(samples: list[tuple[Tensor, int]]) -> tuple[list[Tensor], Tensor]:
        return [path for path, _ in samples], torch.tensor([kind for _, kind in samples])

    data: Any = walks()
    model = SetOfPaths()
    train = DataLoader(data[:480], batch_size=16, shuffle=True, collate_fn=keep_list)
    val = DataLoader(data[480:], batch_size=40, collate_fn=keep_list)
    return Pipeline(model, train, val, nn.CrossEntropyLoss(), fit(model), num_classes=3)


class Packed(nn.Module):
    """A bidirectional LSTM over packed sequences; the last states of both directions are read."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 20, batch_first=True, bidirectional=True)
        self.head = nn.Linear(40, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        _, (h, _) = self.lstm(pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False))
        return self.head(torch.cat([h[0], h[1]], dim=1))


def packed_sequences() -> Pipeline:
    def collate(samples: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor, Tensor]:
        paths = [path for path, _ in samples]
        lengths = torch.tensor([len(path) for path in paths])
        return pad_sequence(paths, batch_first=True), lengths, torch.tensor([kind for _, kind in samples])

    data: Any = walks()
    model = Packed()
    train = DataLoader(data[:480], batch_size=20, shuffle=True, collate_fn=collate)
    val = DataLoader(data[480:], batch_size=40, collate_fn=collate)
    return Pipeline(model, train, val, nn.CrossEntropyLoss(), fit(model, 1e-2), clip_grad_norm=5.0, num_classes=3)


class Tagger(nn.Module):
    """A label for each step; padding is packed away and its labels are -100."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 16, padding_idx=0)
        self.rnn = nn.LSTM(16, 24, batch_first=True, bidirectional=True)
        self.out = nn.Linear(48, 3)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Any:
        packed = pack_padded_sequence(self.embed(tokens), lengths, batch_first=True, enforce_sorted=False)
        hidden, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=tokens.shape[1])
        return self.out(hidden)


def lstm_tagger() -> Pipeline:
    """Tag 1 behind an opening token, tag 2 before a closing one: both directions are needed."""
    g = torch.Generator().manual_seed(13)
    samples: Any = []
    for _ in range(700):
        tokens = torch.randint(1, 30, (int(torch.randint(6, 15, (1,), generator=g)),), generator=g)
        tags = torch.zeros_like(tokens)
        tags[:-1][tokens[1:] > 24] = 2
        tags[1:][tokens[:-1] < 6] = 1
        samples.append((tokens, tags))

    def collate(rows: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
        tokens, tags = zip(*rows, strict=True)
        lengths = torch.tensor([len(t) for t in tokens])
        return pad_sequence(list(tokens), True), lengths, pad_sequence(list(tags), True, padding_value=-100)

    def loss(logits: Tensor, tags: Tensor) -> Tensor:
        return F.cross_entropy(logits.flatten(0, 1), tags.flatten(), ignore_index=-100)

    model = Tagger()
    train = DataLoader(samples[:560], batch_size=16, shuffle=True, collate_fn=collate)
    val = DataLoader(samples[560:], batch_size=70, collate_fn=collate)
    return Pipeline(model, train, val, loss, fit(model, 1e-2), task="custom")


def sorted_on_disk_shuffled_by_loader() -> Pipeline:
    x, y = digits()
    train_x, train_y = x[:1200], y[:1200]
    order = train_y.argsort()
    train = DataLoader(TensorDataset(train_x[order], train_y[order]), batch_size=32, shuffle=True)
    model = mlp(64, 48, 10)
    return Pipeline(model, train, loaders(x, y, 1200)[1], nn.CrossEntropyLoss(), fit(model), num_classes=10)


def shuffled_once_read_in_order() -> Pipeline:
    x, y = table("breast_cancer")
    model = mlp(30, 16, 2, act=nn.Tanh)
    batches = list(zip(torch.split(x[:420], 20), torch.split(y[:420], 20), strict=True))
    return Pipeline(model, batches, [(x[420:], y[420:])], nn.CrossEntropyLoss(), fit(model), num_classes=2)


def validation_of_eight() -> Pipeline:
    """Fewer samples in validation than there are classes."""
    x, y = digits()
    model = mlp(64, 48, 10)
    return Pipeline(
        model, loaders(x, y, 1400)[0], DataLoader(TensorDataset(x[1500:1508], y[1500:1508]), batch_size=8),
        nn.CrossEntropyLoss(), fit(model), num_classes=10,
    )  # fmt: skip


def rare(share: int = 8) -> tuple[Tensor, Tensor]:
    """Shapes: all discs and squares as one class, one of ``share`` of the stripes as the other."""
    x, y = shapes(16, 16, 2400)
    keep = (y < 2) | ((y == 4) & (torch.arange(len(y)) % share == 0))
    return x[keep], (y[keep] == 4).long()


def balancing_sampler() -> Pipeline:
    x, y = rare()
    cut = int(0.75 * len(y))
    counts = torch.bincount(y[:cut]).float()
    sampler = WeightedRandomSampler((1 / counts)[y[:cut]].tolist(), num_samples=cut, replacement=True)
    net = nn.Sequential(nn.Conv2d(3, 12, 5, 2, 2), nn.BatchNorm2d(12), nn.ReLU(), *mlp(768, 32, 2))
    train = DataLoader(TensorDataset(x[:cut], y[:cut]), batch_size=32, sampler=sampler)
    return Pipeline(net, train, loaders(x, y, cut)[1], nn.CrossEntropyLoss(), fit(net, 2e-3), num_classes=2)


def class_weights() -> Pipeline:
    x, y = rare(4)
    cut = int(0.75 * len(y))
    counts = torch.bincount(y[:cut]).float()
    net = nn.Sequential(nn.Conv2d(3, 12, 5, 2, 2), nn.BatchNorm2d(12), nn.ReLU(), *mlp(768, 32, 2))
    weight = counts.sum() / (2 * counts)
    return Pipeline(net, *loaders(x, y, cut), nn.CrossEntropyLoss(weight=weight), fit(net, 2e-3), num_classes=2)


CASES = cases_of(
    sharded_stream, infinite_loader, list_of_tensors, packed_sequences, lstm_tagger, sorted_on_disk_shuffled_by_loader,
    shuffled_once_read_in_order, validation_of_eight, balancing_sampler, class_weights,
)  # fmt: skip
