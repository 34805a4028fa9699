"""A small student learns from a teacher: temperature, KL divergence and the true labels, on waveforms of digits."""

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

TRAIN, HEAT = 1400, 3.0


@functools.lru_cache
def digits():
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(70))
    return (torch.tensor(data.data, dtype=torch.float32) / 16)[order], torch.tensor(data.target)[order]


def mlp(width, last=None):
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10), *([last] if last else []))


@functools.lru_cache
def trained():
    with torch.random.fork_rng():
        torch.manual_seed(71)
        x, y = digits()
        teacher = mlp(128)
        optimizer = torch.optim.Adam(teacher.parameters(), lr=3e-3)
        for _ in range(60):
            optimizer.zero_grad()
            F.cross_entropy(teacher(x[:TRAIN]), y[:TRAIN]).backward()
            optimizer.step()
    return teacher.eval().requires_grad_(False)


class Distil(nn.Module):
    def __init__(self, student=None, frozen=True):
        super().__init__()
        self.student, self.teacher = student or mlp(24), copy.deepcopy(trained())
        self.teacher.requires_grad_(not frozen)

    def forward(self, x):
        return self.student(x)


def mixed(model, batch):
    x, y = batch
    out = model(x)
    with torch.no_grad():
        wanted = model.teacher(x)
    soft = F.kl_div((out / HEAT).log_softmax(1), (wanted / HEAT).softmax(1), reduction="batchmean") * HEAT**2
    return 0.7 * soft + 0.3 * F.cross_entropy(out, y), out


def make(model=None, compute_loss=mixed, parameters=None, data=None, loss=None, intents=("frozen",), lr=3e-3):
    model = model or Distil()
    data = data or digits()
    return Pipeline(
        model=model,
        train=DataLoader(TensorDataset(*(c[:TRAIN] for c in data)), batch_size=64, shuffle=True),
        val=DataLoader(TensorDataset(*(c[TRAIN:] for c in data)), batch_size=100),
        compute_loss=compute_loss,
        loss=loss,
        optimizer=torch.optim.Adam(parameters or [p for p in model.parameters() if p.requires_grad], lr=lr),
        intents=intents,
        epochs=10,
    )


def build():
    return make()


# faults


def divergence_of_probabilities():
    def loss(model, batch):
        x, _ = batch
        out = model(x)
        with torch.no_grad():
            wanted = model.teacher(x)
        soft = F.kl_div((out / HEAT).softmax(1), (wanted / HEAT).softmax(1), reduction="batchmean") * HEAT**2
        return soft, out

    return make(compute_loss=loss)


def student_under_no_grad():
    def loss(model, batch):
        x, _ = batch
        with torch.no_grad():
            out, wanted = model(x), model.teacher(x)
        out.requires_grad_()
        return F.kl_div(out.log_softmax(1), wanted.softmax(1), reduction="batchmean"), out

    return make(compute_loss=loss)


def teacher_optimised():
    model = Distil(frozen=False)
    return make(model=model, parameters=model.teacher.parameters())


def softened_over_the_batch():
    def loss(model, batch):
        x, _ = batch
        out = model(x)
        with torch.no_grad():
            wanted = model.teacher(x)
        soft = F.kl_div((out / HEAT).log_softmax(0), (wanted / HEAT).softmax(0), reduction="batchmean") * HEAT**2
        return soft, out

    return make(compute_loss=loss)


def probabilities_to_the_divergence():
    """The student ends in a softmax, and the loss softens what it gets."""
    return make(model=Distil(mlp(24, nn.Softmax(dim=1))))


def teacher_of_yesterday_loaded():
    """The stored names begin with another word, and strict is off."""
    torch.manual_seed(5)
    model = Distil(mlp(24))
    stored = {f"net.{name}": value for name, value in trained().state_dict().items()}
    model.teacher = mlp(128).requires_grad_(False)
    model.teacher.load_state_dict(stored, strict=False)
    return make(model=model, intents=("frozen", "pretrained"))


def labels_with_a_header():
    x, y = digits()
    return make(data=(x, y.roll(1)), compute_loss=None, loss=nn.CrossEntropyLoss(), model=mlp(24), intents=())


def penalty_on_the_teacher_too():
    def loss(model, batch):
        value, out = mixed(model, batch)
        return value + 5.0 * sum(p.abs().sum() for p in model.parameters()), out

    return make(compute_loss=loss)


def half_precision_weights():
    class Half(Distil):
        def __init__(self):
            super().__init__()
            self.student = self.student.to(torch.bfloat16)

        def forward(self, x):
            return self.student(x.to(torch.bfloat16)).float()

    pipeline = make(model=Half())
    pipeline.optimizer = torch.optim.AdamW(pipeline.model.student.parameters(), lr=1e-4)
    pipeline.epochs = 30
    return pipeline


# healthy


def answers_computed_before():
    x, _ = digits()
    with torch.no_grad():
        soft = (trained()(x) / 2).softmax(1)
    return make(data=(x, soft), model=mlp(24), compute_loss=None, loss=nn.CrossEntropyLoss(), intents=())


def hidden_units_alike():
    class Hint(Distil):
        def __init__(self):
            super().__init__()
            self.bridge = nn.Linear(24, 128)

    def loss(model, batch):
        value, out = mixed(model, batch)
        with torch.no_grad():
            wanted = model.teacher[1](model.teacher[0](batch[0]))
        return value + 0.5 * F.mse_loss(model.bridge(model.student[1](model.student[0](batch[0]))), wanted), out

    return make(model=Hint(), compute_loss=loss)


def teacher_not_declared():
    return make(intents=())


def logits_matched():
    def loss(model, batch):
        x, _ = batch
        with torch.no_grad():
            wanted = model.teacher(x)
        return F.mse_loss(model(x), wanted)

    return make(compute_loss=loss)


CASES = cases(
    build,
    {
        divergence_of_probabilities: "target-outside-loss-domain",
        student_under_no_grad: ("graph-cut", "loss-detached"),
        teacher_optimised: (
            "parameters-missing-from-optimizer",
            "stale-optimizer-parameters",
            "parameters-not-updated",
        ),
        softened_over_the_batch: "softmax-over-batch",
        probabilities_to_the_divergence: "softmax-before-cross-entropy",
        teacher_of_yesterday_loaded: "pretrained-weights-not-loaded",
        labels_with_a_header: "labels-unrelated-to-inputs",
        penalty_on_the_teacher_too: "regulariser-dominates",
        half_precision_weights: "bf16-update-lost",
    },
    [answers_computed_before, hidden_units_alike, teacher_not_declared, logits_matched],
    structural=[teacher_of_yesterday_loaded],
)
