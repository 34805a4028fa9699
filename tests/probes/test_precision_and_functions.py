"""Half precision, the user's own functions and losses, loaded weights, and very deep models."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import small_pipelines as small
import torch
from probing import context, judge
from torch import Tensor, nn
from torch.nn import functional as F

from diagnose.pipeline import Pipeline
from probes.results import Status

Build = Callable[[], Pipeline]


def compute(loss: Callable[[nn.Module, Any], Tensor], **fields: Any) -> Pipeline:
    return small.digits_cnn(compute_loss=loss, **fields)


# -- precision --------------------------------------------------------------------------------------------------------


def stored(dtype: torch.dtype, lr: float) -> Pipeline:
    return small.digits_cnn(
        model=lambda: small.cnn().to(dtype),
        images=lambda x: x.to(dtype),
        optimizer=lambda net: torch.optim.SGD(net.parameters(), lr=lr),
    )


def autocast(precision: str, scale: float = 1.0, weight: float = 1.0) -> Pipeline:
    """In autocast on the CPU; ``scale`` of the inputs, ``weight`` of the loss."""
    return compute(
        lambda net, batch: weight * F.cross_entropy(net(batch[0]), batch[1]),
        images=lambda x: scale * x,
        precision=precision,
    )


# -- functions of the user's own --------------------------------------------------------------------------------------


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * x * grads[0]


class SquareWithoutTwo(Square):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return x * grads[0]


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (4 * x).round() / 4

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0]


class Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return -0.1 * grads[0]


class Applies(nn.Module):
    """A CNN whose features go through a function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.body, self.head, self.function = small.cnn()[:-1], nn.Linear(64, 10), function

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.function.apply(self.body(x)))
        return out


def applying(function: Any) -> Pipeline:
    return small.digits_cnn(model=lambda: Applies(function))


# -- losses of the user's own -----------------------------------------------------------------------------------------


def penalised(weight: float) -> Pipeline:
    def loss(net: nn.Module, batch: Any) -> Tensor:
        penalty = torch.stack([p.square().sum() for p in net.parameters()]).sum()
        return F.cross_entropy(net(batch[0]), batch[1]) + weight * penalty

    return compute(loss)


