"""Faults in the model, the loss and the optimisation of ``tabular``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.cases import Case, faulty
from zoo.programs.tabular import Churn, build


class NoActivations(Churn):
    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, width), nn.Linear(width, width), nn.Dropout(0.1))


class ReluOutput(Churn):
    def forward(self, numbers: Tensor, plan: Tensor) -> Any:
        return F.relu(super().forward(numbers, plan))


class SigmoidOutput(Churn):
    """Gives probabilities to a loss that takes logits."""

    def forward(self, numbers: Tensor, plan: Tensor) -> Any:
        return torch.sigmoid(super().forward(numbers, plan))


class BinaryUnits(Churn):
    """Hidden units of -1 and +1, whose slope is zero everywhere."""

    def forward(self, numbers: Tensor, plan: Tensor) -> Any:
        x = torch.cat([numbers, self.plan(plan)], dim=1)
        return self.head(torch.sign(self.body[:3](x))).squeeze(1)


class RoundedOutput(Churn):
    def forward(self, numbers: Tensor, plan: Tensor) -> Any:
        return torch.round(super().forward(numbers, plan))


class LargeTanh(Churn):
    """Tanh units, initialised with weights far too large for them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh(), nn.Dropout(0.1))
        for layer in (self.body[0], self.body[2]):
            nn.init.normal_(layer.weight, std=12.0)  # type: ignore[arg-type]


class DeepSigmoid(Churn):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(12, 32), nn.Sigmoid()]
        for _ in range(9):
            layers += [nn.Linear(32, 32), nn.Sigmoid()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(32, 1)


class EqualWeights(Churn):
    """Every weight starts at the same value."""

    def __init__(self) -> None:
        super().__init__()
        for layer in (self.body[0], self.body[2]):
            nn.init.constant_(layer.weight, 0.1)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.head.weight, 0.1)


class OneUnit(Churn):
    def __init__(self) -> None:
        super().__init__(width=1)
        self.body[4] = nn.Identity()


class RowAttention(Churn):
    """Lets the rows of a batch attend to each other, in validation too."""

    def forward(self, numbers: Tensor, plan: Tensor) -> Any:
        x = torch.cat([numbers, self.plan(plan)], dim=1)
        x = self.body(x)
        weights = torch.softmax(x @ x.T, dim=1)
        return self.head(weights @ x).squeeze(1)


class HeavyDropout(Churn):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(12, 48), nn.ReLU(), nn.Dropout(0.9), nn.Linear(48, 48), nn.ReLU(), nn.Dropout(0.9)
        )


class ResetLayers(Churn):
    """Detaches the hidden state between the two layers."""

    def forward(self, numbers: Tensor, plan: Tensor) -> Any:
        x = torch.cat([numbers, self.plan(plan)], dim=1)
        hidden = torch.tensor(self.body[:2](x).tolist())
        return self.head(self.body[2:](hidden)).squeeze(1)


class ClippedRelu(torch.autograd.Function):
    """Lets through the gradient of those units that were cut."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        grad = grads[0].clone()
        grad[x > 0] = 0
        return grad


class OwnRelu(Churn):
    def forward(self, numbers: Tensor, plan: Tensor) -> Any:
        x = torch.cat([numbers, self.plan(plan)], dim=1)
        x = ClippedRelu.apply(self.body[0](x))
        x = ClippedRelu.apply(self.body[2](x))
        return self.head(self.body[4](x)).squeeze(1)


def squared(output: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(output, target)


def own_bce(output: Tensor, target: Tensor) -> Tensor:
    """The textbook's formula, without a guard for probabilities of 0 and 1."""
    p = torch.sigmoid(output)
    return -(target * torch.log(p) + (1 - target) * torch.log(1 - p)).mean()


def wrong_sign(output: Tensor, target: Tensor) -> Tensor:
    """Signs of the logit and the target as for a hinge, but not the minus."""
    return F.softplus(output * (2 * target - 1)).mean()


def ascent(output: Tensor, target: Tensor) -> Tensor:
    return F.logsigmoid(output * (2 * target - 1)).mean()


def adamw(**options: Any) -> Any:
    return lambda net: torch.optim.AdamW(net.parameters(), **{"lr": 3e-3, **options})


def embedding_alone(net: Any) -> Any:
    """The groups by name match nothing but the embedding."""
    chosen = [p for name, p in net.named_parameters() if name.startswith(("plan", "bodies", "heads"))]
    return torch.optim.AdamW(chosen, lr=3e-3)


def noam(optimizer: Any) -> Any:
    """The 4000 steps of warm-up of a much longer run."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: min((n + 1) / 40000, 1.0))


def per_epoch_decay(optimizer: Any) -> Any:
    """Ten per cent off for each epoch, taken at each batch."""
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.8)


def grows(model: nn.Module, batch: Any, optimizer: Any) -> float:
    """Zeroes the gradients of the module once, at the first batch."""
    numbers, plan, left = batch
    if not optimizer.state:
        model.zero_grad()
    loss = F.binary_cross_entropy_with_logits(model(numbers, plan), left)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(loss)


CASES: tuple[Case, ...] = (
    faulty(build, "missing-nonlinearity", model=NoActivations),
    faulty(build, "activation-on-logits", model=ReluOutput),
    faulty(build, "bce-on-probabilities", structural=True, model=SigmoidOutput, also=("activation-on-logits",)),
    faulty(build, "zero-gradient", model=RoundedOutput),
    faulty(build, "zero-gradient", variant="sign", model=BinaryUnits),
    faulty(build, "saturated-activations", model=LargeTanh),
    faulty(build, "vanishing-gradient", model=DeepSigmoid),
    faulty(build, "symmetric-initialisation", model=EqualWeights),
    faulty(build, "capacity-too-small", model=OneUnit),
    faulty(build, "batch-mixing", variant="attention", model=RowAttention),
    faulty(build, "dropout-too-strong", model=HeavyDropout),
    faulty(build, "graph-cut", variant="list", model=ResetLayers),
    faulty(build, "wrong-custom-backward", model=OwnRelu),
    faulty(build, "mse-for-classification", structural=True, criterion=squared),
    faulty(build, "unstable-log", also=("nonfinite-loss",), criterion=own_bce),
    faulty(build, "loss-sign-flipped", criterion=ascent),
    faulty(build, "loss-sign-flipped", variant="hinge", criterion=wrong_sign),
    faulty(build, "learning-rate-too-low", optimizer=adamw(lr=1e-6)),
    faulty(build, "learning-rate-too-high", optimizer=adamw(lr=1.0)),
    faulty(build, "weight-decay-too-strong", optimizer=adamw(weight_decay=100.0)),
    faulty(build, "adam-epsilon-out-of-range", optimizer=adamw(eps=10.0)),
    faulty(build, "parameters-missing-from-optimizer", optimizer=embedding_alone),
    faulty(build, "warmup-outlasts-training", scheduler=noam),
    faulty(build, "schedule-collapses", scheduler=per_epoch_decay),
    faulty(build, "gradients-not-cleared", train_step=grows),
)
