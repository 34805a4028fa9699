"""A backbone that knows the digits 0 to 4, frozen; a new head for 5 to 9."""

from __future__ import annotations

import functools

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose import Pipeline
from zoo.cases import cases


@functools.lru_cache
def digits():
    x, y = load_digits(return_X_y=True)
    x = torch.tensor(x / 8 - 1, dtype=torch.float32).view(-1, 1, 8, 8)
    return x, torch.tensor(y)


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2))
        self.body = nn.Sequential(nn.Conv2d(24, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2))

    def forward(self, x):
        return self.body(self.stem(x)).flatten(1)


class Transfer(nn.Module):
    def __init__(self, classes=5):
        super().__init__()
        self.backbone = Backbone()
        self.fc = nn.Linear(48 * 4, classes)

    def forward(self, x):
        return self.fc(self.backbone(x))


@functools.lru_cache
def checkpoint():
    """What another project left behind: its state dict, wrapped by DataParallel."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        model = Transfer(5)
        x, y = digits()
        x, y = x[y < 5], y[y < 5]
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for step in range(120):
            rows = torch.randint(len(x), (64,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        return {f"module.{k}": v.detach().clone() for k, v in model.state_dict().items()}


def weights():
    return {k.removeprefix("module."): v.clone() for k, v in checkpoint().items()}


def pretrained(classes=5, freeze=True):
    model = Transfer()
    model.load_state_dict(weights())
    if freeze:
        for p in model.backbone.parameters():
            p.requires_grad = False
    model.fc = nn.Linear(48 * 4, classes)
    return model


def loaders(low=5, high=10, shift=5):
    x, y = digits()
    keep = (y >= low) & (y < high)
    x, y = x[keep], y[keep] - shift
    cut = int(0.8 * len(x))
    return (
        DataLoader(TensorDataset(x[:cut], y[:cut]), batch_size=32, shuffle=True),
        DataLoader(TensorDataset(x[cut:], y[cut:]), batch_size=64),
    )


def make(model, optimizer=None, data=None, intents=("pretrained", "frozen"), **rest):
    train, val = data or loaders()
    trained = [p for p in model.parameters() if p.requires_grad]
    return Pipeline(
        model=model,
        train=train,
        val=val,
        loss=nn.CrossEntropyLoss(),
        optimizer=optimizer or torch.optim.Adam(trained, lr=5e-3),
        epochs=8,
        intents=intents,
        **rest,
    )


def base():
    return make(pretrained(), intents=())


# faults


def keys_of_data_parallel():
    model = Transfer()
    model.load_state_dict(checkpoint(), strict=False)
    for p in model.backbone.parameters():
        p.requires_grad = False
    return make(model)


def reset_after_loading():
    def reset(m):
        if isinstance(m, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(m.weight)

    model = pretrained()
    model.apply(reset)
    return make(model)


def head_swapped_after_the_optimizer():
    model = pretrained()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    model.fc = nn.Linear(48 * 4, 5)
    return make(model, optimizer)


def frozen_to_the_last():
    model = pretrained()
    for p in model.parameters():
        p.requires_grad_(False)
    return make(model, torch.optim.Adam(model.parameters(), lr=5e-3))


def labels_not_shifted():
    return make(pretrained(), data=loaders(shift=0))


def thawed_without_optimizer():
    """The last block is thawed after the optimizer was built for the head alone."""
    model = pretrained()
    optimizer = torch.optim.Adam(model.fc.parameters(), lr=5e-3)
    model.backbone.body.requires_grad_(True)
    return make(model, optimizer, intents=("pretrained",))


# healthy


def lora():
    class LoRA(nn.Module):
        def __init__(self, conv, rank=4):
            super().__init__()
            self.conv = conv.requires_grad_(False)
            self.a = nn.Conv2d(conv.in_channels, rank, 3, padding=1, bias=False)
            self.b = nn.Conv2d(rank, conv.out_channels, 1, bias=False)
            nn.init.zeros_(self.b.weight)

        def forward(self, x):
            return self.conv(x) + self.b(self.a(x))

    model = pretrained()
    model.backbone.body[0] = LoRA(model.backbone.body[0])
    return make(model, intents=())


def goes_on_with_its_own_classes():
    model = Transfer()
    model.load_state_dict(weights())
    return make(model, torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9), loaders(0, 5, 0), intents=())


def discriminative_rates():
    model = pretrained(freeze=False)
    optimizer = torch.optim.AdamW(
        [{"params": model.backbone.parameters(), "lr": 1e-4}, {"params": model.fc.parameters(), "lr": 3e-3}]
    )
    return make(model, optimizer, intents=())


def all_parameters_handed_over():
    model = pretrained()
    return make(model, torch.optim.Adam(model.parameters(), lr=5e-3), intents=())


CASES = cases(
    base,
    {
        keys_of_data_parallel: "pretrained-weights-not-loaded",
        reset_after_loading: "pretrained-weights-not-loaded",
        head_swapped_after_the_optimizer: ("stale-optimizer-parameters", "parameters-missing-from-optimizer"),
        frozen_to_the_last: "everything-frozen",
        labels_not_shifted: "labels-out-of-range",
        thawed_without_optimizer: "parameters-missing-from-optimizer",
    },
    (lora, goes_on_with_its_own_classes, discriminative_rates, all_parameters_handed_over),
    structural=(
        keys_of_data_parallel,
        reset_after_loading,
        thawed_without_optimizer,
    ),
)
