"""A training step is kept and judged where it cannot be mistaken, and the program goes on as without."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from watching import Watched, watch_source

from diagnose.watch import judge
from diagnose.watch.between import applied, operations
from diagnose.watch.losses import LossBook
from diagnose.watch.progress import Progress
from diagnose.watch.snapshot import CannotCopy, Snapshot
from probes import catalogue
from probes.records.loop import Loop
from probes.results import Severity, to_json
from reports.schema import validate

HEAD = """
import torch
from torch import nn
torch.manual_seed(0)
x = torch.randn(240, 6)
y = (x[:, 0] > 0).long()
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
LOOP = """
for i in range(12):
    a, b = x[20 * i : 20 * i + 20], y[20 * i : 20 * i + 20]
    optimizer.zero_grad()
    LOSS
    loss.backward()
    optimizer.step()
"""
PLAIN = "loss = nn.functional.cross_entropy(model(a), b)"


TOLD = "import pathlib; pathlib.Path('{}').write_text(repr((loss.item(), torch.rand(3).tolist())))\n"


def watched(folder: Path, loss: str = PLAIN, head: str = HEAD) -> Watched:
    return watch_source(head + LOOP.replace("LOSS", loss), folder, parts=True)


def reason(found: Watched, name: str) -> str:
    return next(r.reason for r in found.results if r.name == name)


def test_a_step_with_dropout_is_repeated_exactly_and_judged(tmp_path: Path) -> None:
    found = watched(tmp_path)
    assert found.alarms == {}
    assert found.status("batch-mixing") == "pass"
    assert found.status("graph-cut") == "pass"


def test_the_finding_points_at_the_loss_of_the_script(tmp_path: Path) -> None:
    found = watched(tmp_path, "loss = nn.functional.nll_loss(model(a).softmax(1), b)")
    assert found.answer == "nll-on-probabilities"
    assert "nll_loss" in found.finding("nll-on-probabilities").where[0].text


@pytest.mark.parametrize(
    ("head", "loss", "told"),
    [
        (HEAD + "other = torch.optim.Adam([nn.Parameter(torch.ones(1))])\n", PLAIN, "several optimizers"),
        (HEAD + "front = nn.Linear(6, 6)\noptimizer.add_param_group({'params': front.parameters()})\n",
         PLAIN.replace("(a)", "(front(a))"), "several models"),
        (HEAD, PLAIN + " + 0.01 * model[0].weight.square().sum()", "further terms"),
        (HEAD, PLAIN + " + 0.0 * model[0].weight.square().sum()", "further terms"),
        (HEAD, "loss = nn.functional.cross_entropy(model(a) * torch.ones(2), b)", "before the loss is not known"),
        (HEAD, "loss = (model(a)[:, 0] - b).square().mean()", "none of torch's own"),
        (HEAD + "model.data = torch.zeros(20_000_000)\n", PLAIN, "much more than its weights"),
    ],
    ids=["optimizers", "models", "terms", "terms that grow", "unknown", "own", "large"],
)  # fmt: skip
def test_what_can_be_mistaken_is_not_judged(head: str, loss: str, told: str, tmp_path: Path) -> None:
    found = watched(tmp_path, loss, head)
    assert found.alarms == {}
    assert found.status("graph-cut") == "skipped"
    assert told in reason(found, "graph-cut")


def test_without_a_known_loss_the_model_is_still_judged(tmp_path: Path) -> None:
    head = HEAD.replace("nn.ReLU(), ", "")
    found = watched(tmp_path, "loss = (model(a)[:, 0] - b).square().mean()", head)
    assert found.answer == "missing-nonlinearity"


def test_a_step_that_comes_out_otherwise_is_not_judged(tmp_path: Path) -> None:
    head = (
        HEAD
        + """
class Counting(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner
    def forward(self, x):
        Counting.calls = getattr(Counting, "calls", 0) + 1
        return self.inner(x) * Counting.calls
model = Counting(model)
"""
    )
    found = watched(tmp_path, PLAIN, head)
    assert found.alarms == {}
    assert "could not be repeated" in reason(found, "batch-mixing")


def test_the_program_draws_the_same_numbers_as_without(tmp_path: Path) -> None:
    source = HEAD + LOOP.replace("LOSS", PLAIN) + TOLD
    told = []
    for name in ("with", "without"):
        text = source.replace("{}", str(tmp_path / name))
        if name == "with":
            watch_source(text, tmp_path, parts=True)
        else:
            exec(compile(text, "train.py", "exec"), {"__name__": "__main__"})
        told.append((tmp_path / name).read_text())
    assert told[0] == told[1]


