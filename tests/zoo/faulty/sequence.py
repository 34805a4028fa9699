"""Faults in the recognition of gestures: recurrent layers, the sensor's signal, and training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.cases import Case, faulty
from zoo.programs.sequence import AXES, GESTURES, GestureNet, Recordings, build, normalised, recordings

KINDS = len(GESTURES)


class BatchAsTime(GestureNet):
    """The LSTM runs over the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(AXES + 2, 32)


class BothWays(nn.Module):
    """Lays the two directions' states beside each other by a view."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(AXES + 2, 24, batch_first=True, bidirectional=True)
        self.classify = nn.Sequential(nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, KINDS))

    def forward(self, signal: Tensor, worn: Tensor) -> Tensor:
        steps = torch.cat([signal, worn.unsqueeze(1).expand(-1, signal.shape[1], -1)], dim=2)
        _, last = self.rnn(steps)
        logits: Tensor = self.classify(last.view(len(signal), 48))
        return logits


class SignalOnly(GestureNet):
    """How the sensor is worn comes in, and only its width is used."""

    def features(self, signal: Tensor, worn: Tensor) -> Tensor:
        states, _ = self.rnn(F.pad(signal, (0, worn.shape[1])))
        mean: Tensor = states.mean(1)
        return mean


class DeepSigmoid(GestureNet):
    """Six sigmoid layers between the LSTM and the classes."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(32, 32), nn.Sigmoid()]
        for _ in range(5):
            layers += [nn.Linear(32, 32), nn.Sigmoid()]
        self.classify = nn.Sequential(*layers, nn.Linear(32, KINDS))


class OwnCell(nn.Module):
    """A recurrent cell of one's own, whose state grows at every step."""

    def __init__(self, hidden: int = 24) -> None:
        super().__init__()
        self.enter = nn.Linear(AXES + 2, hidden)
        self.keep = nn.Linear(hidden, hidden, bias=False)
        nn.init.orthogonal_(self.keep.weight, gain=2.2)
        self.classify = nn.Linear(hidden, KINDS)

    def forward(self, signal: Tensor, worn: Tensor) -> Tensor:
        state = signal.new_zeros(len(signal), self.keep.in_features)
        for step in range(signal.shape[1]):
            state = F.relu(self.enter(torch.cat([signal[:, step], worn], dim=1)) + self.keep(state))
        logits: Tensor = self.classify(state)
        return logits


class Convolutions(nn.Module):
    """Convolutions over time whose biases start at the prior of a rare class."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Sequential(
            nn.Conv1d(AXES + 2, 32, 5, stride=2), nn.ReLU(), nn.Conv1d(32, 32, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(1)
        )
        self.classify = nn.Linear(32, KINDS)
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.constant_(module.bias, -4.6)  # type: ignore[arg-type]

    def forward(self, signal: Tensor, worn: Tensor) -> Tensor:
        channels = torch.cat([signal.transpose(1, 2), worn.unsqueeze(2).expand(-1, -1, signal.shape[1])], dim=1)
        logits: Tensor = self.classify(self.time(channels).squeeze(-1))
        return logits


class Stepped(GestureNet):
    """The state goes through a sign, for a binary code."""

    def features(self, signal: Tensor, worn: Tensor) -> Tensor:
        return torch.sign(super().features(signal, worn))


class CutState(GestureNet):
    """Carries the states through NumPy, for a filter."""

    def features(self, signal: Tensor, worn: Tensor) -> Tensor:
        states = super().features(signal, worn).detach().numpy()
        return torch.from_numpy(states.clip(-0.9, 0.9))


class SoftClip(torch.autograd.Function):
    """Soft clipping with a gradient written by hand."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad * (y * y - 1)  # type: ignore[no-any-return]


class OwnTanh(GestureNet):
    """Clips the state with the function above."""

    def features(self, signal: Tensor, worn: Tensor) -> Tensor:
        state: Tensor = SoftClip.apply(super().features(signal, worn))
        return state


