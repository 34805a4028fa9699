"""Images per second of the full training beside a plain loop and Lightning's Trainer.

    python benchmarks/training.py [--rounds 15] [--batches 40] [--model cnn|resnet18|mlp]

Same model, data, batches, memory format and threads. Each arm trains in a process of its own, as it would on its own;
they take turns, an epoch each, in an order that changes from round to round, and are compared round by round: the
median of the ratios with its 95 % interval. The peak of the memory is that of the arm's process. What channels_last
adds is told apart.

Seconds are those of the processor by default (one thread, so that other work on the machine does not count); --wall
takes the clock. Ours are of whole epochs, with their fixed costs: validation on one batch, checkpoint, TensorBoard.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from diagnose import Pipeline
from diagnose.config import Config
from diagnose.context import MeasuringContext
from diagnose.creation import CreationLog
from diagnose.target.locate import Located
from diagnose.target.parts import flagged_parts, read_settings
from diagnose.target.source import Source
from diagnose.training.loop import train

BATCH, CLASSES = 64, 10


class Turns:
    """Of one arm: it waits for its turn, trains an epoch, and tells its speed."""

    def __init__(self, batches: int, epochs: int, clock: Callable[[], float]) -> None:
        self.batches, self.epochs = batches, epochs
        self._clock, self._started = clock, 0.0

    def begin(self) -> None:
        sys.stdin.readline()
        self._started = self._clock()

    def end(self) -> None:
        print(self.batches * BATCH / (self._clock() - self._started), flush=True)


def model(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "resnet18":
        from torchvision.models import resnet18

        return resnet18(num_classes=CLASSES)
    if name == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 64), nn.ReLU(), nn.Linear(64, CLASSES))
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 16, CLASSES))


def loader(batches: int) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(batches * BATCH) % CLASSES
    x = torch.randn(len(y), 3, 32, 32, generator=generator) + y[:, None, None, None] / CLASSES
    return DataLoader(TensorDataset(x, y), BATCH, shuffle=True)


def plain(name: str, turns: Turns) -> None:
    """As it is usually written: running loss and accuracy, nothing else."""
    net, data, loss_function = model(name), loader(turns.batches), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    net.train()
    for _ in range(turns.epochs):
        turns.begin()
        total, right = 0.0, 0
        for x, y in data:
            optimizer.zero_grad()
            output = net(x)
            loss = loss_function(output, y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
            right += int((output.argmax(1) == y).sum())
        turns.end()


def ours(name: str, turns: Turns, *, monitors: bool, channels_last: str = "no") -> None:
    def build() -> Pipeline:
        net = model(name)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
        val = DataLoader(TensorDataset(torch.randn(64, 3, 32, 32), torch.arange(64) % CLASSES), 64)
        return Pipeline(net, loader(turns.batches), val, nn.CrossEntropyLoss(), optimizer, epochs=turns.epochs)

    config = Config(
        target="bench:build",
        set=(f"train.monitors={str(monitors).lower()}", f"train.channels_last={channels_last}"),
    )
    settings = read_settings(config)
    located = Located(sys.modules[__name__], "build", build, "build")
    source = Source(config, located, flagged_parts(config, settings, Path.cwd()), settings, CreationLog())

    def after_epoch(row: object) -> None:
        turns.end()
        turns.begin()

    turns.begin()
    with tempfile.TemporaryDirectory() as folder:
        train(MeasuringContext(source), Path(folder), on_epoch=after_epoch)


def lightning(name: str, turns: Turns) -> None:
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

    class Turn(L.Callback):  # type: ignore[misc]
        def on_train_epoch_start(self, *_: Any) -> None:
            turns.begin()

        def on_train_epoch_end(self, *_: Any) -> None:
            turns.end()

    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_epochs=turns.epochs, accelerator="cpu", devices=1, callbacks=[Turn()], default_root_dir=folder,
            logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(Module(), loader(turns.batches))


ARMS: dict[str, Callable[[str, Turns], None]] = {
    "plain loop": plain,
    "diagnose train": partial(ours, monitors=True),
    "diagnose train, monitors off": partial(ours, monitors=False),
    "diagnose train, channels_last": partial(ours, monitors=True, channels_last="yes"),
    "Lightning": lightning,
}


def alone(arm: str, name: str, turns: Turns) -> None:
    """What the process of one arm does; its last line is its peak of memory in MB."""
    torch.set_num_threads(1)
    ARMS[arm](name, turns)
    # ru_maxrss would hold the parent's peak, from before the exec
    status = Path("/proc/self/status").read_text()
    print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)


def orders(arms: list[str], rounds: int) -> Iterator[list[str]]:
    """An order for each round: every arm comes first and last alike, and before and after each other."""
    for number in range(rounds):
        turned = arms[number % len(arms) :] + arms[: number % len(arms)]
        yield turned if number % 2 else turned[::-1]


def measure(arms: list[str], rounds: int, options: list[str]) -> tuple[dict[str, list[float]], dict[str, float]]:
    """(images per second of each round, peak in MB) of each arm; the first round, which warms up, is left out."""
    pipe = subprocess.PIPE
    command = [sys.executable, __file__, "--rounds", str(rounds), *options, "--alone"]
    running = {
        arm: subprocess.Popen([*command, arm], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        for arm in arms
    }
    speeds: dict[str, list[float]] = {arm: [] for arm in arms}
    for number, order in enumerate(orders(arms, rounds + 1)):
        for arm in order:
            speed = told_by(running[arm], "\n")
            if number:
                speeds[arm].append(speed)
    return speeds, {arm: told_by(process, "") for arm, process in running.items()}


def told_by(process: subprocess.Popen[str], turn: str) -> float:
    """The next figure of an arm, given its ``turn``; without one, it comes to its end."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(turn)
    process.stdin.flush()
    if not turn:
        process.stdin.close()
    return float(process.stdout.readline())


def interval(ratios: list[float]) -> tuple[float, float]:
    """Of the median, at 95 %: order statistics, whatever the distribution."""
    from scipy.stats import binom

    ordered = sorted(ratios)
    left_out = max(0, int(binom.ppf(0.025, len(ordered), 0.5)) - 1)
    return ordered[left_out], ordered[-1 - left_out]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--model", default="cnn", choices=["cnn", "resnet18", "mlp"])
    parser.add_argument("--wall", action="store_true")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        clock = time.perf_counter if given.wall else time.process_time
        alone(given.alone, given.model, Turns(given.batches, given.rounds + 1, clock))
        return
    arms = list(ARMS)
    if find_spec("lightning") is None:
        arms.remove("Lightning")
        print("Lightning is not installed: left out")
    options = ["--batches", str(given.batches), "--model", given.model, *(["--wall"] if given.wall else [])]
    speeds, peaks = measure(arms, given.rounds, options)
    print(f"{given.model}, batches of {BATCH}, {given.batches} a round, {given.rounds} rounds, one thread")
    print(f"{'':<32}{'images/s':>10}{'of plain':>10}{'95 % interval':>16}{'peak MB':>10}{'of plain':>10}")
    for arm in arms:
        ratios = [a / b for a, b in zip(speeds[arm], speeds["plain loop"], strict=True)]
        low, high = interval(ratios)
        between, memory = f"{low:.3f} to {high:.3f}", peaks[arm] / peaks["plain loop"]
        print(
            f"{arm:<32}{statistics.median(speeds[arm]):>10.0f}{statistics.median(ratios):>10.3f}{between:>16}"
            f"{peaks[arm]:>10.0f}{memory:>10.3f}"
        )


if __name__ == "__main__":
    main()
