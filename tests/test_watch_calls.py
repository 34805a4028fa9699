"""What is seen at the calls themselves: what losses are given, what keeps graphs, what is restored."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
import torch
from torch.utils.data import TensorDataset
from watching import Watched, watch_source

from diagnose.config import Config
from diagnose.watch import judge
from diagnose.watch.losses import MOST_KEPT, LossBook
from diagnose.watch.samples import digests

HEAD = """
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset
torch.manual_seed(0)
x = torch.randn(240, 6)
y = (x @ torch.randn(6, 3)).argmax(1)
def build():
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))
model = build()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
data = TensorDataset(x, y)
loader = DataLoader(TensorDataset(x[:160], y[:160]), batch_size=20, shuffle=True)
held_out = DataLoader(TensorDataset(x[160:], y[160:]), batch_size=20)

def step(loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

def evaluate(batches=held_out):
    model.eval()
    with torch.no_grad():
        hits = sum((model(a).argmax(1) == b).sum().item() for a, b in batches)
    model.train()
    return hits
"""


def watched(body: str, folder: Path) -> Watched:
    return watch_source(HEAD + dedent(body), folder)


def alarms(body: str, folder: Path) -> dict[str, str]:
    """With what was seen at the losses, which the command adds to the captured step."""
    found = watched(body, folder)
    given = judge.parts([], Config(), found.loop)
    return found.alarms | {f.name: str(f.severity) for r in given for f in r.findings}


def test_thousands_of_backwards_without_a_step_are_kept_in_bounds() -> None:
    told: list[float] = []
    book = LossBook(told.extend)
    for _ in range(2 * MOST_KEPT):
        book.add(0, torch.tensor(1.0))
        book.stepped()
    book.settle()
    assert len(book.record()) == 1
    assert sum(told) == 2 * MOST_KEPT


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        ("F.cross_entropy(model(a).softmax(1), b) + model[0].weight.abs().mean()", "softmax-before-cross-entropy"),
        ("F.nll_loss(F.softmax(model(a), dim=1), b) + 0.1 * model(a).pow(2).mean()", "nll-on-probabilities"),
        ("F.binary_cross_entropy_with_logits(model(a)[:, 0].sigmoid(), (b == 0).float())", "bce-on-probabilities"),
        ("F.kl_div(model(a).softmax(1), F.one_hot(b, 3).float(), reduction='batchmean')", "target-outside-loss-domain"),
        ("F.smooth_l1_loss(model(a)[:, :1], b.float()) + F.cross_entropy(model(a), b)", "target-broadcast"),
    ],
)
def test_a_loss_is_given_what_it_does_not_take(loss: str, name: str, tmp_path: Path) -> None:
    assert alarms(f"for a, b in loader:\n    step({loss})\n", tmp_path) == {name: "error"}


@pytest.mark.parametrize(
    "loss",
    [
        "F.cross_entropy(model(a), model(a).detach().softmax(1)) + F.cross_entropy(model(a), b)",
        "F.nll_loss(F.log_softmax(model(a), dim=1), b)",
        "F.binary_cross_entropy(model(a)[:, 0].sigmoid(), (b == 0).float())",
        "F.kl_div(model(a).log_softmax(1), F.one_hot(b, 3).float(), reduction='batchmean') + 0 * model(a).mean()",
        "F.mse_loss(model(a).softmax(1), F.one_hot(b, 3).float())",
        "F.mse_loss(model(a)[:, 0], torch.zeros(1)) + F.cross_entropy(model(a), b)",
    ],
)
def test_a_loss_is_given_what_it_takes(loss: str, tmp_path: Path) -> None:
    assert alarms(f"for a, b in loader:\n    step({loss})\n", tmp_path) == {}


@pytest.mark.parametrize(
    ("before", "keep", "name"),
    [
        ("losses = []", "losses.append(loss)", "losses"),
        ("total = 0.0", "total = total + loss * len(b)", "total"),
        ("kept = {'train': []}", "kept['train'].append(loss)", "kept['train']"),
        ("class Log: pass\nlog = Log()\nlog.past = []", "log.past.append(loss)", "log.past"),
    ],
)
def test_what_keeps_the_graphs_is_named_with_its_line(before: str, keep: str, name: str, tmp_path: Path) -> None:
    body = f"{before}\nfor _ in range(2):\n    for a, b in loader:\n        loss = F.cross_entropy(model(a), b)\n"
    found = watched(body + f"        step(loss)\n        {keep}\n", tmp_path)
    assert found.alarms == {"graph-retained": "error"}
    finding = found.finding("graph-retained")
    assert finding.values["keeper"] == name
    assert finding.where[0].text == keep
    assert "memory grows" in finding.message


def test_losses_of_a_second_training_are_followed_too(tmp_path: Path) -> None:
    body = """
    for _ in range(8):
        for a, b in loader:
            step(F.cross_entropy(model(a), b))
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for a, b in loader:
        loss = F.cross_entropy(model(a), b)
        step(loss)
        losses.append({})
    """
    assert watched(body.format("loss.item()"), tmp_path).alarms == {}
    assert watched(body.format("loss"), tmp_path).alarms == {"graph-retained": "error"}


FOLDS = """
for fold in range(3):
    test = list(range(80 * fold, 80 * fold + 80))
    train = [i for i in range(240) if i not in test]
    {}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(2):
        for a, b in DataLoader(Subset(data, train), batch_size=20, shuffle=True):
            step(F.cross_entropy(model(a), b))
    evaluate(DataLoader(Subset(data, test), batch_size=40))
"""


def test_folds_on_one_model_are_apart_where_its_weights_begin_anew(tmp_path: Path) -> None:
    anew = "[m.reset_parameters() for m in model if hasattr(m, 'reset_parameters')]"
    assert watched(FOLDS.format(anew), tmp_path).alarms == {}


DELIVERED = """
train, test = list(range(160)), list(range(160, 240))
for part in (train, USED):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(2):
        for a, b in DataLoader(Subset(data, part), batch_size=20, shuffle=True):
            step(F.cross_entropy(model(a), b))
    EVALUATED
"""


def test_training_goes_on_with_all_samples_once_they_were_judged(tmp_path: Path) -> None:
    body = DELIVERED.replace("USED", "train + test")
    once = "if part is train: evaluate(DataLoader(Subset(data, test), batch_size=40))"
    assert watched(body.replace("EVALUATED", once), tmp_path).alarms == {}
    late = "if part is not train: evaluate(DataLoader(Subset(data, test), batch_size=40))"
    assert watched(body.replace("EVALUATED", late), tmp_path).alarms == {"training-on-validation-data": "error"}


TWINS = """
train = TensorDataset(x[torch.arange({})].clone(), y[:{}])
for _ in range(2):
    for a, b in DataLoader(train, batch_size=20, shuffle=True):
        step(F.cross_entropy(model(a), b))
    evaluate()
"""


def test_copies_of_validation_samples_are_known_again(tmp_path: Path) -> None:
    assert watched(TWINS.format(160, 160), tmp_path).alarms == {}
    assert watched(TWINS.format(240, 240), tmp_path).alarms == {"training-on-validation-data": "error"}
    assert watched("x = x.sign()[:, :2].repeat(1, 3)\n" + TWINS.format(160, 160), tmp_path).alarms == {}


def test_rows_that_are_alike_by_nature_are_told_by_their_memory() -> None:
    rows = torch.randn(50, 4)
    number = torch.arange(len(rows))
    assert digests(TensorDataset(number, rows)) == digests(TensorDataset(number.clone(), rows.clone()))
    assert digests(TensorDataset(number, rows)) != digests(TensorDataset(number, rows + 1))
    assert digests(TensorDataset(torch.zeros(50, 4))) is None
    assert digests(TensorDataset(torch.empty(0, 4))) is None


RESUME = """
scheduler = lr_scheduler.StepLR(optimizer, 2)
for a, b in loader:
    step(F.cross_entropy(model(a), b))
scheduler.step()
state = dict(model=model.state_dict(), optimizer=optimizer.state_dict(), scheduler=scheduler.state_dict())
state = torch.load(io.BytesIO(pack(state)))
model = build()
optimizer = torch.optim.{}
scheduler = lr_scheduler.StepLR(optimizer, 2)
model.load_state_dict(state["model"])
{}
scheduler.load_state_dict(state["scheduler"])
for a, b in loader:
    step(F.cross_entropy(model(a), b))
"""
PACK = """
import io
def pack(state):
    file = io.BytesIO()
    torch.save({key: value for key, value in state.items() if key != "optimizer" or keep}, file)
    return file.getvalue()
"""


@pytest.mark.parametrize(
    ("made", "restore", "found"),
    [
        ("SGD(model.parameters(), lr=0.05, momentum=0.9)", "pass", {"optimizer-state-not-restored": "warning"}),
        ("SGD(model.parameters(), lr=0.05)", "pass", {}),
    ],
)
def test_a_schedule_goes_on_and_its_optimizer_begins_anew(
    made: str, restore: str, found: dict[str, str], tmp_path: Path
) -> None:
    assert watched("keep = False\n" + PACK + RESUME.format(made, restore), tmp_path).alarms == found


def test_a_resume_of_all_is_fine(tmp_path: Path) -> None:
    made, restore = "SGD(model.parameters(), lr=0.05, momentum=0.9)", "optimizer.load_state_dict(state['optimizer'])"
    assert watched("keep = True\n" + PACK + RESUME.format(made, restore), tmp_path).alarms == {}


@pytest.mark.parametrize(
    ("copied", "found"), [("v.detach()", {"best-weights-by-reference": "error"}), ("v.detach().clone()", {})]
)
def test_detached_tensors_are_no_copies(copied: str, found: dict[str, str], tmp_path: Path) -> None:
    body = f"""
    for epoch in range(3):
        for a, b in loader:
            step(F.cross_entropy(model(a), b))
        evaluate()
        if epoch == 1:
            state = {{k: {copied} for k, v in model.state_dict().items()}}
    model.load_state_dict(state)
    """
    assert watched(body, tmp_path).alarms == found


def test_a_counter_that_is_saved_is_no_statistics(tmp_path: Path) -> None:
    body = """
    import io
    for a, b in loader:
        step(F.cross_entropy(model(a), b))
    torch.save({{k: v for k, v in model.state_dict().items() if {}}}, io.BytesIO())
    """
    assert watched(body.format("'running' not in k"), tmp_path).alarms == {"buffers-not-saved": "error"}
    assert watched(body.format("True"), tmp_path).alarms == {}


BY_HAND = """
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for i in range(120):
    index = {}
    step(F.cross_entropy(model(x[index]), y[index]))
    optimizer.param_groups[0]["lr"] {}
"""


def test_a_rate_that_is_lowered_with_every_batch_drawn_by_hand(tmp_path: Path) -> None:
    batch, whole = "torch.randint(240, (20,))", "torch.arange(240)"
    assert watched(BY_HAND.format(batch, "*= 0.9"), tmp_path).alarms == {"schedule-collapses": "warning"}
    assert watched(BY_HAND.format(batch, "*= 0.99"), tmp_path).alarms == {}
    assert watched(BY_HAND.format(whole, "*= 0.9"), tmp_path).alarms == {}  # a step is an epoch


def test_a_rate_of_zero_throughout(tmp_path: Path) -> None:
    body = """
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05 * {})
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda i: min(1, i / 4))
    for _ in range(2):
        for a, b in loader:
            step(F.cross_entropy(model(a), b))
            scheduler.step()
    """
    assert watched(body.format(0), tmp_path).alarms == {"zero-learning-rate": "error"}
    assert watched(body.format(1), tmp_path).alarms == {}


def test_a_whole_model_that_no_optimizer_holds(tmp_path: Path) -> None:
    body = """
    head = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3)){}
    for a, b in loader:
        step(F.cross_entropy(head(model(a)), b))
    """
    assert watched(body.format(""), tmp_path).alarms == {"parameters-missing-from-optimizer": "error"}
    imitated = body.replace("F.cross_entropy(head(model(a)), b)", "F.mse_loss(model(a), head(a[:, :3]))")
    seen = watched(imitated.format(""), tmp_path)
    assert seen.alarms == {}
    told = [finding for result in seen.results for finding in result.findings]
    assert "parameters-missing-from-optimizer" in {finding.name for finding in told}
    assert watched(body.format(".eval()"), tmp_path).alarms == {}
    assert watched(body.format(".requires_grad_(False)"), tmp_path).alarms == {}


SCALED = """
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
for count, (a, b) in enumerate(loader):
    scaler.scale(F.cross_entropy(model(a), b){}).backward()
    if count % 4 == 3:
        scaler.unscale_(optimizer)
        for p in model.parameters():
            p.grad /= {}
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
"""


def test_accumulation_in_half_precision(tmp_path: Path) -> None:
    plain = SCALED.replace("        for p in model.parameters():\n            p.grad /= {}\n", "")
    assert watched(plain.format(""), tmp_path).alarms == {"accumulation-not-averaged": "error"}
    assert watched(plain.format(" / 4"), tmp_path).alarms == {}
    assert watched(SCALED.format("", 4), tmp_path).alarms == {}


def test_another_model_in_train_mode_says_nothing_of_the_one_that_is_evaluated(tmp_path: Path) -> None:
    body = """
    twin = build()
    other = torch.optim.SGD(twin.parameters(), lr=0.05)
    for i in range(8):
        other.zero_grad()
        F.cross_entropy(twin(x[:40]), y[:40]).backward()
        other.step()
    for i in range(20):
        if i % 5 == 0:
            {}
            with torch.no_grad():
                F.cross_entropy(model(x[160:]), y[160:])
            model.train()
        index = torch.randint(160, (20,))
        step(F.cross_entropy(model(x[index]), y[index]))
    """
    assert watched(body.format("model.eval()"), tmp_path).alarms == {}
    assert watched(body.format("pass"), tmp_path).alarms == {"train-mode-in-validation": "error"}


def test_a_run_without_a_seed_is_a_note(tmp_path: Path) -> None:
    found = watch_source(HEAD.replace("torch.manual_seed(0)\n", "") + "step(F.cross_entropy(model(x), y))", tmp_path)
    assert found.alarms == {}
    assert found.finding("unseeded-run").severity == "note"
