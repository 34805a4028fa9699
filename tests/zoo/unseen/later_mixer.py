"""An MLP-Mixer on the bundled digits, in patches of two by two pixels; a loop of its own in some of its variants."""

from __future__ import annotations

import copy
import functools

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose import Pipeline
from zoo.cases import cases

TRAIN, WIDTH, PATCHES = 1500, 32, 16


@functools.lru_cache
def digits():
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(90))
    images = torch.tensor(data.images, dtype=torch.float32)[order, None] / 8 - 1
    return images, torch.tensor(data.target)[order]


def mlp(size, hidden, act):
    return nn.Sequential(nn.Linear(size, hidden), act(), nn.Linear(hidden, size))


class Block(nn.Module):
    def __init__(self, act=nn.GELU, turn=(1, 2)):
        super().__init__()
        self.one, self.two = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.tokens, self.channels, self.turn = mlp(PATCHES, 32, act), mlp(WIDTH, 64, act), turn

    def forward(self, x):
        x = x + self.tokens(self.one(x).transpose(*self.turn)).transpose(*self.turn)
        return x + self.channels(self.two(x))


class Mixer(nn.Module):
    def __init__(self, block=Block, depth=2, classes=10):
        super().__init__()
        self.patch = nn.Conv2d(1, WIDTH, 2, stride=2)
        self.blocks = nn.Sequential(*(block() for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, classes)

    def embed(self, x):
        return self.patch(x).flatten(2).transpose(1, 2)

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.embed(x)).mean(1)))


def make(model=None, optimizer=None, loss=None, data=None, train_step=None, val_data=None, batch=64, **rest):
    model = model or Mixer()
    x, y = data or digits()
    vx, vy = val_data or (x[TRAIN:], y[TRAIN:])
    return Pipeline(
        model=model,
        train=DataLoader(TensorDataset(x[:TRAIN], y[:TRAIN]), batch_size=batch, shuffle=True),
        val=DataLoader(TensorDataset(vx, vy), batch_size=100),
        loss=loss or nn.CrossEntropyLoss(),
        optimizer=optimizer or torch.optim.AdamW(model.parameters(), lr=3e-3),
        train_step=train_step,
        epochs=6,
        **rest,
    )


def build():
    return make()


# faults


def average_trained_instead():
    model = Mixer()
    average = copy.deepcopy(model)
    return make(model=average, optimizer=torch.optim.AdamW(model.parameters(), lr=3e-3))


