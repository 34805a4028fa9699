"""Several ranks: the parts of it in this process, and two real ones through torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from diagnose import torchrun
from diagnose.config import Config
from diagnose.errors import UsageError
from diagnose.execute import run_command
from diagnose.store import RunFolder
from diagnose.training.meter import Meter
from diagnose.training.ranks import Ranks, Shares, fingerprint, is_lost
from probes.results import RunResults, Verdict

TARGET = """
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose import Pipeline


def get_pipeline():
    bunch = load_digits()
    x, y = torch.tensor(bunch.images / 16, dtype=torch.float32).unsqueeze(1), torch.tensor(bunch.target)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return Pipeline(
        model,
        DataLoader(TensorDataset(x[:512], y[:512]), 32, shuffle=True),
        DataLoader(TensorDataset(x[1500:], y[1500:]), 64),  # 297: the last batch is odd
        nn.CrossEntropyLoss(),
        optimizer,
        torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9),
        epochs=2,
    )
"""


def shares(world: int, train: bool, samples: int = 23, size: int = 5) -> list[list[list[int]]]:
    found = []
    for rank in range(world):
        torch.manual_seed(7)
        batches = BatchSampler(RandomSampler(range(samples)), size, drop_last=False)
        found.append(list(Shares(batches, rank, world, train=train)))
    return found


def test_a_batch_is_divided_and_no_sample_is_read_twice() -> None:
    torch.manual_seed(7)
    whole = list(BatchSampler(RandomSampler(range(23)), 5, drop_last=False))
    parts = shares(2, train=True)
    assert len(parts[0]) == len(parts[1]) == len(whole)
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(batch) for batch in whole]


def test_a_last_batch_smaller_than_the_ranks() -> None:
    """In training all ranks need as many steps; in validation every sample counts once."""
    training, validation = shares(4, train=True, samples=22), shares(4, train=False, samples=22)
    assert {len(part) for part in training} == {4}
    assert sorted(index for part in validation for batch in part for index in batch) == list(range(22))


def test_ranks_draw_different_numbers_after_the_order() -> None:
    torch.manual_seed(0)
    first = list(Shares([[0, 1]], 0, 2, train=True)), torch.rand(1)
    torch.manual_seed(0)
    second = list(Shares([[0, 1]], 1, 2, train=True)), torch.rand(1)
    assert first[1] != second[1]


def test_one_process_costs_nothing_and_loaders_that_cannot_be_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = Ranks(torch.device("cpu"))
    loader = DataLoader(TensorDataset(torch.zeros(8, 1)), 4)
    assert alone.shard(loader, "training", train=True) is loader
    assert alone.gather(3) == [3]
    assert alone.agree(True, 3)
    alone.world = 2
    with pytest.raises(UsageError, match="training loader is a list"):
        alone.shard([1, 2], "training", train=True)
    own = DataLoader(loader.dataset, 4, sampler=DistributedSampler(range(8), num_replicas=2, rank=0))  # type: ignore[var-annotated]
    assert alone.shard(own, "training", train=True) is own


def test_what_the_ranks_must_share_and_what_they_must_not(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = Ranks(torch.device("cpu"))
    ranks.world = 2
    model = nn.Linear(2, 2)
    one, two = fingerprint(model), fingerprint(nn.Linear(2, 2))
    assert one != two

    def told(*rows: Any) -> tuple[Any, list[str]]:
        monkeypatch.setattr(ranks, "gather", lambda value: list(rows))
        return ranks.checked(model, 0.1, 1)

    assert told((one, 0.1, 11), (one, 0.12, 12)) == (None, [])
    found, remarks = told((one, 0.1, 11), (two, 0.1, 12))
    assert (found.name, found.values["ranks"], remarks) == ("ranks-diverged", "1", [])
    assert "same first batch" in told((one, 0.1, 11), (one, 0.1, 11))[1][0]
    assert "Rank 1 waits 90%" in told((one, 0.1, 11), (one, 0.9, 12))[1][0]


def test_sums_of_ranks_and_lost_ones() -> None:
    from small_pipelines import digits_cnn

    meter = Meter(digits_cnn(), "classification")
    first = {**meter.state(), "_loss": 6.0, "_weighed": 3, "samples": 3}
    meter.join([first, {**first, "_loss": 2.0, "_weighed": 1, "samples": 1}])
    assert meter.loss == pytest.approx(2.0)
    assert meter.samples == 4
    assert is_lost(RuntimeError("[gloo/pair.cc:5] Connection closed by peer [127.0.0.1]:1"))
    assert not is_lost(RuntimeError("shapes cannot be multiplied"))


def test_only_train_runs_on_several_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert torchrun.adapted(Config()).only
    torchrun.refuse_ranks("run")
    monkeypatch.setattr(torchrun, "WORLD", 2)
    torchrun.refuse_ranks("train")
    for command in ("run", "ablate"):
        with pytest.raises(UsageError, match=f"diagnose {command} runs in one process"):
            run_command(command, {"target": "two.py:get_pipeline"}, argv=[])


@pytest.mark.slow
def test_a_whole_run_on_several_ranks_is_refused_once_and_at_once(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "diagnose",
        "run", "two.py:get_pipeline",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode != 0
    assert done.stderr.count("diagnose: torchrun: diagnose run runs in one process") == 1
    assert "--until subset" in done.stderr
    assert not list(tmp_path.iterdir())


def test_another_rank_tells_its_own_failure_only(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(torchrun, "SHOWN_SECONDS", 0.0)
    made = {"tool_version": "", "run_id": "", "command": "", "created": "", "reproduce": "", "target": ""}
    assert torchrun.beside(lambda: RunResults(**made, verdict=Verdict.HEALTHY)) == 0
    assert capsys.readouterr().err == ""
    assert torchrun.beside(lambda: RunResults(**made, verdict=Verdict.FAULTY)) == 1
    assert "rank 0" in capsys.readouterr().err


@pytest.mark.slow
def test_two_ranks_resumed_give_what_one_process_gives(tmp_path: Path) -> None:
    """One epoch of one process, then the second of two ranks."""
    from probing import context

    from diagnose.training.loop import train

    (tmp_path / "two.py").write_text(TARGET)
    scope: dict[str, Any] = {}
    exec(compile(TARGET, "two.py", "exec"), scope)

    def build() -> Any:
        return scope["get_pipeline"]()

    whole = train(context(build), tmp_path / "whole")
    folder = RunFolder.create({"target": "two.py:get_pipeline"}, project=tmp_path, out=tmp_path / "parts")
    train(context(build), folder.path, epochs=1)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "diagnose",
        "train", "two.py:get_pipeline", "--out", "parts", "--resume", "--quiet",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=200, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads((tmp_path / "parts" / "history.json").read_text())
    assert len(rows) == 2
    for key in ("step", "lr", "train_loss", "val_loss", "train_accuracy", "val_accuracy"):
        assert rows[-1][key] == pytest.approx(whole[-1][key], rel=1e-4), key
