"""Faults in the model, the loss and the step of ``digits_plain``."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.cases import Case, faulty
from zoo.programs.digits_plain import Net, build


class WithSoftmax(Net):
    def forward(self, x: Tensor) -> Any:
        return F.softmax(super().forward(x), dim=1)


class WithRelu(Net):
    """The last layer got an activation as all the others."""

    def forward(self, x: Tensor) -> Any:
        x = torch.relu(self.fc1(self.features(x)))
        return torch.relu(self.fc2(x))


class SoftmaxOverBatch(Net):
    def forward(self, x: Tensor) -> Any:
        return F.softmax(super().forward(x), dim=0)


class LogSoftmaxOverBatch(Net):
    def forward(self, x: Tensor) -> Any:
        return F.log_softmax(super().forward(x), dim=0)


class MixedBatch(Net):
    """Brings channels first before flattening, and so mixes the samples."""

    def features(self, x: Tensor) -> Any:
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        return x.permute(1, 0, 2, 3).reshape(x.shape[0], -1)


class LayersInDict(nn.Module):
    """Convolutions in a plain dict, which no optimizer sees."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = {"conv1": nn.Conv2d(1, 8, 3, padding=1), "conv2": nn.Conv2d(8, 16, 3, padding=1)}
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Any:
        for layer in self.layers.values():
            x = F.max_pool2d(torch.relu(layer(x)), 2)
        return self.fc(x.flatten(1))


class LazyHead(Net):
    """Makes the linear layer when the size is known: at every call."""

    def forward(self, x: Tensor) -> Any:
        x = self.features(x)
        hidden = nn.Linear(x.shape[1], 32).to(x.device)
        return self.fc2(torch.relu(hidden(x)))


class AlwaysDropout(Net):
    def forward(self, x: Tensor) -> Any:
        x = F.dropout(torch.relu(self.fc1(self.features(x))), 0.5)
        return self.fc2(x)


class LogFeatures(Net):
    """The logarithm of what ReLU made zero."""

    def features(self, x: Tensor) -> Any:
        return torch.log(super().features(x))


class ScaledMaps(Net):
    """Brings each map to 0..1 by its range, which is zero where nothing fires."""

    def features(self, x: Tensor) -> Any:
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        return ((x - low) / (high - low)).flatten(1)


class NegativeBias(Net):
    def __init__(self) -> None:
        super().__init__()
        nn.init.constant_(self.fc1.bias, -6.0)
        nn.init.constant_(self.conv2.bias, -2.0)  # type: ignore[arg-type]


class WideInit(Net):
    """Every weight from a normal distribution of std 1."""

    def __init__(self) -> None:
        super().__init__()
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=1.0)


class NarrowInit(Net):
    def __init__(self) -> None:
        super().__init__()
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.0003)


class ZeroInit(Net):
    def __init__(self) -> None:
        super().__init__()
        for parameter in self.parameters():
            nn.init.zeros_(parameter)


class FrozenFeatures(Net):
    """The features are detached from the graph."""

    def forward(self, x: Tensor) -> Any:
        x = self.features(x).detach()
        return self.fc2(torch.relu(self.fc1(x)))


class NumpyPooling(Net):
    """Pools with numpy, where no gradient passes."""

    def features(self, x: Tensor) -> Any:
        x = torch.relu(self.conv2(self.pool(torch.relu(self.conv1(x)))))
        pooled = x.detach().cpu().numpy().reshape(len(x), 16, 2, 2, 2, 2).max(axis=(3, 5))
        return torch.from_numpy(pooled).to(x.device).flatten(1)


class WithSpareLayers(Net):
    def __init__(self) -> None:
        super().__init__()
        self.conv3 = nn.Conv2d(16, 16, 3, padding=1)
        self.norm = nn.LayerNorm(32)


class RootFeatures(Net):
    """Guards a square root with ``where``: finite forward, while the branch not taken spoils the gradient."""

    def features(self, x: Tensor) -> Any:
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(self.conv2(x))
        return torch.where(x > 0, torch.sqrt(x), torch.zeros_like(x)).flatten(1)


