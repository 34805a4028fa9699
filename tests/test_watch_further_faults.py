"""Faults that a first look at scripts in other styles missed, each beside a program that looks like it and is fine."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
import torch
from watching import watch_source

from diagnose.watch.rows import row_keys

HEAD = """
import copy, io
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset
torch.manual_seed(0)
x = torch.randn(240, 6)
y = (x @ torch.randn(6, 3)).argmax(1)

class Rows(Dataset):
    def __init__(self, rows, noise=0.0):
        self.x, self.y, self.noise = x.numpy()[rows], y.numpy()[rows], noise
    def __len__(self):
        return len(self.x)
    def __getitem__(self, i):
        return {"x": torch.tensor(self.x[i]) + self.noise * torch.randn(6), "y": int(self.y[i])}

def make():
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))

model = make()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = TensorDataset(x[:160], y[:160])
held_out = DataLoader(TensorDataset(x[160:], y[160:]), batch_size=40)

def step(loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

def evaluate(batches=held_out):
    model.eval()
    with torch.no_grad():
        for batch in batches:
            a, b = (batch["x"], batch["y"]) if isinstance(batch, dict) else batch
            F.cross_entropy(model(a), b)
    model.train()
"""


def alarms(body: str, folder: Path, *, parts: bool = False) -> dict[str, str]:
    return dict(watch_source(HEAD + dedent(body), folder, parts=parts).alarms)


CLOSURE = """
loader = DataLoader(data, batch_size=20, shuffle=True)
optimizer = torch.optim.Adam(PARAMETERS, lr=1e-2)
for epoch in range(3):
    for a, b in loader:
        def closure():
            BEFORE
            optimizer.zero_grad()
            loss = F.cross_entropy(model(a), b)
            loss.backward()
            return loss
        optimizer.step(closure)
    evaluate()
"""


@pytest.mark.parametrize(
    ("parameters", "before", "found"),
    [
        ("model.parameters()", "model.train()", {}),
        ("model.parameters()", "model.eval()", {"eval-mode-in-training": "error"}),
        ("model[:3].parameters()", "model.train()", {"parameters-missing-from-optimizer": "error"}),
    ],
)
def test_gradients_that_are_made_in_a_closure(
    parameters: str, before: str, found: dict[str, str], tmp_path: Path
) -> None:
    assert alarms(CLOSURE.replace("PARAMETERS", parameters).replace("BEFORE", before), tmp_path) == found


def test_a_line_search_calls_its_closure_many_times(tmp_path: Path) -> None:
    body = """
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
    for epoch in range(10):
        def closure():
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss
        optimizer.step(closure)
    """
    assert alarms(body, tmp_path) == {}


COPIES = """
train = DataLoader(TRAIN, batch_size=20, shuffle=True)
valid = DataLoader(VALID, batch_size=40)
for epoch in range(4):
    for batch in train:
        step(F.cross_entropy(model(batch["x"]), batch["y"]))
    evaluate(valid)
"""


@pytest.mark.parametrize(
    ("train", "valid", "found"),
    [
        ("Rows(range(240))", "Rows(range(160, 240))", {"training-on-validation-data": "error"}),
        ("Rows(range(160))", "Rows(range(160, 240))", {}),
        ("Rows(range(160), 0.1)", "Rows(range(160, 240))", {}),
        ("Rows(range(160))", "Rows(range(160))", {}),  # the accuracy on the training data
        ("Rows([i % 7 for i in range(160)])", "Rows(range(6))", {}),  # few different samples by nature
    ],
)
def test_samples_that_a_data_set_copies(train: str, valid: str, found: dict[str, str], tmp_path: Path) -> None:
    assert alarms(COPIES.replace("TRAIN", train).replace("VALID", valid), tmp_path) == found


FOLDS = """
for fold in range(3):
    held = set(range(80 * fold, 80 * fold + 80))
    kept = [i for i in range(240) if i not in held]
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train = DataLoader(every, batch_size=20, TRAIN)
    valid = DataLoader(every, batch_size=40, sampler=torch.utils.data.SubsetRandomSampler(sorted(held)))
    for epoch in range(4):
        for a, b in train:
            step(F.cross_entropy(model(a), b))
        evaluate(valid)
"""


@pytest.mark.parametrize(
    ("train", "found"),
    [
        ("sampler=torch.utils.data.SubsetRandomSampler(kept)", {}),
        ("shuffle=True", {"training-on-validation-data": "error"}),
    ],
)
def test_loaders_of_one_line_are_of_other_samples_in_each_fold(
    train: str, found: dict[str, str], tmp_path: Path
) -> None:
    assert alarms("every = TensorDataset(x, y)\n" + FOLDS.replace("TRAIN", train), tmp_path) == found


def test_rows_are_known_by_inputs_and_targets() -> None:
    inputs, targets = torch.randn(5, 3, 40, 40), torch.arange(5)
    keys = row_keys([inputs, {"label": targets}])
    assert len(set(keys)) == 5
    assert row_keys((inputs.flip(0), targets.flip(0))) == keys[::-1]
    assert not set(row_keys((inputs, targets + 1))) & set(keys)
    assert row_keys((inputs, targets[:2])) == row_keys("text") == []


FEW = """
for epoch in range(6):
    for i, (a, b) in enumerate(LOADER):
        if i == 2:
            break
        step(F.cross_entropy(model(a), b))
    evaluate()
"""


@pytest.mark.parametrize(
    ("loader", "found"),
    [
        ("loader", {"first-batch-only": "error"}),
        ("DataLoader(data, batch_size=20)", {"first-batch-only": "error"}),  # made anew for each pass
        ("DataLoader(data, batch_size=20, shuffle=True)", {}),  # epochs of a fixed number of steps
        ("DataLoader(data, batch_size=80)", {}),
    ],
)
def test_passes_that_are_left_early(loader: str, found: dict[str, str], tmp_path: Path) -> None:
    body = "loader = DataLoader(data, batch_size=20)\n" + FEW.replace("LOADER", loader)
    assert alarms(body, tmp_path) == found


@pytest.mark.parametrize(
    ("shuffle", "train", "found"),
    [
        ("False", "a, b", {"first-batch-only": "error"}),
        ("True", "a, b", {}),
        ("False", "x[i : i + 20], y[i : i + 20]", {}),  # the batch of the loader is a picture of how it goes
    ],
)
def test_a_loader_that_is_begun_anew_for_each_step(
    shuffle: str, train: str, found: dict[str, str], tmp_path: Path
) -> None:
    body = f"""
    for i in range(60):
        a, b = next(iter(DataLoader(data, batch_size=20, shuffle={shuffle})))
        a, b = {train}
        step(F.cross_entropy(model(a), b))
        if i % {1 if train == "a, b" else 15} == 0:
            evaluate()
    """
    if train != "a, b":
        body = body.replace("    a, b = next", "    if i % 15 == 0:\n            shown, _ = next")
    assert alarms(body, tmp_path) == found


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("loss = loss.detach().requires_grad_()", {"loss-detached": "error"}),
        ("loss = torch.tensor(loss.item(), requires_grad=True)", {"loss-detached": "error"}),
        ("", {}),
    ],
)
def test_a_loss_without_a_way_back(change: str, found: dict[str, str], tmp_path: Path) -> None:
    body = f"for i in range(30):\n    loss = F.cross_entropy(model(x), y)\n    {change or 'pass'}\n    step(loss)\n"
    assert alarms(body, tmp_path) == found


def test_tensors_that_nobody_uses_are_no_fault_of_the_loss(tmp_path: Path) -> None:
    body = "model = make()\nfor i in range(30):\n    step(F.cross_entropy(model(x), y))\n"
    assert alarms(body, tmp_path) == {"stale-optimizer-parameters": "error"}


def test_gradients_that_are_written_by_hand_are_gradients(tmp_path: Path) -> None:
    body = """
    for i in range(30):
        noise = torch.zeros(1, requires_grad=True)
        (noise * 2).sum().backward()
        optimizer.zero_grad()
        gradients = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
        for p, gradient in zip(model.parameters(), gradients):
            p.grad = gradient
        optimizer.step()
    """
    assert "loss-detached" not in alarms(body, tmp_path)


@pytest.mark.parametrize(("lr", "found"), [("30.0", {"learning-rate-too-high": "error"}), ("1e-2", {})])
def test_a_rate_that_replaces_the_weights(lr: str, found: dict[str, str], tmp_path: Path) -> None:
    body = f"""
    optimizer = torch.optim.Adam(model.parameters(), lr={lr})
    for i in range(60):
        step(F.cross_entropy(model(x), y))
    """
    assert alarms(body, tmp_path) == found


RESTORED = """
loader = DataLoader(data, batch_size=20, shuffle=True)
for epoch in range(5):
    for a, b in loader:
        step(F.cross_entropy(model(a), b))
    best = TAKEN
model.load_state_dict(best)
evaluate()
"""


@pytest.mark.parametrize(
    ("taken", "found"),
    [
        ("model.state_dict()", {"best-weights-by-reference": "warning"}),
        ("{k: v.clone() for k, v in model.state_dict().items()}", {}),
    ],
)
def test_the_last_epoch_was_the_best(taken: str, found: dict[str, str], tmp_path: Path) -> None:
    assert alarms(RESTORED.replace("TAKEN", taken), tmp_path) == found


def test_weights_that_are_edited_in_place_are_no_best_ones(tmp_path: Path) -> None:
    edited = RESTORED.replace("    best = TAKEN", "    state = model.state_dict()\n    model.load_state_dict(state)")
    assert alarms(edited.replace("\nmodel.load_state_dict(best)", ""), tmp_path) == {}


RESUMED = """
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for i in range(10):
    step(F.cross_entropy(model(x), y))
file = io.BytesIO()
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
file.seek(0)
model = make()
model.load_state_dict(torch.load(file)["model"])
AFTER
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for i in range(10):
    step(F.cross_entropy(model(x), y))
"""


@pytest.mark.parametrize(
    ("after", "found"), [("", {"optimizer-state-not-restored": "warning"}), ("model[4].reset_parameters()", {})]
)
def test_a_head_that_is_made_anew_is_no_resume(after: str, found: dict[str, str], tmp_path: Path) -> None:
    assert alarms(RESUMED.replace("AFTER", after), tmp_path) == found


SCALES = """
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=LR)
goal = x.sum(1, keepdim=True) * WIDTH + MEAN
loader = DataLoader(TensorDataset(x, goal), batch_size=20, shuffle=True)
for epoch in range(40):
    for a, b in loader:
        step(F.mse_loss(model(a), b))
"""


@pytest.mark.parametrize(
    ("lr", "width", "mean", "found"),
    [
        ("1e-6", "20", "900", {"unscaled-regression-target": "warning"}),
        ("1e-4", "20", "900", {}),  # unscaled, and learned
        ("1e-5", "1", "0.5", {}),
    ],
)
def test_a_target_that_is_never_reached(lr: str, width: str, mean: str, found: dict[str, str], tmp_path: Path) -> None:
    body = SCALES.replace("LR", lr).replace("WIDTH", width).replace("MEAN", mean)
    assert alarms(body, tmp_path, parts=True) == found
