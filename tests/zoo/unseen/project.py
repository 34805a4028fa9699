"""A project in functions: get_model, get_loaders, get_loss, get_optimizer, get_scheduler, by name."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, Dataset

from diagnose import Pipeline
from zoo.cases import cases


class Digits(Dataset):
    def __init__(self, x, y, transform=None):
        self.x, self.y, self.transform = x, y, transform

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        image = torch.tensor(self.x[index] / 16, dtype=torch.float32).view(1, 8, 8)
        return (self.transform(image) if self.transform else image), int(self.y[index])


def arrays(seed=0):
    x, y = load_digits(return_X_y=True)
    return train_test_split(x, y, test_size=0.2, random_state=seed, stratify=y)


def get_loaders(batch_size: int = 32, augment: bool = False):
    x, vx, y, vy = arrays()

    def shift(image):
        return torch.roll(image, tuple(torch.randint(-1, 2, (2,)).tolist()), (1, 2))

    train = DataLoader(Digits(x, y, shift if augment else None), batch_size=batch_size, shuffle=True)
    val = DataLoader(Digits(vx, vy), batch_size=64)
    return {"train": train, "val": val, "num_classes": 10, "class_names": [str(i) for i in range(10)]}


class Block(nn.Module):
    def __init__(self, channels, momentum=0.1):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels, momentum=momentum),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels, momentum=momentum),
        )

    def forward(self, x):
        return torch.relu(x + self.body(x))


class Net(nn.Module):
    def __init__(self, num_classes, width=16, blocks=2, momentum=0.1):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width, momentum=momentum), nn.ReLU()
        )
        self.blocks = nn.Sequential(*(Block(width, momentum) for _ in range(blocks)))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, num_classes))

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)))


def get_model(num_classes: int = 10, width: int = 16, blocks: int = 2):
    return Net(num_classes, width, blocks)


def get_loss(smoothing: float = 0.0):
    return nn.CrossEntropyLoss(label_smoothing=smoothing)


def get_optimizer(model, name: str = "adamw", lr: float = 2e-3, weight_decay: float = 1e-2):
    if name == "sgd":
        return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=weight_decay)
    return torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)


def get_scheduler(optimizer, epochs: int = 10):
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)


# one function each that went wrong


def model_of_relu_logits(num_classes: int = 10):
    model = Net(num_classes)
    model.head = nn.Sequential(*model.head, nn.ReLU())
    return model


def model_of_five_classes(num_classes: int = 10):
    return Net(5)


def model_with_slow_statistics(num_classes: int = 10):
    return Net(num_classes, momentum=1e-4)


def model_of_zeros(num_classes: int = 10):
    model = Net(num_classes)
    for p in model.parameters():
        nn.init.zeros_(p)
    return model


def model_mixing_the_batch(num_classes: int = 10):
    class Mixed(Net):
        def forward(self, x):
            h = self.blocks(self.stem(x))
            h = nn.functional.adaptive_avg_pool2d(h, 2)
            return self.head[2](h.permute(1, 2, 3, 0).reshape(x.shape[0], -1))

    return Mixed(num_classes)


def optimizer_of_the_head(model, lr: float = 2e-3):
    return torch.optim.AdamW(model.head.parameters(), lr=lr)


def optimizer_of_named_blocks(model, lr: float = 2e-3):
    """Decay for what is called `weight`, none for what is called `bias`, by a name that never occurs."""
    decayed = [p for n, p in model.named_parameters() if n.endswith("kernel") or "head" in n]
    plain = [p for n, p in model.named_parameters() if n.endswith("bias") and "head" not in n]
    return torch.optim.AdamW([{"params": decayed, "weight_decay": 0.01}, {"params": plain}], lr=lr)


def loss_of_probabilities():
    return lambda out, y: nn.functional.nll_loss(out.softmax(1), y)


def loss_by_sum():
    return nn.CrossEntropyLoss(reduction="sum")


def scheduler_of_exponents(optimizer):
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.05)


def loaders_of_the_same_rows():
    x, _, y, _ = arrays()
    data = Digits(x, y)
    return DataLoader(data, batch_size=32, shuffle=True), DataLoader(data, batch_size=64), 10


def loaders_of_flattened_columns():
    """A data frame whose labels are sorted before it is joined to the pixels."""
    x, vx, y, vy = arrays()
    return (
        DataLoader(Digits(x, np.sort(y)), batch_size=32, shuffle=True),
        DataLoader(Digits(vx, np.sort(vy)), batch_size=64),
        10,
    )


def loaders_with_noise():
    x, vx, y, vy = arrays()
    wrong = np.random.default_rng(0).random(len(y)) < 0.4
    y = np.where(wrong, np.random.default_rng(1).integers(0, 10, len(y)), y)
    return DataLoader(Digits(x, y), batch_size=32, shuffle=True), DataLoader(Digits(vx, vy), batch_size=64), 10


def loaders_of_a_few():
    x, vx, y, vy = arrays()
    return (
        DataLoader(Digits(x[:60], y[:60]), batch_size=16, shuffle=True),
        DataLoader(Digits(vx, vy), batch_size=64),
        10,
    )


def loaders_from_one_to_ten():
    x, vx, y, vy = arrays()
    return DataLoader(Digits(x, y + 1), batch_size=32, shuffle=True), DataLoader(Digits(vx, vy + 1), batch_size=64), 10


def make(model=get_model, data=get_loaders, loss=get_loss, optimizer=get_optimizer, scheduler=get_scheduler):
    """As the tool puts the functions of such a project together."""
    loaders = data()
    train, val = (loaders["train"], loaders["val"]) if isinstance(loaders, dict) else loaders[:2]
    net = model(num_classes=10)
    opt = optimizer(net)
    return Pipeline(net, train, val, loss=loss(), optimizer=opt, scheduler=scheduler(opt), num_classes=10, epochs=10)


def base():
    return make()


def relu_logits():
    return make(model=model_of_relu_logits)


def five_classes():
    return make(model=model_of_five_classes)


def slow_statistics():
    return make(model=model_with_slow_statistics)


def all_zeros():
    return make(model=model_of_zeros)


def batch_mixed():
    return make(model=model_mixing_the_batch)


def head_alone():
    return make(optimizer=optimizer_of_the_head)


def names_that_never_occur():
    return make(optimizer=optimizer_of_named_blocks)


def probabilities():
    return make(loss=loss_of_probabilities)


def summed():
    return make(loss=loss_by_sum, optimizer=partial(get_optimizer, name="sgd", lr=0.1))


def exponents():
    return make(scheduler=scheduler_of_exponents)


def same_rows():
    return make(data=loaders_of_the_same_rows)


def sorted_labels():
    return make(data=loaders_of_flattened_columns)


def noise():
    return make(data=loaders_with_noise)


def few():
    return make(data=loaders_of_a_few)


def one_to_ten():
    return make(data=loaders_from_one_to_ten)


def smoothed():
    return make(loss=partial(get_loss, smoothing=0.1))


def momentum():
    return make(optimizer=partial(get_optimizer, name="sgd", lr=0.1, weight_decay=5e-4))


def augmented():
    return make(model=partial(get_model, width=24), data=partial(get_loaders, augment=True))


CASES = cases(
    base,
    {
        relu_logits: "activation-on-logits",
        five_classes: ("num-classes-mismatch", "labels-out-of-range"),
        slow_statistics: "batchnorm-statistics-lag",
        all_zeros: "symmetric-initialisation",
        batch_mixed: "batch-mixing",
        head_alone: "parameters-missing-from-optimizer",
        names_that_never_occur: "parameters-missing-from-optimizer",
        probabilities: "nll-on-probabilities",
        summed: "loss-summed",
        exponents: ("schedule-collapses", "schedule-period-mismatch"),
        same_rows: "train-val-leakage",
        sorted_labels: "labels-unrelated-to-inputs",
        noise: "noisy-labels",
        few: "too-few-samples",
        one_to_ten: "labels-out-of-range",
    },
    (smoothed, momentum, augmented),
    structural=(
        probabilities,
        same_rows,
    ),
)
