"""What smoke costs, in training steps of the same pipeline and beside torchtest2, and its peak memory.

    python benchmarks/cost.py [digits|resnet18] [--runs 7] [--cpu]

Time: the seconds of all smoke probes (imports and the reading of data left out) over the median of plain training steps
made in the same process, before and after. In the same rounds, where it is installed, torchtest2 on the same pipeline,
given its loss, optimizer and output shape: without its overfitting of a batch, which is a stage of its own here, and as
it comes. ``--cpu`` counts the time of this process on one thread, which other work on the machine does not lengthen as
much as the time on the wall. Memory: peak resident size of a process of its own for smoke, and for training.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]
STEPS = 30
clock = time.perf_counter


def digits() -> Any:
    from small_pipelines import digits_cnn

    return digits_cnn()


def resnet18() -> Any:
    import torch
    from torch.utils.data import DataLoader, TensorDataset
    from torchvision.models import resnet18 as net

    from diagnose.pipeline import Pipeline

    g = torch.Generator().manual_seed(0)
    y = torch.randint(0, 10, (512,), generator=g)
    x = torch.randn(512, 3, 32, 32, generator=g) + y.view(-1, 1, 1, 1) / 5
    model = net(num_classes=10)
    loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
    return Pipeline(model, loader, loader, torch.nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters()))


def train(pipeline: Any, steps: int = STEPS) -> float:
    """Median seconds of a plain training step."""
    import itertools

    pipeline.model.train()
    seconds = []
    for x, y in itertools.islice(itertools.cycle(pipeline.train), steps):
        started = clock()
        pipeline.optimizer.zero_grad()
        pipeline.loss(pipeline.model(x), y).backward()
        pipeline.optimizer.step()
        seconds.append(clock() - started)
    return statistics.median(seconds)


def smoke(build: Any) -> tuple[float, list[tuple[float, str]], int]:
    """Seconds of all smoke probes, and of each; how many of them judged."""
    from probing import context

    from diagnose.config import Config
    from diagnose.judging import run_probe
    from diagnose.plan import make_plan
    from probes.api import Stage
    from probes.results import Status

    ctx = context(build)
    ctx.raws()  # the data are read before
    ctx.scan("train")
    plan = make_plan("run", Config(target="benchmark:build"))
    parts, judged = [], 0
    for name in plan.probes[Stage.SMOKE]:
        started = clock()
        judged += run_probe(name, ctx).status is Status.PASS
        parts.append((clock() - started, name))
    return sum(seconds for seconds, _ in parts), sorted(parts, reverse=True), judged


def peer(build: Any, **options: Any) -> tuple[float, int]:
    """Seconds of torchtest2 on the first batch, and how many of its checks judged."""
    from torchtest2 import check_model  # type: ignore[import-not-found]

    pipeline = build()
    x, y = next(iter(pipeline.train))
    shape = (None, 10)
    started = clock()
    report = check_model(
        pipeline.model, x, y, loss_fn=pipeline.loss, optimizer=pipeline.optimizer, output_shape=shape, **options
    )
    return clock() - started, sum(str(r.status).lower().endswith("pass") for r in report.results)


def own_peak() -> float:
    """Peak resident megabytes of this process. What getrusage tells a fresh process begins with its parent's peak."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def peak(what: str, name: str) -> float:
    """Peak resident megabytes of a fresh process that does ``what``."""
    done = subprocess.run([sys.executable, __file__, name, "--only", what], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("name", nargs="?", default="digits", choices=["digits", "resnet18"])
    options.add_argument("--runs", type=int, default=7)
    options.add_argument("--cpu", action="store_true")
    options.add_argument("--only", choices=["train", "smoke"])
    given = options.parse_args()
    build = globals()[given.name]
    if given.only:
        train(build()) if given.only == "train" else smoke(build)
        print(own_peak())
        return
    if given.cpu:
        import torch

        global clock  # noqa: PLW0603
        clock = time.process_time
        torch.set_num_threads(1)
    peers = {"torchtest2": {"overfit_steps": 0}, "torchtest2 as it comes": {}} if find_spec("torchtest2") else {}
    train(build())  # warm up
    smoke(build)
    ratios: dict[str, list[float]] = {}
    for _ in range(given.runs):
        before = train(build())
        seconds, parts, judged = smoke(build)
        others = {name: peer(build, **more) for name, more in peers.items()}
        step = (before + train(build())) / 2
        ratios.setdefault("training steps (goal 30)", []).append(seconds / step)
        for name, (theirs, count) in others.items():
            ratios.setdefault(f"times {name} ({judged} checks judged, {count} there)", []).append(seconds / theirs)
        told = ", ".join(f"{name} {theirs * 1000:.0f} ms" for name, (theirs, _) in others.items())
        print(f"smoke {seconds * 1000:.0f} ms, step {step * 1000:.2f} ms: {seconds / step:.1f} steps; {told}")
    print("largest:", ", ".join(f"{name} {seconds / step:.1f}" for seconds, name in parts[:10]))
    for what, values in ratios.items():
        print(f"smoke: median {statistics.median(values):.2f} {what}")
    memory = {what: peak(what, given.name) for what in ("train", "smoke")}
    ratio = memory["smoke"] / memory["train"]
    print(f"peak memory {memory['smoke']:.0f} MB over {memory['train']:.0f} MB: {ratio:.2f} (goal 1.3)")


if __name__ == "__main__":
    main()
