"""The batches of a loader by epoch, whether or not it knows its length, and from the middle of an epoch on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from diagnose.training.generators import Generator, generators_of
from diagnose.user_code import user_code

EPOCH_BATCHES = 2_000  # of a training loader that has no length
PASS_BATCHES = 1_000  # of a validation or test loader that has no length


class BatchStream:
    """``epoch()`` yields the batches of the next epoch.

    An epoch is one iteration. A loader without a length may be endless: its epoch ends after ``limit`` batches at the
    latest, and the next one goes on where this one stopped, so that no batch is left out for good.
    """

    def __init__(self, loader: Any, name: str, limit: int, say: Callable[[str], None]) -> None:
        self.loader, self._name, self._limit, self._say = loader, name, limit, say
        self._iterator: Iterator[Any] | None = None
        try:
            self.length: int | None = len(loader)
        except (TypeError, NotImplementedError):
            self.length = None

    @property
    def most(self) -> int:
        """How many batches an epoch has, or has at most."""
        return self._limit if self.length is None else self.length

    @property
    def generators(self) -> list[Generator]:
        """The random generators of the loader and its data set, which a checkpoint keeps."""
        return generators_of(self.loader)

    @property
    def has_position(self) -> bool:
        """Whether an epoch can be taken up again in its middle: a DataLoader over items, or a list of batches."""
        if isinstance(self.loader, (list, tuple)):
            return True
        return (
            isinstance(self.loader, DataLoader)
            and not isinstance(self.loader.dataset, IterableDataset)
            and self.length is not None
        )

    @property
    def keeps_workers(self) -> bool:
        """Whether worker processes live over epochs, with random states that no checkpoint can reach."""
        return isinstance(self.loader, DataLoader) and self.loader.num_workers > 0 and self.loader.persistent_workers

    def set_epoch(self, epoch: int) -> None:
        """Tell samplers that shuffle by epoch (DistributedSampler and its like)."""
        for holder in (getattr(self.loader, "sampler", None), getattr(self.loader, "batch_sampler", None)):
            if callable(getattr(holder, "set_epoch", None)):
                with user_code("reading data"):
                    holder.set_epoch(epoch)  # type: ignore[union-attr]

    def skip(self, batches: int) -> None:
        """Begin the next epoch behind its first ``batches``; ``has_position`` must hold.

        Without workers the samples of these batches are not read: the caller puts back the random states that reading
        them led to. Workers read them again, since their states are their own.
        """
        with user_code("reading data"):
            self._iterator = iterator = iter(self.loader)
            forward = iterator
            if isinstance(self.loader, DataLoader) and not self.loader.num_workers:
                forward = getattr(iterator, "_sampler_iter", iterator)
            for _ in range(batches):
                next(forward, None)

    def epoch(self, start: int = 0) -> Iterator[Any]:
        """The batches from number ``start`` on, after ``skip(start)``. Raises UserCodeError("reading data")."""
        if self._iterator is None:
            with user_code("reading data"):
                self._iterator = iter(self.loader)
        iterator = self._iterator
        for _ in range(start, self.most):
            with user_code("reading data"):
                try:
                    raw = next(iterator)
                except StopIteration:
                    self._iterator = None
                    return
            yield raw
        if self.length is not None:
            self._iterator = None  # whatever comes beyond the length it told
        else:
            self._say(
                f"The {self._name} loader tells no length: an epoch ends after {self._limit:,} batches, and "
                "the next one goes on from there."
            )