class Gelu(torch.autograd.Function):
    """The sigmoid approximation; its derivative lacks the second term, and has another sign for the first."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(1.702 * x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return -g * torch.sigmoid(1.702 * x)


def activation_with_its_own_derivative():
    class Own(nn.Module):
        def forward(self, x):
            return Gelu.apply(x)

    return make(model=Mixer(block=lambda: Block(act=Own)))


def gates_shut():
    """A gate on each branch that begins at zero, behind a ReLU, so that it never opens; and one on the stem."""

    class Gated(Mixer):
        def __init__(self):
            super().__init__()
            self.gate = nn.Parameter(torch.zeros(WIDTH))

        def embed(self, x):
            return super().embed(x) * F.relu(self.gate)

    return make(model=Gated())


def blocks_in_a_plain_list():
    class Listed(Mixer):
        def __init__(self):
            super().__init__()
            del self.blocks
            self.blocks = [Block() for _ in range(3)]

        def forward(self, x):
            x = self.embed(x)
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x.mean(1)))

    return make(model=Listed())


def halved_and_averaged():
    """Four batches are gathered before a step, and their losses are summed."""

    def step(model, batch, optimizer):
        x, y = batch
        optimizer.zero_grad()
        for part, label in zip(x.chunk(16), y.chunk(16), strict=True):
            loss = F.cross_entropy(model(part), label)
            loss.backward()
        optimizer.step()
        return loss.detach()

    model = Mixer()
    return make(model=model, train_step=step, optimizer=torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))


def sigmoids_all_the_way():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            layers = [nn.Flatten(), nn.Linear(64, 64), nn.Sigmoid()]
            for _ in range(7):
                layers += [nn.Linear(64, 64), nn.Sigmoid()]
            self.net = nn.Sequential(*layers, nn.Linear(64, 10))

        def forward(self, x):
            return self.net(x)

    return make(model=Deep())


def same_start_for_all():
    model = Mixer()
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.constant_(layer.weight, 0.02)
            nn.init.zeros_(layer.bias)
    return make(model=model)


def negative_likelihood_of_softmax():
    class Sure(Mixer):
        def forward(self, x):
            return super().forward(x).softmax(-1)

    return make(model=Sure(), loss=nn.NLLLoss())


def log_of_softmax_by_hand():
    def loss(output, target):
        picked = torch.softmax(output, 1)[torch.arange(len(target)), target]
        return -torch.log(picked).mean()

    return make(loss=loss)


def evaluated_on_training_rows():
    x, y = digits()
    return make(val_data=(x[TRAIN - 297 : TRAIN], y[TRAIN - 297 : TRAIN]))


def optimizer_before_reset():
    model = Mixer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for name, parameter in list(model.named_parameters()):
        owner, leaf = name.rsplit(".", 1)
        setattr(model.get_submodule(owner), leaf, nn.Parameter(parameter.detach().clone()))
    return make(model=model, optimizer=optimizer)


def tanh_before_the_loss():
    class Bounded(Mixer):
        def forward(self, x):
            return torch.tanh(super().forward(x))

    return make(model=Bounded())


def device_of_another_machine():
    class Placed(Mixer):
        def forward(self, x):
            return super().forward(x) + torch.zeros(10, device="meta")

    return make(model=Placed())


# healthy


def branches_begin_at_zero():
    class Zero(Block):
        def __init__(self):
            super().__init__()
            for branch in (self.tokens, self.channels):
                nn.init.zeros_(branch[-1].weight)
                nn.init.zeros_(branch[-1].bias)

    return make(model=Mixer(block=Zero))


def averaged_weights():
    """The slow copy is what is looked at in evaluation."""

    class Averaged(nn.Module):
        def __init__(self):
            super().__init__()
            self.fast = Mixer()
            self.slow = copy.deepcopy(self.fast).requires_grad_(False)

        def forward(self, x):
            return self.fast(x) if self.training else self.slow(x)

    def step(model, batch, optimizer):
        x, y = batch
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(model.slow.parameters(), model.fast.parameters(), strict=True):
                slow.lerp_(fast, 0.1)
        return loss.detach()

    model = Averaged()
    return make(model=model, train_step=step, optimizer=torch.optim.AdamW(model.fast.parameters(), lr=3e-3))


def gathered_and_averaged():
    def step(model, batch, optimizer):
        x, y = batch
        optimizer.zero_grad()
        total = 0.0
        for part, label in zip(x.chunk(4), y.chunk(4), strict=True):
            loss = F.cross_entropy(model(part), label) * len(part) / len(x)
            loss.backward()
            total += loss.item()
        optimizer.step()
        return torch.tensor(total)

    return make(train_step=step)


def own_straight_through():
    """Rounded weights whose gradient goes straight through, on purpose."""

    class Rounded(nn.Linear):
        def forward(self, x):
            scale = self.weight.detach().abs().mean()
            rounded = (self.weight / scale).round().clamp(-3, 3) * scale
            return F.linear(x, self.weight + (rounded - self.weight).detach(), self.bias)

    class Block3(Block):
        def __init__(self):
            super().__init__()
            self.channels = nn.Sequential(Rounded(WIDTH, 64), nn.GELU(), Rounded(64, WIDTH))

    return make(model=Mixer(block=Block3))


def few_and_ordered_batches():
    """Sixty pictures in the order of a balanced design, one of each kind after the other, never shuffled."""
    x, y = digits()
    rows = torch.stack([torch.nonzero(y[:TRAIN] == k)[:60, 0] for k in range(10)], 1).flatten()
    pipeline = make()
    pipeline.train = DataLoader(TensorDataset(x[rows], y[rows]), batch_size=50, shuffle=False)
    return pipeline


def two_optimizers_in_one_step():
    model = Mixer()
    head = torch.optim.SGD(model.head.parameters(), lr=0.05)

    def step(model, batch, optimizer):
        x, y = batch
        optimizer.zero_grad()
        head.zero_grad()
        loss = F.cross_entropy(model(x), y, label_smoothing=0.05)
        loss.backward()
        optimizer.step()
        head.step()
        return loss.detach()

    body = [p for name, p in model.named_parameters() if not name.startswith("head")]
    return make(
        model=model, train_step=step, optimizer=torch.optim.AdamW(body, lr=3e-3), intents=("multiple-optimizers",)
    )


CASES = cases(
    build,
    {
        average_trained_instead: ("stale-optimizer-parameters", "parameters-missing-from-optimizer"),
        activation_with_its_own_derivative: "wrong-custom-backward",
        gates_shut: ("zero-gradient", "graph-cut", "dead-relu"),
        blocks_in_a_plain_list: "unregistered-modules",
        halved_and_averaged: "accumulation-not-averaged",
        sigmoids_all_the_way: ("vanishing-gradient", "saturated-activations", "vanishing-initialisation"),
        same_start_for_all: "symmetric-initialisation",
        negative_likelihood_of_softmax: "nll-on-probabilities",
        log_of_softmax_by_hand: "unstable-log",
        evaluated_on_training_rows: "train-val-leakage",
        optimizer_before_reset: ("stale-optimizer-parameters", "parameters-missing-from-optimizer"),
        tanh_before_the_loss: "activation-on-logits",
        device_of_another_machine: ("device-mismatch", "user-code-error"),
    },
    [
        branches_begin_at_zero, averaged_weights, gathered_and_averaged, own_straight_through, few_and_ordered_batches,
        two_optimizers_in_one_step,
    ],
    structural=[
        log_of_softmax_by_hand, negative_likelihood_of_softmax, evaluated_on_training_rows, average_trained_instead,
    ],
)  # fmt: skip
