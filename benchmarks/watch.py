"""What watching costs: steps with the recorder on against off, in turns, so that a busy machine hits both alike.

``python benchmarks/watch.py [--steps 1000] [--rounds 5] [--only resnet] [--peers FOLDER]``: the median over rounds,
each of which begins new trainings, with the lowest and highest; "off once more" is what two equal trainings differ by.
The first 50 steps, in which most looks are taken, are reported apart. CPU seconds of this process count; memory is the
peak of a process of its own each. torch-audit and torcheck are measured in the same turns, each beside a training of
its own, where they are installed or in the folder of ``--peers``. Then Lightning's Trainer on the digits, with our
callback and with two of its own (both tell something at every 50th step), in turns of short fits against one without.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose.watch.hooks import recording
from diagnose.watch.recorder import Recorder

FIRST = 50
TURN = 50  # steps of each turn
FIT = 250  # steps of each of Lightning's fits after its first ones
LIMIT = 0.03


def digits() -> tuple[nn.Module, DataLoader[Any], float]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Flatten(),
        nn.Dropout(0.2), nn.Linear(1152, 10),
    )  # fmt: skip
    return model, DataLoader(TensorDataset(x, torch.tensor(labels)), batch_size=64, shuffle=True), 0.05


def resnet() -> tuple[nn.Module, DataLoader[Any], float]:
    from torchvision.models import resnet18

    data = TensorDataset(torch.randn(320, 3, 32, 32), torch.randint(0, 10, (320,)))
    return resnet18(num_classes=10), DataLoader(data, batch_size=16, shuffle=True), 0.01


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 64)
        layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(64, 10)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.encoder(self.embed(tokens)).mean(1))
        return out


def transformer() -> tuple[nn.Module, DataLoader[Any], float]:
    data = TensorDataset(torch.randint(0, 100, (1024, 32)), torch.randint(0, 10, (1024,)))
    return Transformer(), DataLoader(data, batch_size=32, shuffle=True), 0.01


WORKLOADS: dict[str, Callable[[], tuple[nn.Module, DataLoader[Any], float]]] = {
    "digits": digits, "resnet": resnet, "transformer": transformer,
}  # fmt: skip


Attach = Callable[[nn.Module, torch.optim.Optimizer], object]


def peers() -> dict[str, Attach]:
    """Those that are installed: what puts each of them to work on a model and its optimizer."""
    found: dict[str, Attach] = {}
    if importlib.util.find_spec("torch_audit"):
        audit = importlib.import_module("torch_audit")
        found["torch-audit"] = lambda model, optimizer: audit.autopatch(model, optimizer=optimizer)
    if importlib.util.find_spec("torcheck"):
        registry = importlib.import_module("torcheck.registry").Registry

        def torcheck(model: nn.Module, optimizer: torch.optim.Optimizer) -> object:
            made = registry()
            made.register(optimizer)
            made.add_module(model, check_nan=True, check_inf=True)  # not "changing": it stops at a bias before a norm
            return made

        found["torcheck"] = torcheck
    return found


def training(name: str, attach: Attach = lambda model, optimizer: None) -> Iterator[None]:
    """One step at a time, as an ordinary loop makes them."""
    torch.manual_seed(0)
    model, loader, lr = WORKLOADS[name]()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    _attached = attach(model, optimizer)  # held as long as the training goes on
    while True:
        model.train()
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            yield


def turn(steps: Iterator[None], count: int, context: Any) -> float:
    with context:
        started = time.process_time()
        for _ in range(count):
            next(steps)
        return time.process_time() - started


def measure(name: str, count: int) -> dict[str, float]:
    """One pair of trainings, off and on, and others beside them: each as a share of the one that is off. ``again``: a
    second training that is off too, which shows what two equal ones differ by."""
    off, on, again, recorder = training(name), training(name), training(name), Recorder()
    turn(off, 5, nullcontext())  # what torch sets up at its first steps is nobody's
    first = [turn(off, FIRST, nullcontext()), turn(on, FIRST, recording(recorder))]
    others = {peer: training(name, attach) for peer, attach in peers().items()} | {"again": again}
    for other in others.values():
        turn(other, FIRST, nullcontext())
    sums = dict.fromkeys(("off", "on", *others), 0.0)
    for _ in range(count // TURN):
        sums["off"] += turn(off, TURN, nullcontext())
        sums["on"] += turn(on, TURN, recording(recorder))
        for peer, other in others.items():
            sums[peer] += turn(other, TURN, nullcontext())
    shares = {arm: spent / sums["off"] - 1 for arm, spent in sums.items() if arm != "off"}
    return {"seconds": sums["off"], "first 50": first[1] / first[0] - 1, **shares}


def peak(name: str, watched: bool, count: int) -> int:
    """Peak resident memory of a process that makes ``count`` steps, in kB."""
    line = [sys.executable, __file__, "--peak", name, "--steps", str(count), *(["--watched"] if watched else [])]
    return int(json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)["peak"])


def lightning(count: int) -> dict[str, float]:
    """CPU seconds of ``count`` steps after the first 50 of each fit, by callback; "" is the Trainer without one."""
    import warnings

    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import DeviceStatsMonitor, LearningRateMonitor
    from lightning.pytorch.loggers import CSVLogger

    from diagnose.adapters.lightning import DiagnoseCallback

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")  # of its own remarks on workers and logging

    class Digits(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.loader, self.lr = digits()

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            x, y = batch
            return nn.functional.cross_entropy(self.model(x), y)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.model.parameters(), lr=self.lr, momentum=0.9)

    class Clock(pl.Callback):
        begun = ended = 0.0

        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            self.ended = time.process_time()
            if trainer.global_step == FIRST:
                self.begun = self.ended

    def fit(callback: pl.Callback | None, steps: int) -> float:
        torch.manual_seed(0)
        clock, module = Clock(), Digits()
        with tempfile.TemporaryDirectory() as folder:
            trainer = pl.Trainer(
                max_steps=FIRST + steps, max_epochs=-1, accelerator="cpu", logger=CSVLogger(folder),
                callbacks=[clock] if callback is None else [callback, clock], enable_progress_bar=False,
                enable_checkpointing=False, enable_model_summary=False,
            )  # fmt: skip
            trainer.fit(module, module.loader)
        return clock.ended - clock.begun

    made: dict[str, Callable[[], pl.Callback | None]] = {
        "": lambda: None, "DiagnoseCallback": DiagnoseCallback, "LearningRateMonitor": LearningRateMonitor,
        "DeviceStatsMonitor": lambda: DeviceStatsMonitor(cpu_stats=True),
    }  # fmt: skip
    sums = dict.fromkeys(made, 0.0)
    fit(None, 5)  # what is set up once is nobody's
    for _ in range(max(1, count // FIT)):
        for name, make in made.items():
            sums[name] += fit(make(), FIT)
    return sums


def _told(rounds: Sequence[dict[str, float]], arm: str) -> str:
    shares = [found[arm] for found in rounds]
    return f"{statistics.median(shares):+.1%} ({min(shares):+.1%} to {max(shares):+.1%})"


def high_water() -> int:
    """Of this process alone: what getrusage tells begins with the parent's."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--peak", default="")
    parser.add_argument("--watched", action="store_true")
    parser.add_argument("--peers", default="")
    asked = parser.parse_args()
    sys.path += [asked.peers] if asked.peers else []
    torch.set_num_threads(1)
    if asked.peak:
        turn(training(asked.peak), asked.steps, recording(Recorder()) if asked.watched else nullcontext())
        print(json.dumps({"peak": high_water()}))
        return
    for name in WORKLOADS:
        if asked.only in name:
            rounds = [measure(name, asked.steps) for _ in range(asked.rounds)]
            plain, watched = (peak(name, on, 60) for on in (False, True))
            seconds = statistics.median(found["seconds"] for found in rounds)
            print(f"{name}: {asked.rounds} rounds of {asked.steps} steps, {seconds:.2f} s each when off")
            print(f"  watch {_told(rounds, 'on')} (limit {LIMIT:+.0%}), peak memory {watched / plain - 1:+.1%}")
            for arm in ("again", "first 50", *peers()):
                print(f"  {'off once more' if arm == 'again' else arm} {_told(rounds, arm)}")
    if asked.only in "lightning" and importlib.util.find_spec("lightning"):
        sums = lightning(asked.steps)
        told = "; ".join(f"{name} {spent / sums[''] - 1:+.1%}" for name, spent in sums.items() if name)
        print(f"lightning on digits: {max(1, asked.steps // FIT) * FIT} steps {sums['']:.2f} s without; {told}")


if __name__ == "__main__":
    main()
