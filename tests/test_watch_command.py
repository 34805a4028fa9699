"""``diagnose watch`` from outside: the script behaves as under python, and the run folder tells what was seen."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from command_line import run

from diagnose.watch import judge
from probes.records.loop import Loop

SCRIPT = """
import argparse, os, signal, sys
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--how", default="")
    how = parser.parse_args().how
    print(sys.argv, __name__, os.path.basename(sys.path[0]), flush=True)
    torch.manual_seed(0)
    x = torch.randn(48, 4)
    data = TensorDataset(x, x.sum(1, keepdim=True))
    workers = {"num_workers": 1, "multiprocessing_context": "spawn"} if how in {"workers", "fork"} else {}
    loader = DataLoader(data, batch_size=8, shuffle=True, **workers)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
    if how == "fork" and not (pid := os.fork()):
        model(x).sum().backward()
        optimizer.step()
        os._exit(0)
    elif how == "fork":
        os.waitpid(pid, 0)
    for epoch in range(2):
        for a, b in loader:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(a), b)
            loss.backward()
            optimizer.step()
    print("read", sys.stdin.readline().strip(), flush=True)
    os.kill(os.getpid(), signal.SIGUSR1)
    if how == "exit":
        sys.exit(7)
    if how == "crash":
        model(torch.randn(2, 5))

if __name__ == "__main__":
    main()
"""


def script(folder: Path, *before: str, how: str) -> subprocess.CompletedProcess[str]:
    """The script under python with ``before`` in front of its name."""
    (folder / "train.py").write_text(SCRIPT)
    line = [sys.executable, *before, "train.py", "--how", how]
    return subprocess.run(line, cwd=folder, input="hello\n", capture_output=True, text=True, check=False)


WATCH = ("-m", "diagnose", "watch", "--quiet", "--out", "run")


def results(folder: Path) -> Any:
    return json.loads((folder / "run" / "results.json").read_text())


def test_a_script_that_reads_forks_uses_workers_and_handles_signals_behaves_as_without(tmp_path: Path) -> None:
    plain, watched = script(tmp_path, how="fork"), script(tmp_path, *WATCH, how="fork")
    assert (watched.returncode, watched.stdout, watched.stderr) == (plain.returncode, plain.stdout, plain.stderr)
    told = results(tmp_path)
    assert (told["verdict"], told["command"], told["stages"][0]["name"]) == ("healthy", "watch", "watch")
    assert [row["epoch"] for row in told["training"]["history"]] == [0, 1, 2]
    assert "; loss " in told["stages"][0]["reason"]
    assert (tmp_path / "run" / "figures" / "curves.png").is_file()


def test_a_crash_keeps_traceback_and_code_and_is_a_finding(tmp_path: Path) -> None:
    plain, watched = script(tmp_path, how="crash"), script(tmp_path, *WATCH, how="crash")
    assert watched.returncode == plain.returncode == 1
    assert watched.stdout.startswith(plain.stdout)  # the report follows
    assert watched.stderr.startswith(plain.stderr)
    frames = [line for line in watched.stderr.splitlines() if line.startswith("  File")]
    assert watched.stderr.startswith("Traceback (most recent call last):")
    assert f'"{tmp_path / "train.py"}"' in frames[0]
    assert not [frame for frame in frames if "diagnose/watch" in frame]
    assert results(tmp_path)["diagnosis"]["causes"][0]["name"] == "forward-shape-mismatch"


def test_a_script_that_leaves_with_an_error_is_not_called_healthy(tmp_path: Path) -> None:
    plain, watched = script(tmp_path, how="exit"), script(tmp_path, *WATCH, how="exit")
    assert watched.returncode == plain.returncode == 7
    assert watched.stdout.startswith(plain.stdout)  # the report follows
    assert watched.stderr.startswith(plain.stderr)
    told = results(tmp_path)
    assert (told["verdict"], told["stages"][0]["status"]) == ("inconclusive", "inconclusive")
    assert "ended with an error" in told["stages"][0]["reason"]
    left = replace(Loop(steps=5, backwards=5, ended="failed"), ended="exit")
    assert judge.stage(left, [], 1.0).status == "pass"


def test_a_limit_ends_a_module_in_order_and_its_exit_code_stays(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(SCRIPT)
    outcome = run("watch", "--json", "--steps", "5", "-m", "job", "--how", "workers", cwd=tmp_path)
    assert outcome.code == 0
    assert outcome.results["verdict"] == "healthy"
    assert "stopped at the limit" in outcome.results["stages"][0]["reason"]


def test_words_that_are_no_script_are_a_usage_error(tmp_path: Path) -> None:
    outcome = run("watch", "nothing.py", cwd=tmp_path)
    assert outcome.code == 2
    told = "watch nothing.py: there is no such file; expected a script or a notebook (.ipynb)."
    assert outcome.err.strip() == f"diagnose: {told}"


def test_a_model_that_ends_the_process_when_it_is_repeated_keeps_the_code(tmp_path: Path) -> None:
    """The repetition comes after the program, and whatever it does the program has ended as it did."""
    source = """
import os, torch
from torch import nn
over = False
class Net(nn.Linear):
    def forward(self, x):
        if over:
            os._exit(7)
        return super().forward(x)
model = Net(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(5):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(torch.randn(8, 4)), torch.randint(0, 2, (8,))).backward()
    optimizer.step()
over = True
print("over")
"""
    (tmp_path / "train.py").write_text(source)
    assert run("watch", "--quiet", "--out", "run", "train.py", cwd=tmp_path).code == 0
    told = results(tmp_path)
    assert told["verdict"] == "healthy"
    assert "died" in next(r["reason"] for r in told["results"] if r["name"] == "batch-mixing")
