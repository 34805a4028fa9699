"""Several ranks: the parts of it in this process, and two real ones through torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
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
from diagnose.plan import make_plan
from diagnose.store import RunFolder
from diagnose.training.meeting import READY, Meeting
from diagnose.training.meter import Meter
from diagnose.training.ranks import Ranks, Shares, fingerprint, is_lost
from probes.api import Inconclusive, Stage
from probes.results import Finding, Result, RunResults, Severity, StageResult, Status, Verdict

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


def test_only_train_and_run_take_several_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert torchrun.adapted(Config(), "train").only
    assert not torchrun.adapted(Config(), "run").only
    torchrun.refuse_ranks("bisect")
    torchrun.refuse_sweep(3)
    monkeypatch.setattr(torchrun, "WORLD", 2)
    torchrun.refuse_ranks("train")
    torchrun.refuse_ranks("run")
    for command in ("gate", "ablate", "bisect", "lr", "watch"):
        with pytest.raises(UsageError, match=f"diagnose {command} runs in one process"):
            torchrun.refuse_ranks(command)
    with pytest.raises(UsageError, match="diagnose gate runs in one process"):
        run_command("gate", {"target": "two.py:get_pipeline"}, argv=[])
    with pytest.raises(UsageError, match="--set with commas asks for 3 runs"):
        torchrun.refuse_sweep(3)


def test_rank_0_alone_experiments_and_evaluates(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_plan("run", Config())
    assert torchrun.part_of(whole) is whole
    monkeypatch.setattr(torchrun, "RANK", 1)
    part = torchrun.part_of(whole)
    assert [*part.stages, Stage.EVALUATE] == [*part.requested, Stage.EVALUATE] == list(whole.stages)
    assert (part.experiments, part.probes) == ((), whole.probes)
    assert whole.experiments


@pytest.mark.slow
def test_what_takes_one_process_is_refused_once_and_at_once(tmp_path: Path) -> None:
    done = on_two_ranks(tmp_path, "bisect", "two.py:get_pipeline")
    assert done.returncode != 0
    assert done.stderr.count("diagnose: torchrun: diagnose bisect runs in one process") == 1
    assert not list(tmp_path.iterdir())


def test_another_rank_tells_its_own_failure_only(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(torchrun, "SHOWN_SECONDS", 0.0)
    made = {"tool_version": "", "run_id": "", "command": "", "created": "", "reproduce": "", "target": ""}
    faulty = RunResults(**made, verdict=Verdict.FAULTY)
    assert torchrun.beside(RunResults(**made, verdict=Verdict.HEALTHY), said_by_first=False) == 0
    assert torchrun.beside(faulty, said_by_first=True) == 0
    assert capsys.readouterr().err == ""
    assert torchrun.beside(faulty, said_by_first=False) == 1
    assert "rank 0" in capsys.readouterr().err


class Ended:
    """A session that is over, and what its worker hears of rank 0."""

    def __init__(self, status: Status, stage: str, first: str | None) -> None:
        self.results: list[Result] = []
        self.stages = [StageResult(stage, status, "")]
        if status in {Status.FAIL, Status.CRASHED}:
            finding = Finding("softmax-before-cross-entropy", Severity.ERROR, "rows sum to one")
            self.results.append(Result("MOD204", finding.name, stage, status, finding.message, (finding,)))
        self.extra: dict[str, Any] = {}
        self.asked: list[dict[str, Any]] = []
        self._first = first

    def ask(self, step: dict[str, Any]) -> None:
        self.asked.append(step)
        self.extra["met"] = {"ended": self._first if step["wait"] else None}


@pytest.mark.parametrize(
    ("rank", "status", "stage", "first", "told", "said"),
    [
        (0, Status.FAIL, "smoke", None, ("faulty", False), False),  # rank 0 waits for nobody
        (1, Status.PASS, "smoke", None, ("healthy", False), False),
        (1, Status.FAIL, "smoke", "faulty", ("faulty", True), True),
        (1, Status.FAIL, "smoke", "healthy", ("faulty", True), False),
        (1, Status.FAIL, "train", "faulty", ("faulty", True), True),
        (1, Status.CRASHED, "train", "faulty", None, False),  # rank 0 knows of it only that it is gone
    ],
)  # fmt: skip
def test_who_says_what_was_found(
    rank: int, status: Status, stage: str, first: str | None, told: tuple[str, bool] | None, said: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    session: Any = Ended(status, stage, first)
    assert not torchrun.said_by_first(session)
    assert session.asked == []  # one process has nobody to tell
    monkeypatch.setattr(torchrun, "WORLD", 2)
    monkeypatch.setattr(torchrun, "RANK", rank)
    assert torchrun.said_by_first(session) is said
    assert [(step["ended"], step["wait"]) for step in session.asked] == ([] if told is None else [told])


@pytest.fixture
def rank(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function that makes a rank of three meet the others, in the store of an agent."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    agent = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setattr("diagnose.training.meeting.PAUSE", 0.0)
    known = {"WORLD_SIZE": 3, "MASTER_ADDR": "localhost", "MASTER_PORT": agent.port, "TORCHELASTIC_RESTART_COUNT": 0}
    for name, value in {**known, "TORCHELASTIC_USE_AGENT_STORE": True}.items():
        monkeypatch.setenv(name, str(value))

    def make(number: int, progress: Any = lambda what, done, of: None, deadline: float | None = None) -> Meeting:
        monkeypatch.setenv("RANK", str(number))
        return Meeting(progress, deadline)

    yield make
    del agent  # the store lives as long as its owner


def test_ranks_that_are_early_wait_for_the_others(rank: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []

    def progress(what: str, done: int, of: int) -> None:
        waited.append(what)
        if len(waited) % 3 == 0:
            late.pop().tell(READY)

    late = [rank(2), rank(1)]
    rank(0, progress).all_ready()
    assert waited == ["waiting for rank 1"] * 3 + ["waiting for rank 2"] * 3
    rank(1).all_ready()  # nothing to wait for any more
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")  # torchrun has started all of them anew
    with pytest.raises(Inconclusive, match="time budget ended while rank 1 was waited for"):
        rank(0, deadline=0.0).all_ready()


def test_a_rank_that_will_not_come_is_not_waited_for(rank: Any) -> None:
    rank(1).tell(READY)
    rank(2).tell("faulty")
    with pytest.raises(Inconclusive, match=r"rank 2 ended before the training \(its rehearsal: faulty\)"):
        rank(0).all_ready()


def test_a_rank_hears_how_the_first_ended(rank: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = rank(0)
    first.tell(READY)
    assert rank(1, lambda what, done, of: first.tell("healthy")).first_ended() == "healthy"
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "False")
    rank(1).all_ready()
    assert rank(1).first_ended() is None


def on_two_ranks(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "diagnose",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *arguments], cwd=folder, capture_output=True, text=True, timeout=200, env=environment, check=False
    )


@pytest.mark.slow
def test_two_ranks_rehearse_and_train_together(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(TARGET)
    done = on_two_ranks(
        tmp_path, "run", "two.py:get_pipeline", "--from", "overfit", "--until", "train", "--epochs", "1",
        "--select", "cannot-overfit,stuck-at-chance", "--out", "here", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(done.stdout)
    assert results["verdict"] == "healthy"
    assert [(stage["name"], stage["status"]) for stage in results["stages"]] == [
        ("overfit", "pass"), ("subset", "pass"), ("train", "pass"),
    ]  # fmt: skip
    assert any(text.startswith("2 ranks trained together") for text in results["pipeline"]["warnings"])
    assert len(results["training"]["history"]) == 1
    assert sorted(place.name for place in tmp_path.iterdir() if place.name != "__pycache__") == ["here", "two.py"]


@pytest.mark.slow
def test_two_ranks_stop_at_the_same_fault_and_one_tells_it(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(TARGET.replace("nn.Linear(32, 10)", "nn.Linear(32, 10), nn.Softmax(1)"))
    done = on_two_ranks(
        tmp_path, "run", "two.py:get_pipeline", "--from", "smoke", "--select", "MOD204", "--out", "here"
    )
    assert done.returncode == 1
    assert done.stdout.count("The cause is softmax-before-cross-entropy") == 1
    assert "rank 1:" not in done.stderr
    results = json.loads((tmp_path / "here" / "results.json").read_text())
    assert results["verdict"] == "faulty"
    assert {stage["status"] for stage in results["stages"][1:]} == {"skipped"}


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
    done = on_two_ranks(tmp_path, "train", "two.py:get_pipeline", "--out", "parts", "--resume", "--quiet")
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads((tmp_path / "parts" / "history.json").read_text())
    assert len(rows) == 2
    for key in ("step", "lr", "train_loss", "val_loss", "train_accuracy", "val_accuracy"):
        assert rows[-1][key] == pytest.approx(whole[-1][key], rel=1e-4), key
