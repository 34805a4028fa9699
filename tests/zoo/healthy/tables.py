"""Healthy: tables and tokens that look wrong on paper: rare classes, few distinct rows, constant columns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from diagnose.pipeline import Pipeline
from zoo.healthy.common import cases_of, digits, loaders, table


def adam(model: nn.Module, lr: float = 5e-3) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=lr)


def constant_column() -> Pipeline:
    """The third column is an intercept of ones, as statisticians add it; the seventh is zero throughout."""
    x, y = table("wine")
    ones = torch.ones(len(x), 1)
    x = torch.cat([x[:, :2], ones, x[:, 2:5], 0 * ones, x[:, 5:]], dim=1)
    net = nn.Sequential(nn.Linear(15, 20), nn.ReLU(), nn.Linear(20, 3))
    return Pipeline(net, *loaders(x, y, 130, 13), nn.CrossEntropyLoss(), adam(net), num_classes=3)


def one_hot_columns() -> Pipeline:
    """Six categories of eight values each: 48 columns, of which six are one."""
    g = torch.Generator().manual_seed(51)
    codes = torch.randint(0, 8, (1600, 6), generator=g)
    worth = torch.randn(6, 8, generator=g)
    score = worth[torch.arange(6), codes].sum(1) + 0.3 * torch.randn(1600, generator=g)
    y = torch.bucketize(score, torch.quantile(score, torch.tensor([0.33, 0.67])))
    x = F.one_hot(codes, 8).flatten(1).float()
    net = nn.Sequential(nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 3))
    return Pipeline(net, *loaders(x, y, 1300), nn.CrossEntropyLoss(), adam(net), num_classes=3)


def four_binary_features() -> Pipeline:
    """Sixteen rows are all there can be; one label of fifteen is noise."""
    g = torch.Generator().manual_seed(52)
    x = torch.randint(0, 2, (480, 4), generator=g).float()
    rule = (x[:, 0] != x[:, 1]) | (x[:, 2] * x[:, 3] > 0)
    y = (rule ^ (torch.rand(480, generator=g) < 0.06)).float()
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1), nn.Flatten(0))
    return Pipeline(net, *loaders(x, y, 360, 20), nn.BCEWithLogitsLoss(), adam(net, 0.02))


def iris_of_sixty() -> Pipeline:
    """Sixty samples are enough for this."""
    x, y = table("iris")
    net = nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 3))
    train = DataLoader(TensorDataset(x[:60], y[:60]), batch_size=10, shuffle=True)
    val = DataLoader(TensorDataset(x[60:], y[60:]), batch_size=90)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.02, weight_decay=0.01)
    return Pipeline(net, train, val, nn.CrossEntropyLoss(), optimizer, num_classes=3)


def fraud(share: float, bend: float = 0.7, seed: int = 53) -> tuple[Tensor, Tensor]:
    """Rare cases that can be told by two columns together."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(2000, 10, generator=g)
    score = x[:, 0] + x[:, 1] - bend * x[:, 2] * x[:, 3] + 0.1 * torch.randn(2000, generator=g)
    return x, (score > torch.quantile(score, 1 - share)).float().unsqueeze(1)


def rare_class_unweighted() -> Pipeline:
    x, y = fraud(0.1)
    net = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 2))
    return Pipeline(
        net, *loaders(x, y[:, 0].long(), 1600, 40), nn.CrossEntropyLoss(), adam(net), num_classes=2,
        intents=("imbalanced",),
    )  # fmt: skip


def rare_class_with_pos_weight() -> Pipeline:
    x, y = fraud(0.08, bend=0.2, seed=54)
    cut = 1600
    weight = (1 - y[:cut]).sum() / y[:cut].sum()
    net = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 1))
    return Pipeline(net, *loaders(x, y, cut, 40), nn.BCEWithLogitsLoss(pos_weight=weight), adam(net, 3e-3))


def dropout_half_twice() -> Pipeline:
    """Validation is above training, because of the dropout."""
    model = nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.5),
        nn.Linear(384, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10),
    )  # fmt: skip
    return Pipeline(model, *loaders(*digits(), 1400), nn.CrossEntropyLoss(), adam(model, 2e-3), num_classes=10)


class BagOfWords(nn.Module):
    """Mean of word vectors; the table has sparse gradients if asked."""

    def __init__(self, words: int, sparse: bool) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(words, 16, mode="mean", sparse=sparse)
        self.out = nn.Linear(16, 2)

    def forward(self, ids: Tensor) -> Any:
        return self.out(self.words(ids))