def test_a_snapshot_holds_no_memory_and_comes_back_as_it_was() -> None:
    model = nn.ModuleDict({"one": nn.LSTM(3, 4), "two": nn.Linear(4, 4), "norm": nn.BatchNorm1d(4)})
    model["three"] = nn.Linear(4, 4)
    model["three"].weight = model["two"].weight
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kept = Snapshot(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.5)
    kept.add(optimizer)
    kept.seal()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    assert all(t.is_meta for t in (*kept.model.parameters(), *kept.model.buffers()))
    again, stepped = kept.restore()
    assert all(torch.equal(value, before[name]) for name, value in again.state_dict().items())
    assert again["three"].weight is again["two"].weight
    assert all(a is b for a, b in zip(again["one"]._flat_weights, again["one"].parameters(), strict=True))
    assert {id(p) for g in stepped.param_groups for p in g["params"]} == {id(p) for p in again.parameters()}


def test_a_model_that_cannot_be_copied_says_so() -> None:
    model = nn.Linear(2, 2)
    model.lock = __import__("threading").Lock()  # type: ignore[assignment]
    with pytest.raises(CannotCopy, match="lock"):
        Snapshot(model)


def test_what_lies_between_output_and_loss_is_read_from_the_graph() -> None:
    output = torch.randn(4, 5, 3, requires_grad=True) * 1.0
    ways = (
        lambda x: x.permute(0, 2, 1), lambda x: x.flatten(0, 1), lambda x: x[:, 1:-1].reshape(-1, 3),
        lambda x: x.softmax(-1).transpose(1, -1), lambda x: x[:, 0], lambda x: F.log_softmax(x, 1).squeeze(),
    )  # fmt: skip
    for way in ways:
        links = operations(way(output), output)
        assert links is not None
        assert torch.equal(applied(links, output), way(output))
    assert operations(output * 2 + output, output) is None


def fed(progress: Progress, losses: list[float], *, of: str = "mse_loss") -> dict[str, str]:
    book = LossBook(progress.losses)
    for step, loss in enumerate(losses):
        progress.lost(of, torch.randn(4, 3), torch.zeros(4, 3))
        book.add(step, torch.tensor(loss))
        progress.stepped(0.1, True)
        book.stepped()
    book.settle()
    return {r.name: str(r.status) for r in progress.results(judge.PROGRESS, 1, ())}


def test_a_loss_that_stays_nan_is_a_finding_with_its_step() -> None:
    progress = Progress()
    assert fed(progress, [1.0] * 70 + [float("nan")] * 30)["nonfinite-training"] == "fail"
    (finding,) = progress.results(("nonfinite-training",), 1, ())[0].findings
    assert finding.values["since_step"] == 71


def test_a_loss_that_the_program_gets_over_is_none() -> None:
    assert fed(Progress(), [1.0] * 20 + [float("inf")] + [1.0] * 60)["nonfinite-training"] == "pass"


def test_a_rising_loss_is_a_finding_only_where_it_is_to_fall() -> None:
    rising = [1.0 + 0.05 * step for step in range(400)]
    assert fed(Progress(), rising)["diverging"] == "fail"
    assert fed(Progress(), rising, of="kl_div")["diverging"] == "skipped"
    assert fed(Progress(), [1.0 / (1 + step) for step in range(400)])["diverging"] != "fail"


def test_a_loss_that_is_scaled_or_has_terms_of_its_own_may_rise() -> None:
    progress = Progress()
    progress.give_up()
    assert fed(progress, [1.0 + 0.05 * step for step in range(400)])["diverging"] == "skipped"


def test_half_precision_scales_the_loss_by_design(tmp_path: Path) -> None:
    head = HEAD + "scaler = torch.amp.GradScaler('cpu', init_scale=2.0, growth_interval=5)\n"
    scaled = PLAIN + "\n    loss = scaler.scale(loss)"
    found = watched(tmp_path, scaled, head)
    assert found.status("diverging") == "skipped"


def test_a_short_run_is_not_said_to_be_above_chance() -> None:
    progress = Progress()
    progress.lost("cross_entropy", torch.randn(4, 3), torch.zeros(4, dtype=torch.long))
    progress.stepped(0.1, True)
    progress.losses([1.0])
    assert {str(r.status) for r in progress.results(("stuck-at-chance", "predicts-one-class"), 1, ())} == {"skipped"}


def test_a_record_with_nan_losses_can_be_read(tmp_path: Path) -> None:
    found = watched(tmp_path, PLAIN + " * float('nan')")
    assert validate(Loop, to_json(found.loop)).losses[0][1] is None
    assert found.answer == "nonfinite-training"


def test_no_name_is_judged_twice_and_each_belongs_to_the_catalogue() -> None:
    names = (*judge.CHECKS, *judge.PROGRESS)
    assert len(set(names)) == len(names)
    assert not [name for name in names if hasattr(catalogue.module(name), "watched")]
    assert set(judge.WITHOUT_LOSS) <= set(judge.CHECKS)
    assert all(catalogue.doc(name).severity in set(Severity) for name in names)