class Dropping(GestureNet):
    """Two layers, with nearly all dropped between them."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(AXES + 2, 32, num_layers=2, dropout=0.97, batch_first=True)


class OneNumber(GestureNet):
    """One output, the number of the gesture."""

    def __init__(self) -> None:
        super().__init__()
        self.classify = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))


class Flat(GestureNet):
    """Turns the signal as a convolution would want it."""

    def forward(self, signal: Tensor, worn: Tensor) -> Tensor:
        return super().forward(signal.transpose(1, 2), worn)


class Parts(GestureNet):
    """One LSTM per axis, in a dict."""

    def __init__(self) -> None:
        super().__init__()
        del self.rnn
        self.axes = {axis: nn.LSTM(3, 10, batch_first=True) for axis in "xyz"}
        self.classify = nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, KINDS))

    def features(self, signal: Tensor, worn: Tensor) -> Tensor:
        beside = worn.unsqueeze(1).expand(-1, signal.shape[1], -1)
        means = [
            rnn(torch.cat([signal[:, :, i : i + 1], beside], dim=2))[0].mean(1)
            for i, rnn in enumerate(self.axes.values())
        ]
        return torch.cat(means, dim=1)


def as_measured(signal: Tensor) -> Tensor:
    """Thousandths of g."""
    return signal


def swapped(signal: Tensor) -> Tensor:
    """Mean and deviation change places."""
    known = recordings().signal[:1100]
    return (signal - known.std((0, 1))) / known.mean((0, 1))


def in_g_by_milli(signal: Tensor) -> Tensor:
    """In g, by the statistics of thousandths of g."""
    return normalised(signal / 1000)


def twice(signal: Tensor) -> Tensor:
    """Once while loading, and once more in the transform."""
    return normalised(normalised(signal))


def by_numpy(signal: Tensor) -> Tensor:
    """The statistics come from NumPy, and with them double precision."""
    known = recordings().signal[:1100].numpy().astype("float64")
    return torch.from_numpy((signal.numpy() - known.mean((0, 1))) / known.std((0, 1)))


def broken_sensor(signal: Tensor) -> Tensor:
    """Recordings that broke off are filled up with NaN."""
    signal = normalised(signal).clone()
    signal[::40, 18:] = float("nan")
    return signal


def by_range(signal: Tensor) -> Tensor:
    """Scales by the range over the wrong dimensions, then cuts to whole numbers."""
    low, high = signal.amin(), signal.amax()
    return torch.div(signal - low, high - low, rounding_mode="floor")


def earlier(known: Recordings) -> Recordings:
    """The labels are one recording late."""
    return known._replace(gesture=known.gesture.roll(1))


def from_one(known: Recordings) -> Recordings:
    return known._replace(gesture=known.gesture + 1)


def sorted_by_gesture(known: Recordings) -> Recordings:
    """As they were recorded: one gesture after the other."""
    order = known.gesture.argsort(stable=True)
    return Recordings(*(column[order] for column in known))


def without_circles(known: Recordings) -> Recordings:
    """Cuts off what was recorded last."""
    keep = known.gesture < 4
    return Recordings(*(column[keep] for column in known))


def as_float(known: Recordings) -> Recordings:
    return known._replace(gesture=known.gesture.float())


def one_by_one(known: Recordings) -> Recordings:
    """Fills the columns from the same row."""
    return Recordings(*(column[:1].expand(len(known.signal), *column.shape[1:]) for column in known))


def with_later_ones(known: Recordings) -> Recordings:
    """Trains on all recordings, the ones for validation too."""
    return recordings()


def by_number(output: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(output.squeeze(1), target.float())


def adam_with(**options: Any) -> Any:
    return lambda model: torch.optim.Adam(model.parameters(), **({"lr": 5e-3} | options))


def rnn_without_grad(model: nn.Module) -> torch.optim.Optimizer:
    """The classifier's parameters only."""
    return torch.optim.Adam(model.classify.parameters(), lr=5e-3)  # type: ignore[union-attr]


def plain_sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)


def forgotten(model: nn.Module, batch: list[Tensor], optimizer: torch.optim.Optimizer) -> Tensor:
    """Never clears the gradients."""
    loss = F.cross_entropy(model(batch[0], batch[1]), batch[2])
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach()


CASES: tuple[Case, ...] = (
    faulty(build, "batch-mixing", variant="batch-first", model=BatchAsTime),
    faulty(build, "batch-mixing", variant="view", model=BothWays),
    faulty(build, "ignored-input", model=SignalOnly),
    faulty(build, "vanishing-gradient", also=("vanishing-initialisation",), model=DeepSigmoid),
    faulty(build, "exploding-gradient", also=("exploding-initialisation",), model=OwnCell),
    faulty(build, "dead-relu", model=Convolutions),
    faulty(build, "zero-gradient", model=Stepped),
    faulty(build, "graph-cut", model=CutState),
    faulty(build, "wrong-custom-backward", model=OwnTanh),
    faulty(build, "dropout-too-strong", model=Dropping),
    faulty(build, "mse-for-classification", also=("output-shape-mismatch",), model=OneNumber, loss=by_number),
    faulty(build, "forward-shape-mismatch", model=Flat),
    faulty(build, "unregistered-modules", model=Parts),
    faulty(build, "inputs-not-normalised", prepare=as_measured),
    faulty(build, "wrong-normalisation-statistics", variant="swapped", prepare=swapped),
    faulty(build, "wrong-normalisation-statistics", variant="unit", also=("constant-inputs",), prepare=in_g_by_milli),
    faulty(build, "inputs-normalised-twice", prepare=twice),
    faulty(build, "train-val-preprocessing-mismatch", prepare_val=as_measured),
    faulty(build, "input-dtype-mismatch", prepare=by_numpy),
    faulty(build, "nonfinite-inputs", prepare=broken_sensor),
    faulty(build, "constant-inputs", prepare=by_range),
    faulty(build, "labels-unrelated-to-inputs", select=earlier),
    faulty(build, "labels-out-of-range", select=from_one),
    faulty(build, "unshuffled-training-data", select=sorted_by_gesture, loader={"shuffle": False}),
    faulty(build, "missing-classes", select=without_circles),
    faulty(build, "label-dtype-mismatch", select=as_float),
    faulty(build, "repeated-samples", also=("constant-inputs",), select=one_by_one),
    faulty(build, "train-val-leakage", structural=True, select=with_later_ones),
    faulty(build, "learning-rate-too-high", optimizer=adam_with(lr=0.5)),
    faulty(build, "learning-rate-too-low", optimizer=adam_with(lr=5e-6)),
    faulty(build, "adam-epsilon-out-of-range", optimizer=adam_with(eps=5.0)),
    faulty(build, "parameters-missing-from-optimizer", optimizer=rnn_without_grad),
    faulty(build, "gradient-clip-too-small", optimizer=plain_sgd, clip_grad_norm=1e-4),
    faulty(build, "gradients-not-cleared", train_step=forgotten),
)
