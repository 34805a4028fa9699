"""Plain variants of loop faults that are not in the zoo, each beside a loop that looks like it and is fine."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent

import pytest
import torch
from watching import watch_source

from diagnose.watch.validation import Evaluation, Validation, at_chance

HEAD = """
import copy
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
x = torch.randn(520, 6)
y = (x @ torch.randn(6, 3)).argmax(1)
model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loader = DataLoader(TensorDataset(x[:400], y[:400]), batch_size=40, shuffle=True)
held_out = DataLoader(TensorDataset(x[400:], y[400:]), batch_size=60)

def evaluate():
    model.eval()
    with torch.no_grad():
        return sum(nn.functional.cross_entropy(model(a), b).item() for a, b in held_out)

def train(after=lambda: None):
    model.train()
    for a, b in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(a), b).backward()
        optimizer.step()
        after()
"""


def alarms(body: str, folder: Path, *, parts: bool = False) -> dict[str, str]:
    return dict(watch_source(HEAD + dedent(body), folder, parts=parts).alarms)


def scheduled(made: str, epochs: int = 10) -> str:
    return f"scheduler = lr_scheduler.{made}\nfor epoch in range({epochs}):\n    train(scheduler.step)\n"


@pytest.mark.parametrize(
    ("made", "found"),
    [
        ("ExponentialLR(optimizer, gamma=0.7)", {"schedule-collapses": "error"}),
        ("StepLR(optimizer, step_size=6, gamma=0.1)", {"schedule-collapses": "error"}),
        ("ExponentialLR(optimizer, gamma=0.9)", {"schedule-collapses": "warning"}),
        ("CosineAnnealingLR(optimizer, T_max=4)", {"schedule-period-mismatch": "warning"}),
        ("LinearLR(optimizer, 0.01, total_iters=500)", {"warmup-outlasts-training": "warning"}),
        ("OneCycleLR(optimizer, 0.2, total_steps=1000)", {"warmup-outlasts-training": "warning"}),
    ],
)
def test_a_schedule_of_epochs_that_is_stepped_per_batch(made: str, found: dict[str, str], tmp_path: Path) -> None:
    assert alarms(scheduled(made), tmp_path) == found


@pytest.mark.parametrize(
    "made",
    [
        "OneCycleLR(optimizer, 0.2, total_steps=100)", "CosineAnnealingLR(optimizer, T_max=100)",
        "ExponentialLR(optimizer, gamma=0.9999)", "StepLR(optimizer, step_size=45, gamma=0.1)",
        "LinearLR(optimizer, 0.1, total_iters=20)", "LambdaLR(optimizer, lambda step: 1e-4 * 1.09 ** step)",
    ],
)  # fmt: skip
def test_a_schedule_of_batches_is_fine(made: str, tmp_path: Path) -> None:
    assert alarms(scheduled(made), tmp_path) == {}


def test_the_same_decay_per_epoch_is_fine(tmp_path: Path) -> None:
    body = """
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.8)
    for epoch in range(12):
        train()
        scheduler.step()
    """
    assert alarms(body, tmp_path) == {}


def keeping(line: str, end: str = "") -> str:
    each = "train()\nif epoch in (1, 2):\n" + indent(line, "    ")
    return f"kept = []\nfor epoch in range(4):\n{indent(each, '    ')}\n{end}\n"


@pytest.mark.parametrize(
    "line",
    ["best = model.state_dict()", "best = {\n    'epoch': epoch,\n    'model': model.state_dict(),\n}",
     "best = dict(model.state_dict())", "kept.append(model.state_dict())"],
)  # fmt: skip
def test_weights_kept_without_a_copy_and_never_used(line: str, tmp_path: Path) -> None:
    assert alarms(keeping(line), tmp_path) == {"best-weights-by-reference": "warning"}


@pytest.mark.parametrize(
    "line",
    ["best = copy.deepcopy(model.state_dict())", "best = {k: v.clone() for k, v in model.state_dict().items()}",
     "best = model.state_dict(); torch.save(best, BUFFER)", "state = model.state_dict(); print(len(state))"],
)  # fmt: skip
def test_weights_that_are_copied_or_saved_at_once_are_fine(line: str, tmp_path: Path) -> None:
    assert alarms("import io\nBUFFER = io.BytesIO()\n" + keeping(line), tmp_path) == {}


CHECKPOINT = """
import io
for epoch in range(6):
    train()
    NAME = {"epoch": epoch, "model": model.state_dict()}
    if epoch in (1, 2):
        THEN
