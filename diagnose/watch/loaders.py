"""DataLoaders as they are iterated: passes, which samples they gave, and whether a step was made under them.

Which samples are the same is told by ``samples``.
"""

from __future__ import annotations

import dis
import weakref
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any

from torch.utils.data import Dataset, RandomSampler, SequentialSampler, TensorDataset

from diagnose.watch.rows import VALUES, row_keys
from diagnose.watch.samples import DISTINCT, Key, sample_keys
from diagnose.watch.sites import assigned_name
from probes.records.loop import LoaderSeen, Pass
from probes.results import Where

MOST_KEYS = 40_000  # of a pass: one or two for each of its samples
MOST_PASSES = 60
SOME = 200  # samples of each loader that are known before it is read
UNCHANGED = 0.2  # of the samples of a batch: an augmentation by chance leaves these as they were before
KNOWN_PASSES = 20  # of which the values of the first batch are known
KEYED_PASSES = 2  # later passes give the same samples again


def drawn_by_loop(frame: FrameType | None) -> bool:
    """Whether the user's frame is at a for loop; ``next`` is a call."""
    if frame is None or frame.f_lasti < 0:
        return True
    return not _is_call(frame.f_code, frame.f_lasti)


@lru_cache(maxsize=1024)
def _is_call(code: CodeType, offset: int) -> bool:
    found = next((i.opname for i in dis.get_instructions(code) if i.offset == offset), "")
    return found.startswith(("CALL", "PRECALL"))


class PassWatch:
    """One iterator while it is used."""

    def __init__(self, begun: int, *, by_loop: bool) -> None:
        self.begun, self.by_loop = begun, by_loop
        self.batches = self.steps = self.backwards = self.forwards = 0
        self.ended = False
        self.first: int | None = None
        self.pending: list[Any] = []  # indices drawn ahead of their batches
        self.keyed = False
        self.fresh = False  # the first one of its loader
        self.valued = 0  # samples that are known by their values
        self.keys: set[Key] = set()
        self.current: list[Key] = []
        self.roots: set[int] = set()
        self.awake: tuple[str, ...] = ()
        self.awake_at: tuple[Where, ...] = ()

    def record(self) -> Pass:
        quiet = not self.steps and not self.backwards
        return Pass(
            begun=self.begun, batches=self.batches, steps=self.steps, by_loop=self.by_loop, ended=self.ended,
            first=self.first, forwards=self.forwards if quiet else 0, awake=self.awake if quiet else (),
            where=self.awake_at if quiet else (),
        )  # fmt: skip


