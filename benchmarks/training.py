"""Images per second of the full training beside a plain loop and Lightning's Trainer.

    python benchmarks/training.py [--rounds 7] [--batches 40] [--model cnn|resnet18]

Same model, data, batches, memory format and threads. The arms take turns within each round, in an order that changes,
and are compared round by round: the median of the ratios, and the range that holds the middle half of them. The peak of
the memory is that of a process of its own for each arm. What channels_last adds is told apart.

Seconds are those of the processor by default (one thread, so that other work on the machine does not count); --wall
takes the clock. Ours are of a whole second epoch: validation on one batch, checkpoint and TensorBoard included.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose import Pipeline
from diagnose.config import Config
from diagnose.context import MeasuringContext
from diagnose.creation import CreationLog
from diagnose.locate import Located
from diagnose.parts import flagged_parts, read_settings
from diagnose.target import Source
from diagnose.training.loop import train

BATCH, CLASSES = 64, 10
CLOCK: Callable[[], float] = time.process_time


def model(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "resnet18":
        from torchvision.models import resnet18

        return resnet18(num_classes=CLASSES)
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 16, CLASSES))


def loader(batches: int) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(batches * BATCH) % CLASSES
    x = torch.randn(len(y), 3, 32, 32, generator=generator) + y[:, None, None, None] / CLASSES
    return DataLoader(TensorDataset(x, y), BATCH, shuffle=True)


def plain(name: str, batches: int) -> float:
    """As it is usually written: running loss and accuracy, nothing else."""
    net, data, loss_function = model(name), loader(batches), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    net.train()
    started = CLOCK()
    total, right = 0.0, 0
    for x, y in data:
        optimizer.zero_grad()
        output = net(x)
        loss = loss_function(output, y)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(x)
        right += int((output.argmax(1) == y).sum())
    return batches * BATCH / (CLOCK() - started)


def ours(name: str, batches: int, *, monitors: bool, channels_last: str = "no") -> float:
    def build() -> Pipeline:
        net = model(name)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
        val = DataLoader(TensorDataset(torch.randn(64, 3, 32, 32), torch.arange(64) % CLASSES), 64)
        return Pipeline(net, loader(batches), val, nn.CrossEntropyLoss(), optimizer, epochs=2)

    config = Config(
        target="bench:build",
        set=(f"train.monitors={str(monitors).lower()}", f"train.channels_last={channels_last}"),
    )
    settings = read_settings(config)
    located = Located(sys.modules[__name__], "build", build, "build")
    source = Source(config, located, flagged_parts(config, settings, Path.cwd()), settings, CreationLog())
    marks: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        train(MeasuringContext(source), Path(folder), on_epoch=lambda row: marks.append(CLOCK()))
    return batches * BATCH / (marks[1] - marks[0])


def lightning(name: str, batches: int) -> float:
    import lightning as L

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")

    class Module(L.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net, self.loss = model(name), nn.CrossEntropyLoss()

        def training_step(self, batch: Any, index: int) -> Any:
            output = self.net(batch[0])
            loss = self.loss(output, batch[1])
            self.log("loss", loss, on_step=False, on_epoch=True)
            self.log("accuracy", (output.argmax(1) == batch[1]).float().mean(), on_step=False, on_epoch=True)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)

    class Clock(L.Callback):  # type: ignore[misc]
        def on_train_epoch_start(self, *_: Any) -> None:
            self.started = CLOCK()

        def on_train_epoch_end(self, *_: Any) -> None:
            self.seconds = CLOCK() - self.started

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_epochs=1, accelerator="cpu", devices=1, callbacks=[clock], default_root_dir=folder, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(Module(), loader(batches))
    return batches * BATCH / clock.seconds


ARMS: dict[str, Callable[[str, int], float]] = {
    "plain loop": plain,
    "diagnose train": partial(ours, monitors=True),
    "diagnose train, monitors off": partial(ours, monitors=False),
    "diagnose train, channels_last": partial(ours, monitors=True, channels_last="yes"),
    "Lightning": lightning,
}


def measure(name: str, rounds: int, batches: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for number in range(rounds + 1):
        order = list(ARMS)
        random.Random(number).shuffle(order)
        for arm in order:
            speed = ARMS[arm](name, batches)
            if number:  # the first round warms up
                found[arm].append(speed)
    return found


def peak(arm: str, name: str, batches: int) -> float:
    """Megabytes, of a process that runs nothing but this arm."""
    command = [sys.executable, __file__, "--alone", arm, "--model", name, "--batches", str(batches)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--model", default="cnn")
    parser.add_argument("--wall", action="store_true")
    parser.add_argument("--alone")
    given = parser.parse_args()
    global CLOCK  # noqa: PLW0603
    CLOCK = time.perf_counter if given.wall else time.process_time
    torch.set_num_threads(1)
    if given.alone:
        ARMS[given.alone](given.model, given.batches)
        # ru_maxrss would hold the parent's peak, from before the exec
        status = Path("/proc/self/status").read_text()
        print(json.dumps(int(status.partition("VmHWM:")[2].split()[0]) / 1024))
        return
    try:
        import lightning as _  # noqa: F401
    except ImportError:
        ARMS.pop("Lightning")
        print("Lightning is not installed: left out")
    found = measure(given.model, given.rounds, given.batches)
    base = peak("plain loop", given.model, given.batches)
    print(f"{given.model}, batches of {BATCH}, {given.batches} a round, {given.rounds} rounds, one thread")
    print(f"{'':<32}{'images/s':>10}{'of plain':>10}{'middle half':>16}{'peak MB':>10}")
    for arm, speeds in found.items():
        ratios = sorted(a / b for a, b in zip(speeds, found["plain loop"], strict=True))
        low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        memory = base if arm == "plain loop" else peak(arm, given.model, given.batches)
        middle = f"{low:.3f} to {high:.3f}"
        print(
            f"{arm:<32}{statistics.median(speeds):>10.0f}{statistics.median(ratios):>10.3f}{middle:>16}{memory:>10.0f}"
        )


if __name__ == "__main__":
    main()