"""


@pytest.mark.parametrize(
    ("name", "then", "found"),
    [
        ("checkpoint", "torch.save(checkpoint, io.BytesIO())", {}),
        ("best_checkpoint", "torch.save(best_checkpoint, io.BytesIO())", {}),
        ("checkpoint", "kept = checkpoint", {"best-weights-by-reference": "warning"}),
    ],
)
def test_a_checkpoint_that_is_saved_in_some_epochs(name: str, then: str, found: dict[str, str], tmp_path: Path) -> None:
    assert alarms(CHECKPOINT.replace("NAME", name).replace("THEN", then), tmp_path) == found


FOLLOWED = """
average = copy.deepcopy(model.state_dict())
def follow():
    for name, value in model.state_dict().items():
        average[name].lerp_(value, 0.01) if value.is_floating_point() else average[name].copy_(value)
for epoch in range(105):
    train(follow)
    if epoch == 103:
        weights = COPIED
model.load_state_dict(weights)
"""


def test_an_average_that_takes_the_weights_at_every_step_hides_nothing(tmp_path: Path) -> None:
    assert alarms(FOLLOWED.replace("COPIED", "copy.deepcopy(model.state_dict())"), tmp_path) == {}
    found = alarms(FOLLOWED.replace("COPIED", "model.state_dict()"), tmp_path)
    assert found == {"best-weights-by-reference": "error"}


def test_the_weights_of_several_models_may_be_kept(tmp_path: Path) -> None:
    body = """
    best = []
    for fold in range(3):
        model = nn.Linear(6, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        train()
        best.append(model.state_dict())
    """
    assert alarms(body, tmp_path) == {}


def test_initial_weights_that_are_no_copy_do_not_reset_a_model(tmp_path: Path) -> None:
    body = "first = model.state_dict()\nfor fold in range(3):\n    model.load_state_dict(first)\n    train()\n"
    assert alarms(body, tmp_path) == {"best-weights-by-reference": "error"}


def test_steps_on_a_batch_that_was_fetched_once(tmp_path: Path) -> None:
    body = """
    a, b = next(iter(loader))
    for step in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(a), b).backward()
        optimizer.step()
    """
    assert alarms(body, tmp_path) == {}, "without an evaluation it is a test of memorising one batch"
    assert alarms(dedent(body) + "evaluate()\n", tmp_path) == {"first-batch-only": "error"}


def test_full_batches_beside_a_loader_for_evaluation_are_fine(tmp_path: Path) -> None:
    body = """
    for step in range(30):
        model.train()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[:400]), y[:400]).backward()
        optimizer.step()
        evaluate()
    """
    assert alarms(body, tmp_path) == {}


EDGES = """
edges = torch.randint(520, (400, 2))
loader = DataLoader(TensorDataset(edges), batch_size=40, shuffle=True)
truth = torch.cat([torch.ones(40), torch.zeros(40)])
for epoch in range(4):
    for (pairs,) in loader:
        optimizer.zero_grad()
        nodes = model(x)
        others = torch.randint(520, pairs.shape)
        scores = torch.cat([(nodes[p[:, 0]] * nodes[p[:, 1]]).sum(1) for p in (pairs, others)])
        nn.functional.binary_cross_entropy_with_logits(scores, truth).backward()
        optimizer.step()
"""


def test_edges_of_one_graph_are_not_one_batch(tmp_path: Path) -> None:
    assert "first-batch-only" not in alarms(EDGES, tmp_path)


LATE = """
for epoch in range(20):
    model.train()
    total = 0
    for a, b in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(a), b)
        total = total + loss / len(loader)
    LOSS.backward()
    optimizer.step()