class LoaderWatch:
    """One DataLoader over the whole run."""

    def __init__(self, index: int, loader: Any, where: tuple[Where, ...], function: str = "") -> None:
        """``function``: of the program, which returns it at once."""
        self.index, self.where = index, where
        self.name = assigned_name(where) or (function if "loader" in function else "")
        self.ref = weakref.ref(loader)
        dataset: Any = loader.dataset
        self.indexed = isinstance(dataset, Dataset) and hasattr(dataset, "__getitem__") and not _is_iterable(loader)
        self.batch_size: int | None = getattr(loader, "batch_size", None)
        self.batches = _length(loader)
        self.samples = _length(dataset) if self.indexed else None
        sampler = getattr(loader, "sampler", None)
        self.shuffled = None if sampler is None else type(sampler).__name__ != "SequentialSampler"
        self.passes: list[PassWatch] = []
        self.passed = self.steps = self.same_first = self.late = 0
        self.steps_at: tuple[Where, ...] = ()
        self._first: tuple[int, dict[Any, set[int]]] | None = None  # key of the first pass; values by index, of more
        self._epochs: set[int] = set()
        self._distributed = False
        self._settled: tuple[int, int, int | None, bool] | None = None  # evaluations then, and what they came to
        self._indices_tell = self.indexed
        self._renewed = 0  # passes before the loader that it stands for now
        self._data = _data(dataset)
        self._own = _some_keys(dataset, self.samples) if self.indexed and self.samples else set()

    def is_made_anew(self, loader: Any, where: tuple[Where, ...]) -> bool:
        """Whether ``loader``, made at ``where``, stands for this one, which is gone: as in a loop that makes its loader
        for each pass."""
        if not where or where != self.where or self.ref() is not None or self._data is None or self.evaluations():
            return False
        plain = type(getattr(loader, "sampler", None)) in {RandomSampler, SequentialSampler}  # else of other samples
        return plain and self._data == _data(loader.dataset) and self.batches == _length(loader)

    def renew(self, loader: Any) -> None:
        self.ref, self._renewed = weakref.ref(loader), self.passed

    def begin(self, begun: int, *, by_loop: bool) -> PassWatch:
        watched = PassWatch(begun, by_loop=by_loop)
        watched.keyed = self.passed < self._renewed + KEYED_PASSES
        watched.fresh = self.passed == self._renewed
        self.passed += 1
        if len(self.passes) < MOST_PASSES:
            self.passes.append(watched)
        self._note_epoch()
        return watched

    def batch(self, watched: PassWatch, indices: Any, dataset: Any, data: Any) -> None:
        """A batch of ``dataset``, ``data``, has come. ``indices``: those it was made of, None where unknown."""
        watched.batches += 1
        if watched.batches == 1 and indices is not None:
            keys = tuple(key for _, key in row_keys(data))
            drawn = tuple(indices) if isinstance(indices, (list, tuple)) else (indices,)
            watched.first = hash((tuple(sorted(drawn)), tuple(sorted(keys))))
            self._first = self._first or (watched.first, {})
            self.same_first += watched.first == self._first[0] or _augmented(self._first[1], drawn, keys)
            if len(self.passes) < KNOWN_PASSES and len(drawn) == len(keys):
                for i, key in zip(drawn, keys, strict=True):
                    self._first[1].setdefault(i, set()).add(key)
        watched.current = []
        if watched.keyed and len(watched.keys) < MOST_KEYS:
            watched.current = self._by_index(dataset, indices)
            # One pass gives all of them; those of tensors may be told by their values already.
            if watched.fresh and not any(kind == 0 for kind, _ in watched.current):
                values = row_keys(data)
                watched.valued += len(values)
                watched.current += values
            watched.keys.update(watched.current)

    def _by_index(self, dataset: Any, indices: Any) -> list[Key]:
        if indices is None or not self._indices_tell:
            return []
        many = indices if isinstance(indices, (list, tuple)) else [indices]
        try:
            return sample_keys(dataset, [int(i) for i in many])
        except (TypeError, ValueError, IndexError):  # samplers may yield what only the data set understands
            self._indices_tell = False
            return []

    @property
    def distinct(self) -> bool:
        """Whether the values of its samples tell them apart."""
        return all(len(by_kind(p.keys)[1]) >= DISTINCT * p.valued for p in self.passes)

    def _note_epoch(self) -> None:
        loader = self.ref()
        sampler: Any = getattr(loader, "sampler", None)
        if hasattr(sampler, "set_epoch") and getattr(sampler, "shuffle", False) and hasattr(sampler, "epoch"):
            self._distributed = True
            self._epochs.add(int(sampler.epoch))

    def evaluations(self) -> list[PassWatch]:
        return [p for p in self.passes if p.forwards and not p.steps and not p.backwards]

    def disjoint(self, learned: set[Key]) -> bool:
        """Whether none of its samples was trained on, as far as they can be told without reading one."""
        return bool(self._own) and bool(learned) and self._own.isdisjoint(learned)

    def settle(self, trained_of: Any, learned: set[Key], *, distinct: bool) -> None:
        """The evaluations up to now are judged by what was trained up to now."""
        if tests := self.evaluations():
            seen = self.record(trained_of, learned, distinct=distinct)
            self._settled = len(tests), seen.known, seen.learned, seen.disjoint

    def record(self, trained_of: Any, learned: set[Key], *, distinct: bool) -> LoaderSeen:
        """``trained_of(roots)``: the samples that the optimizers of these models were stepped on. ``distinct``: those
        can be told by their values."""
        tests = self.evaluations()
        # Later passes are not told apart sample by sample; they give the same ones as the first.
        keys = set().union(*(p.keys for p in tests)) or set().union(*(p.keys for p in self.passes if tests))
        roots = set().union(*(p.roots for p in tests)) if tests else set()
        if self._settled is not None and self._settled[0] == len(tests):
            _, known, count, apart = self._settled
        else:
            known, count = _learned(keys, trained_of(roots), by_value=distinct and self.distinct)
            apart = self.disjoint(learned)
        return LoaderSeen(
            name=self.name, where=self.where, batches=self.batches, samples=self.samples,
            shuffled=self.shuffled, passed=self.passed, steps=self.steps,
            passes=tuple(p.record() for p in self.passes), same_first=self.same_first, known=known,
            trained=max(map(len, by_kind(set().union(*(p.keys for p in self.passes if p.steps))))),
            learned=count, disjoint=apart,
            distributed=self._distributed, epochs_set=len(self._epochs), late=self.late, steps_at=self.steps_at,
        )  # fmt: skip


def _augmented(known: dict[Any, set[int]], drawn: tuple[Any, ...], keys: tuple[int, ...]) -> bool:
    """Whether a batch is of the samples of earlier ones, ``known`` values by index, some of which an augmentation left
    as they were. A data set that draws its items at random gives others under the same indices."""
    if known.keys() != set(drawn) or not len(set(keys)) == len(keys) == len(known):
        return False
    return sum(key in known[i] for i, key in zip(drawn, keys, strict=True)) >= UNCHANGED * len(keys)


def by_kind(keys: set[Key]) -> tuple[set[Key], set[Key]]:
    """Those by data set and index, or by the rows of its tensors; those by the values in a batch."""
    values = {key for key in keys if key[0] == VALUES}
    return keys - values, values


def _learned(keys: set[Key], trained: set[Key], *, by_value: bool) -> tuple[int, int | None]:
    """(samples that are known, how many of them were trained on), by the kind of key by which most were; None where
    none is known."""
    kinds = by_kind(keys)
    sizes = [(len(kind), len(kind & trained)) for kind in kinds[: 1 + by_value] if kind]
    found = [(learned / known, known, learned) for known, learned in sizes]
    _, known, learned = max(found, default=(0.0, 0, None))
    return known, learned


def _data(dataset: Any) -> Any:
    """What is equal for the same data set, and for data sets of the same tensors; None where that cannot be told."""
    if isinstance(dataset, TensorDataset):
        return tuple((rows.data_ptr(), rows.shape, rows.stride()) for rows in dataset.tensors)
    try:
        return weakref.ref(dataset)
    except TypeError:
        return None


def _some_keys(dataset: Any, size: int) -> set[Key]:
    """Keys of samples from all over a data set, without reading one; empty where an index means something else."""
    try:
        return set(sample_keys(dataset, range(0, size, max(1, size // SOME))))
    except (TypeError, ValueError, IndexError, KeyError):
        return set()


def _is_iterable(loader: Any) -> bool:
    return str(getattr(loader, "_dataset_kind", 0)) == "1"


def _length(sized: Any) -> int | None:
    try:
        return len(sized)
    except (TypeError, NotImplementedError):
        return None