class Swish(torch.autograd.Function):
    """x * sigmoid(x), with a sign in its derivative wrong."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return grads[0] * (s * (1 - s) * x - s)


class OwnSwish(Net):
    def features(self, x: Tensor) -> Any:
        x = self.pool(Swish.apply(self.conv1(x)))
        x = self.pool(Swish.apply(self.conv2(x)))
        return x.flatten(1)


class OneOutput(Net):
    def __init__(self) -> None:
        super().__init__()
        self.fc2 = nn.Linear(32, 1)


def digit_as_number(output: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(output.squeeze(1), target.float())


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(output.softmax(1), F.one_hot(target, 10).float())


def logged_loss(output: Tensor, target: Tensor) -> Tensor:
    """Rounds the loss for the log and makes a tensor of it again."""
    value = F.cross_entropy(output, target).item()
    return torch.tensor(round(value, 4), requires_grad=True)


def accuracy_loss(output: Tensor, target: Tensor) -> Tensor:
    """The share of errors, which has no gradient."""
    return (output.argmax(1) != target).float().mean()


def likelihood(output: Tensor, target: Tensor) -> Tensor:
    return F.log_softmax(output, dim=1).gather(1, target.unsqueeze(1)).mean()


def nll_of_probabilities(output: Tensor, target: Tensor) -> Tensor:
    return F.nll_loss(F.softmax(output, dim=1), target)


def log_of_softmax(output: Tensor, target: Tensor) -> Tensor:
    return F.nll_loss(torch.log(torch.softmax(output, dim=1)), target)


def with_weight_penalty(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    penalty = sum(p.abs().sum() for p in model.parameters())
    return F.cross_entropy(model(x), y) + 0.1 * penalty


def head_alone(net: Any) -> Any:
    return torch.optim.Adam(net.fc2.parameters(), lr=2e-3)


def of_a_copy(net: Any) -> Any:
    """The optimizer is made for a copy of the model."""
    return torch.optim.Adam(copy.deepcopy(net).parameters(), lr=2e-3)


def never_zeroed(model: nn.Module, batch: tuple[Tensor, Tensor], optimizer: Any) -> float:
    x, y = batch
    loss = F.cross_entropy(model(x), y)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()


def zeroed_between(model: nn.Module, batch: tuple[Tensor, Tensor], optimizer: Any) -> float:
    x, y = batch
    loss = F.cross_entropy(model(x), y)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.zero_grad()
    optimizer.step()
    return loss.item()


def no_step(model: nn.Module, batch: tuple[Tensor, Tensor], optimizer: Any) -> float:
    x, y = batch
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.item()


def clipped_late(model: nn.Module, batch: tuple[Tensor, Tensor], optimizer: Any) -> float:
    x, y = batch
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    return loss.item()


def adam(**options: Any) -> Any:
    return lambda net: torch.optim.Adam(net.parameters(), **{"lr": 2e-3, **options})


def long_warmup(optimizer: Any) -> Any:
    """A warm-up of 10000 steps, in a run of 384."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 10000))


CASES: tuple[Case, ...] = (
    faulty(build, "softmax-before-cross-entropy", model=WithSoftmax),
    faulty(build, "activation-on-logits", model=WithRelu),
    faulty(build, "softmax-over-batch", model=SoftmaxOverBatch),
    faulty(
        build, "softmax-over-batch", structural=True, variant="nll", model=LogSoftmaxOverBatch, criterion=nn.NLLLoss()
    ),
    faulty(build, "batch-mixing", model=MixedBatch),
    faulty(build, "unregistered-modules", model=LayersInDict, also=("parameters-missing-from-optimizer",)),
    faulty(build, "layer-created-in-forward", model=LazyHead),
    faulty(build, "nondeterministic-eval", model=AlwaysDropout),
    faulty(build, "nonfinite-activations", model=LogFeatures),
    faulty(build, "nonfinite-activations", variant="division", model=ScaledMaps),
    faulty(build, "dead-relu", model=NegativeBias),
    faulty(build, "exploding-initialisation", model=WideInit),
    faulty(build, "vanishing-initialisation", model=NarrowInit),
    faulty(build, "symmetric-initialisation", variant="zeros", model=ZeroInit),
    faulty(build, "graph-cut", model=FrozenFeatures),
    faulty(build, "graph-cut", variant="numpy", model=NumpyPooling),
    faulty(build, "unused-parameters", structural=True, model=WithSpareLayers),
    faulty(build, "nonfinite-gradient", model=RootFeatures),
    faulty(build, "wrong-custom-backward", model=OwnSwish),
    faulty(build, "mse-for-classification", variant="number", model=OneOutput, criterion=digit_as_number),
    faulty(build, "mse-for-classification", structural=True, variant="one-hot", criterion=squared_error),
    faulty(build, "output-shape-mismatch", also=("num-classes-mismatch",), model=OneOutput),
    faulty(build, "loss-not-scalar", criterion=nn.CrossEntropyLoss(reduction="none")),
    faulty(build, "loss-detached", criterion=logged_loss),
    faulty(build, "loss-detached", variant="argmax", criterion=accuracy_loss),
    faulty(build, "loss-sign-flipped", criterion=likelihood),
    faulty(build, "nll-on-probabilities", criterion=nll_of_probabilities),
    faulty(build, "unstable-log", structural=True, criterion=log_of_softmax),
    faulty(build, "regulariser-dominates", compute_loss=with_weight_penalty),
    faulty(build, "parameters-missing-from-optimizer", optimizer=head_alone),
    faulty(build, "stale-optimizer-parameters", optimizer=of_a_copy),
    faulty(build, "learning-rate-too-high", optimizer=adam(lr=0.3)),
    faulty(build, "learning-rate-too-low", optimizer=adam(lr=2e-6)),
    faulty(build, "zero-learning-rate", optimizer=adam(lr=0.0)),
    faulty(build, "adam-epsilon-out-of-range", optimizer=adam(eps=1.0)),
    faulty(build, "warmup-outlasts-training", scheduler=long_warmup, scheduler_interval="step"),
    faulty(build, "gradients-not-cleared", train_step=never_zeroed),
    faulty(build, "gradients-cleared-before-step", also=("parameters-not-updated",), train_step=zeroed_between),
    faulty(build, "parameters-not-updated", train_step=no_step),
    faulty(build, "clip-after-step", structural=True, train_step=clipped_late),
    faulty(build, "label-smoothing-too-strong", criterion=nn.CrossEntropyLoss(label_smoothing=0.9)),
)