"""


def test_a_step_on_the_last_batch_of_each_pass(tmp_path: Path) -> None:
    assert alarms(LATE.replace("LOSS", "loss"), tmp_path) == {"first-batch-only": "error"}


def test_a_step_on_the_mean_loss_of_a_pass_is_not_taken_for_one(tmp_path: Path) -> None:
    assert "first-batch-only" not in alarms(LATE.replace("LOSS", "total"), tmp_path)


@pytest.mark.parametrize("size", [60, 120])  # of the batches of the evaluation: two, one
def test_an_evaluation_with_gradients_between_steps_on_all_samples_is_fine(size: int, tmp_path: Path) -> None:
    body = f"""
    held_out = DataLoader(TensorDataset(x[400:], y[400:]), batch_size={size})
    for step in range(30):
        model.train()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[:400]), y[:400]).backward()
        optimizer.step()
        model.eval()
        total = sum(nn.functional.cross_entropy(model(a), b).item() for a, b in held_out)
    """
    assert alarms(body, tmp_path) == {}


def test_an_evaluation_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    body = """
    counts = [0]
    def now_and_then():
        counts[0] += 1
        if counts[0] % 4 == 0:
            evaluate()
            AFTER
    for epoch in range(5):
        train(now_and_then)
    """
    assert alarms(body.replace("AFTER", "pass"), tmp_path) == {"eval-mode-in-training": "error"}
    assert alarms(body.replace("AFTER", "model.train()"), tmp_path) == {}


def test_a_validation_at_chance_while_training_falls_is_no_clean_bill(tmp_path: Path) -> None:
    body = """
    model = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    LABELS
    for epoch in range(12):
        train()
        evaluate()
    """
    assert alarms(body.replace("LABELS", "pass"), tmp_path, parts=True) == {}
    shifted = "held_out = DataLoader(TensorDataset(x[400:], (y[400:] + 1) % 3), batch_size=60)"
    assert alarms(body.replace("LABELS", shifted), tmp_path, parts=True)["no-generalisation"] == "error"


def evaluations(shares: list[float], predict: str) -> list[Evaluation]:
    """Three of 600 samples: ``shares`` of the classes; ``predict``: "right", "luck" (as often, but any), "first"
    (always the first class) or "weighted" (right for two of five samples; for the others any class, each as often)."""
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.tensor(shares)
    labels = probabilities.multinomial(600, replacement=True, generator=generator)
    any_class = probabilities.multinomial(600, replacement=True, generator=generator)
    often = torch.randint(len(shares), (600,), generator=generator)
    right = torch.rand(600, generator=generator) < 0.4
    named = {"right": labels, "luck": any_class, "first": labels * 0, "weighted": torch.where(right, labels, often)}
    book = Validation()
    logits = torch.nn.functional.one_hot(named[predict], len(shares)).float()
    for step in (10, 20, 30):
        book.lost(step, 0, "cross_entropy", (logits, labels), {}, torch.tensor(1.0))
    return book.of_one_split(set())


@pytest.mark.parametrize(
    ("shares", "predict", "found"),
    [
        ([0.5, 0.5], "luck", True), ([0.6, 0.3, 0.1], "luck", True), ([0.25] * 4, "first", True),
        ([0.01] * 100, "luck", True), ([0.5, 0.5], "right", False), ([0.25] * 4, "right", False),
        ([0.6, 0.3, 0.1], "weighted", False), ([0.95, 0.05], "weighted", False), ([0.95, 0.05], "first", False),
        ([1.0, 0.0], "right", False), ([1.0], "right", False),
    ],
)  # fmt: skip
def test_accuracy_at_chance_is_told_where_accuracy_tells(shares: list[float], predict: str, found: bool) -> None:
    assert (at_chance(evaluations(shares, predict), 0.99, 500.0) is not None) is found


def test_a_validation_of_rare_events_is_not_judged_by_accuracy(tmp_path: Path) -> None:
    body = """
    x = torch.randn(1000, 6)
    y = (x[:, 0] > 1.5).long()
    model = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    loader = DataLoader(TensorDataset(x[:400], y[:400]), batch_size=40, shuffle=True)
    held_out = DataLoader(TensorDataset(x[400:], y[400:].roll(1)), batch_size=60)
    for epoch in range(12):
        train()
        evaluate()
    """
    watched = watch_source(HEAD + dedent(body), tmp_path, parts=True)
    result = next(r for r in watched.results if r.name == "no-generalisation")
    assert (result.status, "of one class" in result.reason) == ("skipped", True)


@pytest.mark.parametrize(
    ("scores", "found"),
    [
        ("model(a).argmax(0)", {"metric-over-wrong-axis": "error"}),
        ("model(a).argmax(1)", {}),
        ("model(x[:7]).argmax(0)", {}),  # the best of seven candidates for each class
    ],
)
def test_the_largest_among_samples(scores: str, found: dict[str, str], tmp_path: Path) -> None:
    body = f"""
    for epoch in range(3):
        train()
        model.eval()
        with torch.no_grad():
            for a, b in held_out:
                {scores}
    """
    assert alarms(body, tmp_path) == found


def test_a_restored_state_is_lost_with_its_optimizer(tmp_path: Path) -> None:
    body = """
    import io
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    train()
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    checkpoint = torch.load(file)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    AGAIN
    train()
    """
    again = "optimizer = torch.optim.Adam(model.parameters(), lr=0.01)"
    assert alarms(body.replace("AGAIN", "pass"), tmp_path) == {}
    assert alarms(body.replace("AGAIN", again), tmp_path) == {"optimizer-state-not-restored": "warning"}


REBUILDING = """
seen = torch.rand(400, 8, 8).mul(SCALE).flatten(1)
seen[:, ::4] = 0.0  # a background, which every sample has at the same places
loader = DataLoader(TensorDataset(seen), batch_size=32, shuffle=True)
model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 64))
optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
for epoch in range(4):
    for (a,) in loader:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(GIVEN), GIVEN).backward()
        optimizer.step()
    with torch.no_grad():
        nn.functional.mse_loss(model(seen[:50]), seen[:50])
"""


@pytest.mark.parametrize(
    ("given", "scale", "found"),
    [("a", "1.0", {}), ("a", "0.0", {}), ("seen[:32]", "1.0", {"first-batch-only": "error"})],
)
def test_batches_with_the_same_background(given: str, scale: str, found: dict[str, str], tmp_path: Path) -> None:
    assert alarms(REBUILDING.replace("GIVEN", given).replace("SCALE", scale), tmp_path) == found