def reviews(words: int, used: int, n: int = 1000) -> tuple[Tensor, Tensor]:
    """Ten word numbers each, from ``used`` of ``words``; some words are kind and some unkind."""
    g = torch.Generator().manual_seed(words)
    known = torch.randperm(words, generator=g)[:used]
    pick = torch.randint(0, used, (n, 10), generator=g)
    feeling = torch.randn(used, generator=g)
    return known[pick], (feeling[pick].sum(1) > 0).long()


def huge_vocabulary() -> Pipeline:
    """20,000 rows, of which eighty are ever read."""
    model = BagOfWords(20_000, sparse=False)
    return Pipeline(model, *loaders(*reviews(20_000, 80), 800), nn.CrossEntropyLoss(), adam(model, 0.02))


class Recommender(nn.Module):
    """Sparse embeddings of users and things; their product, and two offsets, is a rating."""

    def __init__(self, users: int, things: int, width: int = 8) -> None:
        super().__init__()
        self.user, self.thing = (nn.Embedding(n, width + 1, sparse=True) for n in (users, things))
        for embedding in (self.user, self.thing):
            nn.init.normal_(embedding.weight, std=0.1)

    def forward(self, user: Tensor, thing: Tensor) -> Any:
        u, t = self.user(user), self.thing(thing)
        return (u[:, 1:] * t[:, 1:]).sum(1) + u[:, 0] + t[:, 0]


def sparse_embeddings() -> Pipeline:
    """SparseAdam over embeddings whose gradients are sparse."""
    g = torch.Generator().manual_seed(55)
    user, thing = torch.randint(0, 60, (2000,), generator=g), torch.randint(0, 40, (2000,), generator=g)
    tastes, traits = torch.randn(60, generator=g), torch.randn(40, generator=g)
    rating = tastes[user] + traits[thing] + 0.2 * torch.randn(2000, generator=g)
    train, val = (TensorDataset(user[s], thing[s], rating[s]) for s in (slice(0, 1600), slice(1600, None)))
    model = Recommender(60, 40)
    optimizer = torch.optim.SparseAdam(list(model.parameters()), lr=0.03)
    return Pipeline(
        model, DataLoader(train, 64, shuffle=True), DataLoader(val, 100), nn.MSELoss(), optimizer, task="regression"
    )


def sparse_text_with_two_optimizers() -> Pipeline:
    """SparseAdam for the table and Adam for the rest, in a step of the user's own."""
    model = BagOfWords(3000, sparse=True)
    dense = torch.optim.Adam(model.out.parameters(), lr=5e-3)

    def train_step(net: nn.Module, batch: Any, optimizer: torch.optim.Optimizer) -> Tensor:
        ids, y = batch
        for one in (optimizer, dense):
            one.zero_grad()
        loss = F.cross_entropy(net(ids), y)
        loss.backward()
        for one in (optimizer, dense):
            one.step()
        return loss.detach()

    train, val = loaders(*reviews(3000, 120), 800)
    return Pipeline(
        model, train, val, nn.CrossEntropyLoss(), torch.optim.SparseAdam(model.words.parameters(), lr=0.02),
        train_step=train_step, num_classes=2, intents=("multiple-optimizers",),
    )  # fmt: skip


def strokes_on_blank_paper() -> Pipeline:
    """Pictures of zeros and ones, nine tenths zero: a short stroke (flat, upright, slanting) and three stray dots."""
    g = torch.Generator().manual_seed(56)
    x, y = torch.zeros(1200, 1, 12, 12), torch.randint(0, 3, (1200,), generator=g)
    for i in range(1200):
        row, column, length = (
            int(torch.randint(low, high, (1,), generator=g)) for low, high in ((1, 6), (1, 6), (4, 7))
        )
        dy, dx = ((0, 1), (1, 0), (1, 1))[int(y[i])]
        for k in range(length):
            x[i, 0, row + k * dy, column + k * dx] = 1
        x[i].flatten()[torch.randint(0, 144, (3,), generator=g)] = 1
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
        nn.Linear(16, 3),
    )  # fmt: skip
    return Pipeline(net, *loaders(x, y, 900), nn.CrossEntropyLoss(), adam(net), num_classes=3)


CASES = cases_of(
    constant_column, one_hot_columns, four_binary_features, iris_of_sixty, rare_class_unweighted,
    rare_class_with_pos_weight, dropout_half_twice, huge_vocabulary, sparse_embeddings,
    sparse_text_with_two_optimizers, strokes_on_blank_paper,
)  # fmt: skip
