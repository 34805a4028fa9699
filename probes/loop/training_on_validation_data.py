"""Training on the data that are to judge it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.loop._modes import is_one_loader

if TYPE_CHECKING:
    from probes.records.loop import LoaderSeen, Loop
    from probes.results import Finding

VALIDATION = re.compile(
    r"(^|[_.])(val|valid|validation|test|testing|dev|eval|holdout|held_out)(\d|_|$|loader|ation)", re.IGNORECASE
)
ANY_DATA = re.compile(r"(^|[_.])eval", re.IGNORECASE)  # may evaluate on the training data too, on purpose
LEARNED = 0.5  # of the samples evaluated on, from which on they are no held-out data
ENOUGH = 20  # samples: a single graph, with masks of its own, is not told so
PART = 0.9  # of the training samples: an evaluation on fewer of them is not one on the training data
COUNTED = 20_000  # samples of an evaluation that are told apart at most; of one so large its length counts

DOC = ProbeDoc(
    code="LOP305",
    name="training-on-validation-data",
    stage=Stage.WATCH,
    summary="The model is trained on the data that it is evaluated on.",
    why="The validation figures then show what was memorised, and nothing about new data.",
    fix="Train on the training loader alone; look which loader the loop with optimizer.step() reads.",
    judged_by="watch",
    before="for x, y in val_loader:\n    train_step(x, y)",
    after="for x, y in train_loader:\n    train_step(x, y)",
    consequences=("train-val-leakage",),
)


JUDGED = "of {known} samples of {name} that the model is judged by, {learned} were trained on"


def watched(loop: Loop) -> Findings:
    """Samples by identity: those that a model was stepped on against those that it was evaluated on."""
    trained = [loader for loader in loop.loaders if loader.steps]
    tests = [loader for loader in loop.loaders if loader.known and loader.learned is not None]
    if not trained:
        raise Skip("no steps were made under a DataLoader")
    held_out = [loader for loader in trained if _is_held_out(loader)]
    mixed = [optimizer.looks for optimizer in loop.optimizers if optimizer.looks and is_one_loader(optimizer.looks)]
    if mixed:
        index = next(look.loader for look in mixed[0] if look.asleep)
        yield _finding(loop.loaders[index], "{steps} steps were made under {name} while the model was in eval mode")
        return ""
    if held_out and len(trained) > len(held_out) and not any(_fresh(loader) for loader in tests):
        yield _finding(held_out[0], "{steps} steps were made on batches of {name}, beside those of the training data")
        return ""
    if not tests:
        raise Skip("no evaluation of known samples was seen")
    most = max(loader.trained for loader in trained)
    if any(_fresh(loader) for loader in tests):
        lines = [loader.where for loader in tests if not _gives_training_data(loader, most)]  # that make others too
        if copied := next((x for x in tests if x.where not in lines and _gives_training_data(x, most)), None):
            yield _finding(copied, JUDGED)
            return ""
        return "the model is evaluated on samples that it was not trained on"
    if loop.bare_evaluations:
        raise Skip("evaluations without a loader were seen: their samples may be held out")
    unused = [x for x in loop.loaders if x.disjoint and not x.passed and loop.ended in {"end", "exit"}]
    for loader in tests:
        apart = not loader.steps and _size(loader) < PART * most
        swapped = loader.steps and not loader.shuffled and any(other.shuffled for other in unused)
        if apart or swapped or (loader.steps and _is_held_out(loader)):
            yield _finding(loader, JUDGED)
            return ""
    raise Skip("the model is evaluated on its training data alone: there is no held-out data to mix them up with")


def _is_held_out(loader: LoaderSeen) -> bool:
    """By its name."""
    return bool(VALIDATION.search(loader.name)) and "train" not in loader.name.lower()


def _gives_training_data(loader: LoaderSeen, most: int) -> bool:
    """Whether a loader that is named as one of held-out data, and is evaluated in the course of the training, gives the
    training data, all of them, where there are held-out ones. Others may well give them on purpose."""
    judges = any(p.begun and p.forwards and not p.steps for p in loader.passes)
    whole = loader.known >= max(ENOUGH, PART * most) and (loader.learned or 0) >= PART * loader.known
    named = _is_held_out(loader) and not ANY_DATA.search(loader.name)
    return named and judges and whole and not loader.steps


def _size(loader: LoaderSeen) -> int:
    return max(loader.known, loader.samples or 0) if loader.known >= COUNTED else loader.known


def _fresh(loader: LoaderSeen) -> bool:
    return (loader.learned or 0) < LEARNED * loader.known


def _finding(loader: LoaderSeen, message: str) -> Finding:
    return DOC.finding(
        message,
        where=(*loader.steps_at, *loader.where),
        steps=loader.steps,
        name=loader.name or "another loader",
        known=loader.known,
        learned=loader.learned or 0,
    )
