"""Two tasks from one trunk: which digit it is, and how far it leans; batches and outputs are dictionaries."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import affine_transform
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

from diagnose import Pipeline
from zoo.cases import cases

TRAIN = 1450


@functools.lru_cache
def leaning():
    data = load_digits()
    rng = np.random.default_rng(30)
    order = rng.permutation(len(data.target))
    lean = rng.uniform(-0.6, 0.6, len(order))
    images = [
        affine_transform(data.images[i], [[1, 0], [s, 1]], offset=[0, -3.5 * s], order=1) / 16
        for i, s in zip(order, lean, strict=True)
    ]
    return np.stack(images).astype(np.float32)[:, None], data.target[order], lean.astype(np.float32)


class Leaning(Dataset):
    def __init__(self, begin, end, unit=1.0, shift=0, known=None, column=True):
        images, digit, lean = leaning()
        lean = np.roll(lean, shift)
        self.images, self.digit, self.lean = images[begin:end], digit[begin:end], lean[begin:end] * np.float32(unit)
        self.known, self.column = known, column

    def __len__(self):
        return len(self.digit)

    def __getitem__(self, i):
        digit, lean = int(self.digit[i]), torch.tensor(self.lean[i])
        if self.known is not None and i % 10 >= self.known:
            digit = -1
        return {"image": torch.from_numpy(self.images[i]), "digit": digit, "lean": lean[None] if self.column else lean}


class Trunk(nn.Module):
    def __init__(self, stop=False):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Flatten()
        )
        self.digit = nn.Linear(16 * 64, 10)
        self.lean = nn.Sequential(nn.Linear(16 * 64, 32), nn.ReLU(), nn.Linear(32, 1))
        self.stop = stop

    def forward(self, image):
        h = self.trunk(image)
        return {"digit": self.digit(h), "lean": self.lean(h.detach() if self.stop else h)}


def losses(model, batch):
    out = model(batch["image"])
    return {"digit": F.cross_entropy(out["digit"], batch["digit"]), "lean": F.mse_loss(out["lean"], batch["lean"])}


def both(model, batch):
    return sum(losses(model, batch).values())


def make(model=None, compute_loss=both, parameters=None, train_step=None, **data):
    model = model or Trunk()
    return Pipeline(
        model=model,
        train=DataLoader(Leaning(0, TRAIN, **data), batch_size=48, shuffle=True),
        val=DataLoader(Leaning(TRAIN, 1797, **data), batch_size=100),
        compute_loss=compute_loss,
        train_step=train_step,
        optimizer=torch.optim.Adam(parameters or model.parameters(), lr=2e-3),
        epochs=5,
    )


def build():
    return make()


# faults


def one_loss_as_a_number():
    def loss(model, batch):
        parts = losses(model, batch)
        return parts["digit"] + parts["lean"].item()

    return make(compute_loss=loss)


def heads_in_a_dictionary():
    class Heads(Trunk):
        def __init__(self):
            super().__init__()
            del self.digit, self.lean
            self.heads = {"digit": nn.Linear(1024, 10), "lean": nn.Linear(1024, 1)}

        def forward(self, image):
            h = self.trunk(image)
            return {name: head(h) for name, head in self.heads.items()}

    return make(model=Heads())


def features_kept_for_plots():
    class Kept(Trunk):
        def forward(self, image):
            self.features = self.trunk(image).detach()
            return {"digit": self.digit(self.features), "lean": self.lean(self.features)}

    return make(model=Kept())


def probabilities_of_digits():
    class Sure(Trunk):
        def forward(self, image):
            out = super().forward(image)
            return out | {"digit": out["digit"].softmax(-1)}

    return make(model=Sure())


def flat_against_column():
    return make(column=False)


def lean_in_thousandths():
    return make(unit=1000.0)


def lean_of_another():
    return make(shift=5)


def one_head_not_optimised():
    model = Trunk()
    return make(model=model, parameters=[*model.trunk.parameters(), *model.digit.parameters()])


def cleared_between_the_losses():
    def step(model, batch, optimizer):
        parts = losses(model, batch)
        for loss in parts.values():
            optimizer.zero_grad()
            loss.backward(retain_graph=True)
        optimizer.step()
        return sum(parts.values()).detach()

    return make(train_step=step)


def cleared_too_soon():
    def step(model, batch, optimizer):
        loss = both(model, batch)
        loss.backward()
        optimizer.zero_grad()
        optimizer.step()
        return loss.detach()

    return make(train_step=step)


def never_cleared():
    def step(model, batch, optimizer):
        loss = both(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 50.0)
        optimizer.step()
        model.eval()
        with torch.no_grad():
            model(batch["image"])
        model.train()
        return loss.detach()

    return make(train_step=step)


def clipped_afterwards():
    def step(model, batch, optimizer):
        optimizer.zero_grad()
        loss = both(model, batch)
        loss.backward()
        optimizer.step()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        return loss.detach()

    return make(train_step=step)


def unknown_is_minus_one():
    return make(known=8)


# healthy


def learned_weights_of_losses():
    """Uncertainty of each task, learned; the sum may be negative."""

    class Weighted(Trunk):
        def __init__(self):
            super().__init__()
            self.log_var = nn.Parameter(torch.zeros(2))

    def loss(model, batch):
        parts = torch.stack(list(losses(model, batch).values()))
        return (parts * torch.exp(-model.log_var) + model.log_var).sum()

    return make(model=Weighted(), compute_loss=loss)


def side_task_does_not_touch_the_trunk():
    return make(model=Trunk(stop=True))


def some_digits_unknown():
    def loss(model, batch):
        out = model(batch["image"])
        digit = F.cross_entropy(out["digit"], batch["digit"], ignore_index=-1)
        return digit + 5 * F.mse_loss(out["lean"], batch["lean"]), out

    return make(known=8, compute_loss=loss)


def one_task_after_the_other():
    def step(model, batch, optimizer):
        optimizer.zero_grad()
        for loss in losses(model, batch).values():
            loss.backward(retain_graph=True)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        return loss.detach()

    return make(train_step=step)


def trunk_frozen_after_use():
    torch.manual_seed(0)
    model = Trunk()
    model.trunk.requires_grad_(False)
    return make(model=model, parameters=[p for p in model.parameters() if p.requires_grad])


def outputs_as_a_tuple_with_features():
    class Tuple(Trunk):
        def forward(self, image):
            h = self.trunk(image)
            return self.digit(h), self.lean(h), h

    def loss(model, batch):
        digit, lean, _ = model(batch["image"])
        return 0.7 * F.cross_entropy(digit, batch["digit"]) + 0.3 * F.l1_loss(lean, batch["lean"])

    return make(model=Tuple(), compute_loss=loss)


CASES = cases(
    build,
    {
        one_loss_as_a_number: ("unused-parameters", "loss-detached", "graph-cut"),
        heads_in_a_dictionary: "unregistered-modules",
        features_kept_for_plots: "graph-cut",
        probabilities_of_digits: "softmax-before-cross-entropy",
        flat_against_column: "target-broadcast",
        lean_in_thousandths: ("unscaled-regression-target", "regulariser-dominates"),
        lean_of_another: "labels-unrelated-to-inputs",
        one_head_not_optimised: "parameters-missing-from-optimizer",
        cleared_between_the_losses: ("gradients-cleared-before-step", "unused-parameters", "parameters-not-updated"),
        cleared_too_soon: ("gradients-cleared-before-step", "parameters-not-updated"),
        never_cleared: "gradients-not-cleared",
        clipped_afterwards: "clip-after-step",
        unknown_is_minus_one: "labels-out-of-range",
    },
    [
        learned_weights_of_losses, side_task_does_not_touch_the_trunk, some_digits_unknown, one_task_after_the_other,
        trunk_frozen_after_use, outputs_as_a_tuple_with_features,
    ],
    structural=[clipped_afterwards, lean_of_another],
)  # fmt: skip
