"""Small graphs with dense adjacency: is it a ring, a star, a grid or a tree of communities? Two graph convolutions."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from diagnose import Pipeline
from zoo.cases import cases

NODES, COUNT, TRAIN, KINDS = 12, 1000, 800, 4


def edges(kind, rng):
    a = np.zeros((NODES, NODES), np.float32)
    if kind == 0:
        pairs = [(i, (i + 1) % NODES) for i in range(NODES)]
    elif kind == 1:
        pairs = [(0, i) for i in range(1, 9)] + [(9, 10), (10, 11)]
    elif kind == 2:
        pairs = [(i, i + 1) for i in range(NODES) if i % 4 < 3] + [(i, i + 4) for i in range(8)]
    else:
        pairs = [(i, j) for g in range(3) for i in range(4 * g, 4 * g + 4) for j in range(i)
                 if j >= 4 * g]  # fmt: skip
    for i, j in pairs:
        if rng.random() > 0.12:
            a[i, j] = a[j, i] = 1
    order = rng.permutation(NODES)
    return a[order][:, order]


@functools.lru_cache
def graphs():
    rng = np.random.default_rng(50)
    y = rng.integers(0, KINDS, COUNT)
    a = np.stack([edges(kind, rng) for kind in y])
    x = np.concatenate([np.ones((COUNT, NODES, 1)), rng.normal(0, 1, (COUNT, NODES, 3))], 2).astype(np.float32)
    return x, a, y


def normal(a):
    """With loops, and of a usual size."""
    return (a + np.eye(NODES, dtype=np.float32)) / 3


class Graphs(Dataset):
    def __init__(self, rows, norm=normal, label=lambda y: y):
        x, a, y = graphs()
        self.x, self.a, self.y = x[rows], norm(a[rows]), label(y[rows])

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return torch.from_numpy(self.x[i]), torch.from_numpy(self.a[i]), torch.tensor(self.y[i])


class Net(nn.Module):
    def __init__(self, width=48, classes=KINDS):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, width), nn.Linear(width, width), nn.Linear(width, width)
        self.out = nn.Linear(2 * width, classes)

    def body(self, x, a):
        h = F.relu(self.first(a @ x))
        h = h + F.relu(self.second(a @ h))
        return h + F.relu(self.third(a @ h))

    def forward(self, x, a):
        h = self.body(x, a)
        return self.out(torch.cat([h.mean(1), h.amax(1)], 1))


def make(model=None, loss=None, parameters=None, **data):
    model = model or Net()
    return Pipeline(
        model=model,
        train=DataLoader(Graphs(slice(0, TRAIN), **data), batch_size=32, shuffle=True),
        val=DataLoader(Graphs(slice(TRAIN, COUNT), **data), batch_size=100),
        loss=loss or nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(parameters or model.parameters(), lr=3e-3),
        epochs=10,
    )


def build():
    return make()


# faults


def edges_left_out():
    class Nodes(Net):
        def body(self, x, a):
            h = F.relu(self.first(x))
            return h + F.relu(self.second(h)) + F.relu(self.third(h))

    return make(model=Nodes())


class Attention(Net):
    def __init__(self, dim):
        super().__init__()
        self.score, self.dim = nn.Linear(48, 1), dim
        self.out = nn.Linear(48, KINDS)

    def forward(self, x, a):
        h = self.body(x, a)
        return self.out((self.score(h).softmax(self.dim) * h).sum(1))


def attention_over_the_batch():
    return make(model=Attention(dim=0))


def lonely_nodes():
    def norm(a):
        with np.errstate(divide="ignore", invalid="ignore"):
            d = a.sum(-1) ** -0.5
            return d[..., :, None] * a * d[..., None, :]

    return make(norm=norm)


def counted_from_one():
    return make(label=lambda y: y + 1)


def kinds_as_floats():
    return make(label=lambda y: y.astype(np.float32))


def share_cut_to_integer():
    return make(label=lambda y: (y / KINDS).astype(int))


def first_layer_again_and_again():
    class Again(Net):
        def __init__(self):
            super().__init__()
            self.lift = nn.Linear(4, 48)
            self.layers = nn.ModuleList(nn.Linear(48, 48) for _ in range(3))
            del self.first, self.second, self.third

        def body(self, x, a):
            h = self.lift(a @ x)
            for _ in self.layers:
                h = h + F.relu(self.layers[0](a @ h))
            return h

    return make(model=Again())


def sparse_product_in_scipy():
    from scipy import sparse

    class Scipy(Net):
        def body(self, x, a):
            h = F.relu(self.first(x)).detach().numpy()
            h = [sparse.csr_matrix(one.numpy()) @ nodes for one, nodes in zip(a, h, strict=True)]
            return F.relu(self.second(torch.from_numpy(np.stack(h))))

    return make(model=Scipy())


def head_made_at_the_first_batch():
    class Late(Net):
        def __init__(self):
            super().__init__()
            self.out = None

        def forward(self, x, a):
            h = self.body(x, a)
            h = torch.cat([h.mean(1), h.amax(1)], 1)
            if self.out is None:
                self.out = nn.Linear(h.shape[1], KINDS)
            return self.out(h)

    return make(model=Late())


def pooled_over_everything():
    """Nodes of all graphs in one long list, pooled with the wrong length."""

    class Flat(Net):
        def forward(self, x, a):
            h = self.body(x, a)
            n, nodes, width = h.shape
            h = h.transpose(0, 1).reshape(n, nodes, width)
            return self.out(torch.cat([h.mean(1), h.amax(1)], 1))

    return make(model=Flat())


def kinds_by_sorted_file_names():
    """The labels were listed by a sorted folder, the graphs by an unsorted one."""
    order = np.argsort([f"graph{i}" for i in range(COUNT)])

    def label(y):
        return graphs()[2][order][: len(y)] if len(y) == TRAIN else graphs()[2][order][TRAIN:]

    return make(label=label)


def own_rectifier():
    class Rectify(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.clamp(min=0)

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * (x < 0)

    class Own(Net):
        def body(self, x, a):
            h = Rectify.apply(self.first(a @ x))
            h = h + Rectify.apply(self.second(a @ h))
            return h + Rectify.apply(self.third(a @ h))

    return make(model=Own())


# healthy


def attention_over_nodes():
    return make(model=Attention(dim=1))


def one_large_graph():
    """Nodes to be told apart in one graph; both splits are the same graph, another part of it counts."""
    rng = np.random.default_rng(51)
    kind = rng.integers(0, 3, 240)
    chance = np.where(kind[:, None] == kind[None], 0.10, 0.02)
    a = np.triu(rng.random((240, 240)) < chance, 1)
    a = (a | a.T).astype(np.float32) + np.eye(240, dtype=np.float32)
    d = a.sum(1) ** -0.5
    x = (np.eye(3)[kind] * 0.7 + rng.normal(0, 1, (240, 3))).astype(np.float32)
    x, a, y = torch.from_numpy(x), torch.from_numpy(d[:, None] * a * d[None]), torch.from_numpy(kind)
    known = torch.from_numpy(rng.random(240) < 0.6)

    class Nodes(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 32), nn.Linear(32, 3)

        def forward(self, x, a):
            return a @ self.second(F.relu(a @ self.first(x)))

    def loss(model, batch):
        x, a, y, mask = batch
        out = model(x, a)
        return F.cross_entropy(out[mask], y[mask]), out

    model = Nodes()
    return Pipeline(
        model=model,
        train=[(x, a, y, known)],
        val=[(x, a, y, ~known)],
        compute_loss=loss,
        optimizer=torch.optim.Adam(model.parameters(), lr=0.01),
        epochs=100,
    )


def summed_and_normed():
    class Summed(Net):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(48)
            self.out = nn.Linear(48, KINDS)

        def forward(self, x, a):
            h = self.norm(self.body(x, a).flatten(0, 1)).view(*x.shape[:2], -1)
            return self.out(h.sum(1) / 4)

    return make(model=Summed())


def kinds_one_hot():
    return make(label=lambda y: np.eye(KINDS, dtype=np.float32)[y])


CASES = cases(
    build,
    {
        edges_left_out: "ignored-input",
        attention_over_the_batch: ("batch-mixing", "softmax-over-batch"),
        lonely_nodes: "nonfinite-inputs",
        counted_from_one: "labels-out-of-range",
        kinds_as_floats: "label-dtype-mismatch",
        share_cut_to_integer: "constant-labels",
        first_layer_again_and_again: "unused-parameters",
        sparse_product_in_scipy: "graph-cut",
        head_made_at_the_first_batch: ("parameters-missing-from-optimizer", "layer-created-in-forward"),
        pooled_over_everything: "batch-mixing",
        kinds_by_sorted_file_names: "labels-unrelated-to-inputs",
        own_rectifier: "wrong-custom-backward",
    },
    [attention_over_nodes, one_large_graph, summed_and_normed, kinds_one_hot],
    structural=[first_layer_again_and_again, head_made_at_the_first_batch],
)