def own_likelihood(sign: float) -> Pipeline:
    """The log-likelihood written out, times ``sign``: to be made smaller, that must be -1."""

    def loss(net: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        logits = net(batch[0])
        return sign * logits.log_softmax(1).gather(1, batch[1].unsqueeze(1)).mean(), logits

    return small.digits_cnn(compute_loss=loss)


def negated() -> Pipeline:
    return small.digits_cnn(loss=lambda output, target: -F.cross_entropy(output, target))


def maximised(negative: bool) -> Pipeline:
    return small.digits_cnn(
        loss=(lambda output, target: -F.cross_entropy(output, target)) if negative else nn.CrossEntropyLoss(),
        optimizer=lambda net: torch.optim.Adam(net.parameters(), lr=1e-3, maximize=True),
    )


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Sequential(nn.Flatten(), nn.Linear(64, 16)), nn.Linear(8, 64)
        for parameter in self.decode.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_var = self.encode(x).chunk(2, 1)
        code = mean + torch.randn_like(mean) * (0.5 * log_var).exp()
        return self.decode(code), mean, log_var


def negative_elbo() -> Pipeline:
    """A density may exceed 1, so this loss is below 0 although nothing is flipped."""

    def loss(net: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        output, mean, log_var = net(batch[0])
        density = torch.distributions.Normal(output, 0.1)
        likelihood = density.log_prob(batch[0].flatten(1)).sum(1)  # type: ignore[no-untyped-call]
        divergence = -0.5 * (1 + log_var - mean.square() - log_var.exp()).sum(1)
        return -(likelihood - 0.01 * divergence).mean(), output

    return small.digits_cnn(model=Autoencoder, compute_loss=loss, images=lambda x: 0.1 * x, num_classes=None)


def negative_log_density() -> Pipeline:
    """The same of one small number per sample."""

    def loss(output: Tensor, target: Tensor) -> Tensor:
        density = torch.distributions.Normal(output, 0.1)
        return -density.log_prob(target).mean()  # type: ignore[no-untyped-call, no-any-return]

    made = small.regression()
    made.train = [(x, 0.002 * y) for x, y in made.train]
    model = nn.Linear(5, 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    made.model, made.loss, made.val, made.scheduler = model, loss, None, None
    made.optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return made


# -- loaded weights ---------------------------------------------------------------------------------------------------


def pretrained(prefix: str = "", again: bool = False, new_head: bool = False) -> Pipeline:
    state = {prefix + key: value + 0.1 for key, value in small.cnn().state_dict().items()}
    net = small.cnn()
    if new_head:
        state = {key: value for key, value in state.items() if not key.startswith("9")}
    net.load_state_dict(state, strict=False)
    if again:
        for layer in net:
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                layer.reset_parameters()
    return small.digits_cnn(model=lambda: net)


# -- depth ------------------------------------------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.branch(x)
        return out


def deep(layers: int, residual: bool = False) -> Pipeline:
    plain: list[nn.Module] = [m for _ in range(layers) for m in (nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU())]
    blocks: list[nn.Module] = [Residual() for _ in range(layers)] if residual else plain
    return small.digits_cnn(model=lambda: nn.Sequential(nn.Flatten(), *blocks, nn.Linear(64, 10)))


BF16, BACKWARD, PENALTY = "bf16-update-lost", "wrong-custom-backward", "regulariser-dominates"
SIGN, WEIGHTS, EXPLODING = "loss-sign-flipped", "pretrained-weights-not-loaded", "exploding-gradient"
FAULTS: dict[str, tuple[str, Build]] = {
    "bf16 and a small lr": (BF16, partial(stored, torch.bfloat16, 1e-4)),
    "backward without its 2": (BACKWARD, partial(applying, SquareWithoutTwo)),
    "a huge penalty": (PENALTY, partial(penalised, 10.0)),
    "a likelihood made smaller": (SIGN, partial(own_likelihood, 1.0)),
    "cross-entropy negated": (SIGN, negated),
    "cross-entropy maximised": (SIGN, partial(maximised, False)),
    "keys with a prefix": (WEIGHTS, partial(pretrained, "module.")),
    "initialised again": (WEIGHTS, partial(pretrained, again=True)),
    "40 batch norms": (EXPLODING, partial(deep, 40)),
    "fp16 overflows": ("fp16-overflow", partial(autocast, "fp16", scale=1e6)),
    "fp16 underflows": ("fp16-underflow", partial(autocast, "fp16", weight=1e-6)),
}
SILENT: dict[str, tuple[str, Build]] = {
    "bf16 and a large lr": (BF16, partial(stored, torch.bfloat16, 1.0)),
    "bf16 by autocast": (BF16, partial(autocast, "bf16")),
    "fp32": (BF16, partial(stored, torch.float32, 1e-4)),
    "a right backward": (BACKWARD, partial(applying, Square)),
    "straight through": (BACKWARD, partial(applying, StraightThrough)),
    "gradient reversal": (BACKWARD, partial(applying, Reversal)),
    "no function": (BACKWARD, small.plain_cnn),
    "a small penalty": (PENALTY, partial(penalised, 1e-4)),
    "no penalty": (PENALTY, small.plain_cnn),
    "a language model's own loss": (PENALTY, small.language_model),
    "a negative log-likelihood": (SIGN, partial(own_likelihood, -1.0)),
    "a negative ELBO": (SIGN, negative_elbo),
    "a negative log-density": (SIGN, negative_log_density),
    "a negated loss maximised": (SIGN, partial(maximised, True)),
    "a regression": (SIGN, small.regression),
    "several labels": (SIGN, small.multilabel),
    "all weights loaded": (WEIGHTS, pretrained),
    "a new head": (WEIGHTS, partial(pretrained, new_head=True)),
    "nothing loaded": (WEIGHTS, small.plain_cnn),
    "4 batch norms": (EXPLODING, partial(deep, 4)),
    "40 residual blocks": (EXPLODING, partial(deep, 40, residual=True)),
    "fp16 in range": ("fp16-overflow", partial(autocast, "fp16")),
    "bf16 has the range": ("fp16-overflow", partial(autocast, "bf16", scale=1e6)),
    "fp16 fine enough": ("fp16-underflow", partial(autocast, "fp16")),
    "stored in fp16": ("fp16-overflow", partial(stored, torch.float16, 0.1)),
    "stored in fp16, fine enough": ("fp16-underflow", partial(stored, torch.float16, 0.1)),
    "stored in bf16": ("fp16-underflow", partial(stored, torch.bfloat16, 0.1)),
    "no fp16": ("fp16-underflow", small.plain_cnn),
}


@pytest.mark.parametrize("case", FAULTS)
def test_finds_its_fault(case: str) -> None:
    judged = judge(*FAULTS[case])
    assert judged.names == [FAULTS[case][0]], judged.result.reason
    assert judged.status is Status.FAIL


@pytest.mark.parametrize("case", SILENT)
@pytest.mark.parametrize("seed", range(3))
def test_is_silent_on_the_twin(case: str, seed: int) -> None:
    judged = judge(*SILENT[case], seed)
    assert judged.findings == (), judged.result
    assert judged.status in {Status.PASS, Status.SKIPPED}, judged.result


VALUES: dict[str, dict[str, Any]] = {
    "backward without its 2": {"name": "SquareWithoutTwo", "error": pytest.approx(0.5, abs=0.01)},
    "bf16 and a small lr": {"dtype": "bfloat16"},
    "keys with a prefix": {"given": 6, "taken": 0, "key": "module.0.weight", "expected": "0.weight"},
    "initialised again": {"kept": 0},
    "fp16 underflows": {"share": 1.0},
}


@pytest.mark.parametrize("case", VALUES)
def test_its_figures(case: str) -> None:
    values = judge(*FAULTS[case]).values
    assert {key: values[key] for key in VALUES[case]} == VALUES[case]


def test_how_much_stronger_the_penalty_pulls() -> None:
    assert judge(PENALTY, partial(penalised, 10.0)).values["ratio"] > 10


def test_a_flipped_sign_points_away_from_the_plain_loss() -> None:
    assert judge(SIGN, partial(own_likelihood, 1.0)).values["cosine"] < -0.9


def test_these_losses_are_below_zero_though_nothing_is_flipped() -> None:
    for build in (negative_elbo, negative_log_density):
        loss = context(build).attempt().loss
        assert loss is not None
        assert loss < 0
