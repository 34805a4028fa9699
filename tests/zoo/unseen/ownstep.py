"""The user's own step, with accumulation over four batches and clipping; points on four arms of a spiral."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose import Pipeline
from zoo.cases import cases

ARMS = 4


@functools.lru_cache
def spirals(count=3000, seed=0, share=None):
    rng = np.random.default_rng(seed)
    y = rng.choice(ARMS, count, p=share)
    r = rng.uniform(0.1, 1, count)
    angle = 4 * r + 2 * np.pi * y / ARMS + rng.normal(0, 0.12, count)
    x = np.stack([r * np.cos(angle), r * np.sin(angle)], 1) * 1.7
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def mlp(width=48, depth=3, act=nn.ReLU, out=ARMS):
    layers = [nn.Linear(2, width), act()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), act()]
    return nn.Sequential(*layers, nn.Linear(width, out))


class Step:
    """Accumulates over `every` batches, clips, steps."""

    def __init__(self, criterion=F.cross_entropy, every=4, clip=1.0):
        self.criterion, self.every, self.clip, self.seen = criterion, every, clip, 0

    def __call__(self, model, batch, optimizer):
        x, y = batch
        loss = self.criterion(model(x), y)
        (loss / self.every).backward()
        self.seen += 1
        if self.seen % self.every == 0:
            nn.utils.clip_grad_norm_(model.parameters(), self.clip)
            optimizer.step()
            optimizer.zero_grad()
        return loss


def make(model=None, loss=None, optimizer=None, step=None, train=None, val=None, batch=32, **rest):
    model = model if model is not None else mlp()
    parts = {"train_step": step} if step else {}
    train = train or TensorDataset(*spirals())
    return Pipeline(
        model=model,
        train=DataLoader(train, batch_size=batch, shuffle=True, drop_last=rest.pop("drop_last", False)),
        val=DataLoader(val or TensorDataset(*spirals(600, 1)), batch_size=100),
        loss=loss or nn.CrossEntropyLoss(),
        optimizer=optimizer(model) if optimizer else torch.optim.Adam(model.parameters(), lr=4e-3),
        epochs=rest.pop("epochs", 20),
        **parts,
        **rest,
    )


def base():
    return make(step=Step(), accumulate=4)


SGD = lambda m: torch.optim.SGD(m.parameters(), lr=0.3)  # noqa: E731

# faults


def counter_never_counts():
    class Never(Step):
        def __call__(self, model, batch, optimizer):
            x, y = batch
            loss = self.criterion(model(x), y)
            (loss / self.every).backward()
            if (self.seen + 1) % self.every == 0:
                optimizer.step()
                optimizer.zero_grad()
            return loss

    return make(step=Never())


def zero_grad_forgotten():
    def step(model, batch, optimizer):
        x, y = batch
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return make(step=step, optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.3, momentum=0.9))


def cleared_between_backward_and_step():
    def step(model, batch, optimizer):
        x, y = batch
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        model.zero_grad()
        optimizer.step()
        return loss

    return make(step=step)


def accumulated_but_not_divided():
    class Sum(Step):
        def __call__(self, model, batch, optimizer):
            x, y = batch
            loss = self.criterion(model(x), y)
            loss.backward()
            self.seen += 1
            if self.seen % self.every == 0:
                optimizer.step()
                optimizer.zero_grad()
            return loss

    return make(step=Sum(every=8), accumulate=8, optimizer=SGD)


def clipped_too_late():
    def step(model, batch, optimizer):
        x, y = batch
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        return loss

    return make(step=step)


def clipped_while_scaled():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)

    def step(model, batch, optimizer):
        x, y = batch
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        return loss

    return make(step=step, optimizer=SGD)


def softmax_and_nll():
    return make(nn.Sequential(mlp(), nn.Softmax(dim=1)), loss=nn.NLLLoss())


def arm_as_a_number():
    return make(mlp(out=1), loss=lambda out, y: F.mse_loss(out.squeeze(1), y.float()))


def logarithm_of_softmax():
    return make(loss=lambda out, y: -torch.log(torch.softmax(20 * out, 1))[torch.arange(len(y)), y].mean())


def minus_forgotten():
    def loss(out, y):
        return torch.log_softmax(out, 1).gather(1, y[:, None]).mean()

    return make(loss=loss)


def every_unit_is_off():
    model = mlp()
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.constant_(layer.bias, -4.0)
    return make(model)


def twelve_sigmoids():
    return make(mlp(depth=12, act=nn.Sigmoid))


def bottleneck_of_one():
    model = nn.Sequential(nn.Linear(2, 1), nn.Tanh(), nn.Linear(1, ARMS))
    return make(model)


def batch_larger_than_the_data():
    x, y = spirals(200)
    return make(train=TensorDataset(x, y), batch=256, drop_last=True)


def rare_arm():
    """One in a hundred, spread over the others: the model answers with the rest."""
    x, y = spirals()
    label = ((y == 0) & (torch.arange(len(y)) % 12 == 0)).long()
    vx, vy = spirals(600, 1)
    return make(
        mlp(out=2),
        train=TensorDataset(x, label),
        val=TensorDataset(vx, ((vy == 0) & (torch.arange(600) % 12 == 0)).long()),
    )


def fifty_points():
    x, y = spirals(50)
    return make(train=TensorDataset(x, y), batch=8, epochs=200)


def not_reduced():
    return make(loss=nn.CrossEntropyLoss(reduction="none"))


def labels_to_kl():
    def loss(out, y):
        return F.kl_div(F.softmax(out, 1), F.one_hot(y, ARMS).float(), reduction="batchmean")

    return make(loss=loss)


# healthy


def tiny_clip_under_adam():
    return make(clip_grad_norm=1e-3)


def log_softmax_and_nll():
    return make(nn.Sequential(mlp(), nn.LogSoftmax(dim=1)), loss=nn.NLLLoss())


def uneven_arms():
    share = (0.85, 0.05, 0.05, 0.05)
    return make(train=TensorDataset(*spirals(3000, 0, share)), val=TensorDataset(*spirals(800, 1, share)))


def uneven_and_weighted():
    share = (0.85, 0.05, 0.05, 0.05)
    weights = torch.tensor([1 / s for s in share]) / 10
    return make(
        train=TensorDataset(*spirals(3000, 0, share)),
        val=TensorDataset(*spirals(800, 1, share)),
        loss=nn.CrossEntropyLoss(weights),
    )


def distilled():
    torch.manual_seed(0)
    teacher = mlp(width=64)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=5e-3)
    x, y = spirals()
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(teacher(x), y).backward()
        optimizer.step()
    teacher.eval()

    def compute_loss(model, batch):
        x, y = batch
        out = model(x)
        with torch.no_grad():
            soft = F.softmax(teacher(x) / 2, 1)
        loss = F.kl_div(F.log_softmax(out / 2, 1), soft, reduction="batchmean") * 4
        return 0.7 * loss + 0.3 * F.cross_entropy(out, y), out

    return make(compute_loss=compute_loss)


def rezero():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Linear(2, 48)
            self.blocks = nn.ModuleList(
                nn.Sequential(nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 48)) for _ in range(3)
            )
            self.gates = nn.Parameter(torch.zeros(3))
            self.head = nn.Linear(48, ARMS)

        def forward(self, x):
            h = torch.relu(self.stem(x))
            for gate, block in zip(self.gates, self.blocks, strict=True):
                h = h + gate * block(h)
            return self.head(torch.relu(h))

    return make(Residual())


def plain_loop():
    def step(model, batch, optimizer):
        model.train()
        x, y = batch
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return make(step=step)


CASES = cases(
    base,
    {
        counter_never_counts: "parameters-not-updated",
        zero_grad_forgotten: "gradients-not-cleared",
        cleared_between_backward_and_step: ("gradients-cleared-before-step", "parameters-not-updated"),
        accumulated_but_not_divided: "accumulation-not-averaged",
        clipped_too_late: "clip-after-step",
        clipped_while_scaled: "clip-before-unscale",
        softmax_and_nll: "nll-on-probabilities",
        arm_as_a_number: "mse-for-classification",
        logarithm_of_softmax: "unstable-log",
        minus_forgotten: "loss-sign-flipped",
        every_unit_is_off: "dead-relu",
        twelve_sigmoids: ("vanishing-gradient", "saturated-activations"),
        bottleneck_of_one: "capacity-too-small",
        batch_larger_than_the_data: "empty-loader",
        rare_arm: "class-imbalance",
        fifty_points: "too-few-samples",
        not_reduced: "loss-not-scalar",
        labels_to_kl: ("target-outside-loss-domain", "nll-on-probabilities", "loss-sign-flipped"),
    },
    (tiny_clip_under_adam, log_softmax_and_nll, uneven_arms, uneven_and_weighted, distilled, rezero, plain_loop),
    structural=(
        clipped_too_late,
        softmax_and_nll,
        rare_arm,
        labels_to_kl,
    ),
)
