"""What the recorder hears of single faults and look-alikes, and that nothing is left behind."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_pre_hooks
from watching import watch_source

import diagnose
from diagnose.watch.script import read_notebook
from probes.results import Verdict

HEAD = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
x = torch.randn(240, 6)
y = (x[:, 0] > 0).long()
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=LR)
loader = DataLoader(TensorDataset(x, y), batch_size=12, shuffle=True)
"""


def script(body: str, lr: float = 0.1) -> str:
    return HEAD.replace("LR", str(lr)) + dedent(body)


PILING = """
for epoch in range(8):
    for a, b in loader:
        nn.functional.cross_entropy(model(a), b).backward()
        optimizer.step()
"""


def test_a_missing_zero_grad_without_visible_harm_is_a_warning(tmp_path: Path) -> None:
    assert watch_source(script(PILING, lr=0.001), tmp_path).alarms == {"gradients-not-cleared": "warning"}


def test_its_fix_is_written_with_the_names_of_the_script(tmp_path: Path) -> None:
    values = (
        watch_source(script(PILING.replace("range(8)", "range(1)")), tmp_path).finding("gradients-not-cleared").values
    )
    assert values["after"].startswith("optimizer.zero_grad()\nnn.functional.cross_entropy")


def test_clearing_by_hand_is_clearing(tmp_path: Path) -> None:
    body = """
    for a, b in loader:
        for p in model.parameters():
            p.grad = None
        nn.functional.cross_entropy(model(a), b).backward()
        optimizer.step()
    """
    assert watch_source(script(body), tmp_path).alarms == {}


def test_gradients_of_another_loss_between_two_steps_are_no_old_ones(tmp_path: Path) -> None:
    """A penalty is measured by backward after the step and thrown away by zero_grad before the next."""
    body = """
    for a, b in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(a), b).backward()
        optimizer.step()
        sum(p.pow(2).sum() for p in model.parameters()).backward()
    """
    assert watch_source(script(body), tmp_path).alarms == {}


def test_a_script_that_only_reads_is_not_judged(tmp_path: Path) -> None:
    watched = watch_source(script("for a, b in loader:\n    model(a)\n"), tmp_path)
    assert watched.loop.steps == 0
    assert {str(r.status) for r in watched.results} == {"skipped"}


def test_memorising_one_batch_on_purpose_is_a_note(tmp_path: Path) -> None:
    body = """
    a, b = next(iter(loader))
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(a), b).backward()
        optimizer.step()
    """
    assert watch_source(script(body), tmp_path).alarms == {}


def test_drawing_a_shuffled_batch_anew_for_every_step_is_fine(tmp_path: Path) -> None:
    body = """
    for _ in range(30):
        a, b = next(iter(loader))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(a), b).backward()
        optimizer.step()
    """
    assert watch_source(script(body), tmp_path).alarms == {}


def test_an_optimizer_that_is_never_used_is_no_fault_where_the_tensors_move(tmp_path: Path) -> None:
    body = """
    other = torch.optim.Adam(model.parameters())
    for a, b in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(a), b).backward()
        optimizer.step()
    """
    assert watch_source(script(body), tmp_path).alarms == {}


def test_a_failure_of_ours_never_reaches_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("diagnose.watch.optimizers.OptimizerWatch.cover", fail)
    watched = watch_source(script(PILING.replace("range(8)", "range(1)")), tmp_path, internal=True)
    assert watched.alarms == {}
    assert "ours" in watched.loop.failure
    assert {str(r.status) for r in watched.results} == {"internal", "skipped"}


def test_an_adversarial_example_made_in_eval_mode_is_no_training_in_eval_mode(tmp_path: Path) -> None:
    body = """
    model.append(nn.Dropout(0.0)).append(nn.BatchNorm1d(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for a, b in loader:
        model.eval()
        near = a.clone().requires_grad_(True)
        nn.functional.cross_entropy(model(near), b).backward()
        model.train()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model((a + 0.1 * near.grad.sign()).detach()), b).backward()
        optimizer.step()
    """
    assert watch_source(script(body), tmp_path).alarms == {}


def test_training_accuracy_alone_is_no_mix_up(tmp_path: Path) -> None:
    body = """
    unused = DataLoader(TensorDataset(torch.randn(48, 6), torch.zeros(48).long()), batch_size=12)
    for epoch in range(2):
        for a, b in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(a), b).backward()
            optimizer.step()
        with torch.no_grad():
            print(sum((model(a).argmax(1) == b).sum() for a, b in loader))
    """
    assert watch_source(script(body), tmp_path).alarms == {}


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    places = [
        (torch.autograd, "backward"), (nn.Module, "train"), (nn.Module, "state_dict"), (torch, "save"),
        (torch.optim.Optimizer, "__init__"), (nn.functional, "cross_entropy"), (torch, "max"),
    ]  # fmt: skip
    before = [getattr(owner, name) for owner, name in places]
    watch_source(script(PILING.replace("range(8)", "range(1)")), tmp_path)
    assert [getattr(owner, name) for owner, name in places] == before
    assert "argmax" not in vars(torch.Tensor)
    assert not torch.nn.modules.module._global_forward_pre_hooks
    assert not _global_optimizer_pre_hooks


def test_watching_reports_in_text_and_html() -> None:
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    x = torch.randn(8, 4)
    with diagnose.watching(model, optimizer) as watched:
        for _ in range(6):
            model(x).pow(2).mean().backward()
            optimizer.step()
    assert watched.report is not None
    assert watched.report.verdict is Verdict.FAULTY
    assert not watched.report
    assert [f.name for f in watched.report.findings][:1] == ["gradients-not-cleared"]
    assert "gradients-not-cleared" in repr(watched)
    assert "<table>" in watched._repr_html_()


def test_watching_lets_an_exception_through() -> None:
    with pytest.raises(ZeroDivisionError), diagnose.watching() as watched:
        raise ZeroDivisionError
    assert watched.report is not None


def test_watching_takes_models_and_optimizers() -> None:
    with pytest.raises(TypeError, match="got int"), diagnose.watching(3):  # type: ignore[arg-type]
        pass


def test_a_notebook_leaves_out_magics_and_tells_the_order(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "code", "execution_count": 4, "source": ["%matplotlib inline\n", "a = 1\n"]},
        {"cell_type": "markdown", "source": "text"},
        {"cell_type": "code", "execution_count": 2, "source": "b = a + 1"},
    ]
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    program = read_notebook(str(path))
    names: dict[str, object] = {}
    for code in program.codes:
        exec(code, names)
    assert names["b"] == 2
    assert program.cells_back == ((4, 2),)
