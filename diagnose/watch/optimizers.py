"""One optimizer as it is stepped: which gradients enter a step, what the step did, which tensors it holds.

Gradients are followed by identity and version counter (torch raises it whenever a tensor is written), so almost
nothing is copied: a gradient that backward adds to is the same tensor with a higher version.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from diagnose.watch.rates import Rates
from probes.records.loop import LoopEvent, OptimizerSeen, StepLook
from probes.results import Where

SAMPLED = 6  # tensors of an optimizer whose gradients are followed
ELEMENTS = 64  # of each that are compared
FIRST_LOOKS = 8
MOST_LOOKS = 120
MOST_WAIT = 32  # backward calls after which a step is no longer waited for
LARGER = 2.0  # times the trained parameters: a part of the model has no more, behind what is trained
RECENT = 3  # looks in a row without a trace of a tensor, after which it is a stray

Mark = tuple[int, int] | None


def _mark(tensor: Tensor) -> Mark:
    gradient = tensor.grad
    return None if gradient is None else (id(gradient), gradient._version)


def _slice(tensor: Tensor) -> Tensor:
    flat = tensor.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // ELEMENTS)][:ELEMENTS].clone()


def _nonzero(tensor: Tensor) -> bool:
    gradient = tensor.grad
    if gradient is None:
        return False
    values = gradient.detach()
    return bool(torch.count_nonzero(values._values() if values.is_sparse else values))


def _median_change(before: Sequence[Tensor], tensors: Sequence[Tensor], chosen: Sequence[int]) -> float | None:
    """Of the matrices among ``tensors``: the length of the change, over the length before it."""
    sizes = [float(before[i].norm()) for i in chosen]
    pairs = [(i, size) for i, size in zip(chosen, sizes, strict=True) if size > 0 and tensors[i].ndim > 1]
    changes = sorted(float((_slice(tensors[i]) - before[i]).norm()) / size for i, size in pairs)
    return changes[(len(changes) - 1) // 2] if changes else None


class OptimizerWatch:
    """The state of one optimizer between two of its steps, and the looks taken so far."""

    def __init__(self, optimizer: Optimizer, created: tuple[Where, ...]) -> None:
        self.ref = weakref.ref(optimizer)
        self.kind = type(optimizer).__name__
        self.created = created
        self.steps = 0
        self.inside = False
        self.due = True
        self.scaled = False
        self.backwards = 0
        self.looks: list[StepLook] = []
        self.rates = Rates()
        self.step_at: tuple[Where, ...] = ()
        self.slept_at: tuple[Where, ...] = ()
        self.fed: set[int] = set()  # ids of held tensors that had a gradient in some look
        self.missing: dict[str, tuple[weakref.ref[Tensor], Tensor, bool]] = {}
        self.orphans: dict[str, tuple[weakref.ref[Tensor], Tensor, bool]] = {}  # of models that no optimizer holds
        self.apart: dict[str, tuple[weakref.ref[Tensor], Tensor, bool]] = {}  # of models that none ever held, as above
        self._alive: dict[int, int] = {}  # id of a held tensor -> the last cover in which its model ran
        self._covers = 0
        self._strays: tuple[tuple[int, ...], ...] = ()
        self._fed_before = 0
        self._missing: list[str] = []
        self._apart: list[str] = []
        self.trained: set[tuple[int, int]] = set()  # keys of the samples under which it was stepped
        self.since = 0  # serial of the forward passes before its last step
        self.held = 0
        self.reached = 0
        self.fed_at: tuple[Where, ...] = ()
        self.pretrained = False
        self._begun: list[tuple[Tensor, Tensor]] = []  # the sample when a backward first reached it, and its values
        self.ids: set[int] = set()  # of all tensors that it ever held
        self.had: list[bool] = []  # which of the sample had a gradient when the step began
        self._sample: list[Tensor] = []
        self._used: list[Mark] = []  # of the sample's gradients, when the last step ended
        self._stale: list[bool] = []
        self._grown: list[bool] = []
        self._heard: list[Mark] = []  # as the last backward or unscaling left them
        self._seen_first = False
        self._made = False
        self._asleep: tuple[str, ...] = ()
        self._values: list[Tensor] = []
        self.events: list[LoopEvent] = []
        self.complete = True
        self._written: weakref.ref[Tensor] | None = None  # the first tensor, and its version at the last step
        self._version = 0
        self.quiet_since = -1  # openings of the window when it was prepared for a step that is not looked at

    def tensors(self) -> list[Tensor]:
        optimizer = self.ref()
        groups = [] if optimizer is None else optimizer.param_groups
        return [p for group in groups for p in group["params"]]

    def lr(self) -> float:
        optimizer = self.ref()
        groups = optimizer.param_groups if optimizer is not None else []
        rates = [group.get("lr") for group in groups]
        return max([1.0 if rate is None else float(rate) for rate in rates], default=0.0)  # None: it finds its own

    # -- around backward ----------------------------------------------------------------------------------------

    def before_backward(self) -> list[Mark]:
        """Called in a look. What the gradients of the sample are."""
        if not self._sample:
            self._choose()
        marks = [_mark(p) for p in self._sample]
        if not self._seen_first:
            self._seen_first = True
            left = self._used or [None] * len(marks)
            self._stale = [
                mark is not None and mark == used and _nonzero(p)
                for mark, used, p in zip(marks, left, self._sample, strict=True)
            ]
            self._grown = [False] * len(marks)
        else:
            self.recheck()
        return marks

    def recheck(self) -> None:
        """A gradient that was cleared meanwhile, by whatever means, is no longer an old one."""
        for i, p in enumerate(self._sample if self._seen_first else ()):
            if self._stale[i] and not _nonzero(p):
                self._stale[i] = self._grown[i] = False

    def after_backward(self, before: list[Mark]) -> bool:
        """Whether the backward reached this optimizer's tensors."""
        after = [_mark(p) for p in self._sample]
        changed = [new is not None and new != old for old, new in zip(before, after, strict=True)]
        for i, grew in enumerate(changed):
            if grew and self._stale[i]:
                self._grown[i] = True
        self._heard = after
        if any(changed) and not self._made:
            self._made = any(_nonzero(p) for p, grew in zip(self._sample, changed, strict=True) if grew)
        return any(changed)

    def reach(self, where: tuple[Where, ...]) -> None:
        """A backward reached it, in a look."""
        self.reached += 1
        self.fed_at = where
        if not self.steps and not self._begun:
            self._begun = [(p, _slice(p)) for p in self._sample]
            self.held = len(self.tensors())

    def _moved_on(self) -> bool:
        """Whether its tensors have changed since, though it was never stepped."""
        return any(not torch.equal(value, _slice(p)) for p, value in self._begun)

    def sleeps(self, asleep: tuple[str, ...], where: tuple[Where, ...]) -> None:
        self._asleep = asleep
        if asleep and where:
            self.slept_at = where

    def wakes(self) -> None:
        """A later backward of the same step, as after an adversarial example was made in eval mode."""
        self._asleep = ()

    # -- around step --------------------------------------------------------------------------------------------

    def before_step(self) -> None:
        """Called in a look."""
        if not self._sample:
            self._choose()
        self._values = [_slice(p) for p in self._sample]
        self.compare()

    def after_step(
        self,
        total: int,
        loader: int,
        where: tuple[Where, ...],
        before: list[bool],
        material: tuple[int | None, int],
        *,
        looked: bool,
    ) -> None:
        """``before``: which of the sample had a gradient when the step began; ``material``: of ``Material.used``."""
        if looked and len(self.looks) < MOST_LOOKS:
            told = self._values if len(self._values) == len(self._sample) else []
            fed = [i for i, had in enumerate(before) if had] if told else []
            moved = None
            if fed and self.lr() > 0:
                moved = any(not torch.equal(told[i], _slice(self._sample[i])) for i in fed)
            early = len(self.looks) < FIRST_LOOKS
            update = _median_change(told, self._sample, fed) if early else None
            self.looks.append(
                StepLook(
                    step=self.steps, total=total,
                    stale=any(self._grown) if self._seen_first and self._used and self.complete else None,
                    emptied=self._made and not any(before),
                    moved=moved, update=update, asleep=self._asleep, loader=loader,
                    events=tuple(self.events) if self.complete else (), where=where,
                    material=material[0], size=material[1],
                )
            )  # fmt: skip
        self.count()
        self._begun = []
        self._forget()

    def count(self) -> None:
        """A step was made. All there is to do where nothing was looked at since the last one."""
        self.steps += 1
        self.backwards = 0
        self._note_version()

    def _forget(self) -> None:
        self.events = []
        self._values = []
        self._heard = []
        self._seen_first = self._made = False
        self._asleep = ()

    def _note_version(self) -> None:
        tensor = (
            next((p for p in self.tensors() if p.requires_grad), None) if self._written is None else self._written()
        )
        if tensor is not None:
            self._written = self._written or weakref.ref(tensor)
            self._version = tensor._version

    def rewritten(self, held: set[int]) -> bool:
        """Whether a tensor of it, one of the ids ``held``, was written since its last step by other means."""
        tensor = self._written() if self._written is not None else None
        if tensor is None:  # gone: what has its ids now are other tensors
            return self.steps > 0 and not held.isdisjoint(self.ids)
        return id(tensor) in held and tensor._version != self._version

    def prepare(self, *, looked: bool) -> None:
        """After a step: whether the next one is looked at from its beginning."""
        self.complete = looked
        self._used, self._stale, self._grown = [], [], []
        if looked:
            self._choose()
            self._used = [_mark(p) for p in self._sample]
        else:
            self._sample = []

    def remark(self) -> None:
        """The gradients were written by what is heard: from here on, what else writes them is the program itself."""
        self._heard = [_mark(p) for p in self._sample]

    def compare(self) -> None:
        """Whether the program has written the gradients since. Called once before a step, or before a clipping."""
        if self._heard and self._heard != [_mark(p) for p in self._sample]:
            self.events.append(LoopEvent("edit", touched=True))
        self._heard = []

    def has_gradients(self) -> list[bool]:
        """Which tensors of the sample have a gradient that is not zero."""
        return [_nonzero(p) for p in self._sample]

    def note_lr(self) -> float:
        """The rate of the step that was made."""
        lr = self.lr()
        self.rates.note(self.steps, lr)
        return lr

    def _choose(self) -> None:
        dense = [p for p in self.tensors() if p.requires_grad and (p.grad is None or p.grad.layout == torch.strided)]
        gap = max(1, (len(dense) - 1) // (SAMPLED - 1)) if len(dense) > SAMPLED else 1
        self._sample = [*dense[::gap][: SAMPLED - 1], *dense[-1:]] if len(dense) > SAMPLED else dense

    # -- which tensors ------------------------------------------------------------------------------------------

    def cover(
        self, roots: Sequence[nn.Module], everywhere: set[int], loaded: set[int], ever: set[int], continued: set[int]
    ) -> None:
        """Before a step in a look: which held tensors have gradients, and which of the models' are nowhere.

        ``roots``: the models that ran since the last step; ``everywhere``: ids of the tensors of all optimizers;
        ``loaded``: ids of modules that weights were loaded into; ``ever``: of all tensors that some optimizer held;
        ``continued``: ids of models that were given the output of another one, with its graph.
        """
        tensors = self.tensors()
        mine = {id(p) for p in tensors}
        self.ids |= mine
        self.pretrained = self.pretrained or any(
            id(root) in loaded and any(id(p) in mine for p in root.parameters()) for root in roots
        )
        fed = {id(p) for p in tensors if p.grad is not None}
        self.held = len(tensors)
        self.fed |= fed
        self._covers += 1
        ran = {id(p) for root in roots for p in root.parameters()}
        for p in tensors:
            if id(p) in fed or id(p) in ran:
                self._alive[id(p)] = self._covers
        trained = sum(p.numel() for root in roots for p in root.parameters() if id(p) in mine)
        for root in roots:
            named = list(root.named_parameters())
            shared = any(id(p) in mine for _, p in named)
            if not shared and any(id(p) in everywhere for _, p in named):
                continue
            learned = isinstance(root, torch.jit.ScriptModule) or any(id(part) in loaded for part in root.modules())
            fresh = root.training and not learned and ever.isdisjoint(id(p) for _, p in named)
            # A decoder, say, behind the encoder that is trained; behind a few weights a large model is meant to stay.
            # A single layer may be a known operator, written into it by hand: a blur, a linear system.
            several = len({name.rpartition(".")[0] for name, _ in named}) > 1
            small = sum(p.numel() for _, p in named) <= LARGER * trained
            part = fresh and several and small and id(root) in continued
            kept = self.missing if shared or part else self.orphans
            for name, p in named:
                known = name in kept and kept[name][0]() is p
                if id(p) not in everywhere and p.requires_grad and not known and _nonzero(p):
                    kept[name] = (weakref.ref(p), _slice(p), id(root) in loaded)
                    if not shared and fresh:
                        self.apart[name] = kept[name]
        self._conclude(tensors)

    def _conclude(self, tensors: Sequence[Tensor]) -> None:
        """What has been seen up to now, kept as plain data: the model may be gone when the script ends."""
        strays = [p for p in tensors if self._covers - self._alive.get(id(p), 0) >= RECENT]
        self._strays = tuple(tuple(p.shape) for p in strays)
        self._fed_before = sum(id(p) in self.fed for p in strays)
        self._missing = self._still(self.missing)
        self._apart = self._still(self.apart)
        if strays:
            self._missing += self._still(self.orphans)

    def _still(self, found: dict[str, tuple[weakref.ref[Tensor], Tensor, bool]]) -> list[str]:
        """Those that have not moved since they were seen, as far as they are still there."""
        return [n for n, (ref, value, _) in found.items() if (p := ref()) is None or torch.equal(value, _slice(p))]

    def seen(self) -> OptimizerSeen:
        known = {**self.orphans, **self.missing}
        return OptimizerSeen(
            kind=self.kind, where=self.created, steps=self.steps, held=self.held, looks=tuple(self.looks),
            lrs=tuple(self.rates.kept), fed=len(self.fed), strays=self._strays, fed_before=self._fed_before,
            missing=tuple(self._missing), apart=tuple(self._apart), fed_at=self.fed_at,
            reached=0 if self._moved_on() else self.reached,
            pretrained=self.pretrained, loaded=any(known[name][2] for name in self._missing),
            backwards=self.backwards, scaled=self.scaled, step_at=self.step_at, slept_at=self.slept_at,
        )  # fmt: skip
