"""Several processes that train one model together, started by torchrun: Accelerate sets them up.

Each batch of the user's loader is divided among the ranks, so that the global batch, the number of steps and the
schedule are those of one process. Figures are sums over all ranks, of every sample once.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset
from torch.utils.data.distributed import DistributedSampler

from diagnose.errors import UsageError
from diagnose.training.meeting import Meeting
from diagnose.training.validation import rebuilt
from probes import catalogue
from probes.results import Finding

if TYPE_CHECKING:
    from torch import nn

SILENCE = 180.0  # seconds in which a rank does not answer, after which it counts as lost
AGREE_EVERY = 10  # updates between two decisions that all ranks take together
STARVED = 3.0  # times the median share of time that the ranks wait for data


class Ranks:
    """This process among ``world`` of them. With one, nothing is done and nothing costs. Of several, the first to come
    wait for the others: see ``Meeting``."""

    def __init__(
        self,
        device: torch.device,
        progress: Callable[[str, int, int], None] = lambda what, done, of: None,
        deadline: float | None = None,
    ) -> None:
        self.world, self.rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        self._accelerator: Any = None
        if self.world > 1:
            from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs

            Meeting(progress, deadline).all_ready()
            self._accelerator = Accelerator(
                cpu=device.type == "cpu",
                kwargs_handlers=[
                    InitProcessGroupKwargs(timeout=timedelta(seconds=SILENCE)),
                    DistributedDataParallelKwargs(find_unused_parameters=True),
                ],
            )

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def several(self) -> bool:
        return self.world > 1

    def close(self) -> None:
        if self._accelerator is not None:
            self._accelerator.end_training()

    def wrapped(self, model: nn.Module) -> Any:
        """What to call in training, so that gradients are averaged over the ranks."""
        return self._accelerator.prepare_model(model) if self.several else model

    def shard(self, loader: Any, name: str, *, train: bool) -> Any:
        """The loader of this rank. Raises UsageError where a loader cannot be divided."""
        if not self.several:
            return loader
        if isinstance(getattr(loader, "sampler", None), DistributedSampler):  # the user has divided it already
            return loader
        batches = getattr(loader, "batch_sampler", None)
        if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset) or batches is None:
            raise UsageError(
                f"torchrun: the {name} loader is a {type(loader).__name__} whose batches cannot be divided among the "
                "ranks; expected a torch DataLoader over a data set with __getitem__ and __len__."
            )
        return rebuilt(loader, batch_sampler=Shares(batches, self.rank, self.world, train=train))

    def share(self, value: Any) -> Any:
        """The value of rank 0, on all ranks."""
        if not self.several:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, in their order."""
        if not self.several:
            return [value]
        from accelerate.utils import gather_object

        found: list[Any] = gather_object([value])
        return found

    def agree(self, yes: bool, step: int) -> bool:
        """Whether any rank says yes; asked every ``AGREE_EVERY`` updates, and no in between."""
        if not self.several:
            return yes
        return any(self.gather(yes)) if step % AGREE_EVERY == 0 else False

    def all(self, yes: bool) -> bool:
        """Whether every rank says yes, now."""
        if not self.several:
            return yes
        noes = torch.tensor([0.0 if yes else 1.0], device=self._accelerator.device)
        torch.distributed.all_reduce(noes)
        return not float(noes)

    def same_buffers(self, model: nn.Module) -> None:
        """Running statistics of rank 0 for all, before they are used."""
        if self.several:
            for buffer in model.buffers():
                torch.distributed.broadcast(buffer, 0)

    def checked(self, model: nn.Module, waited: float, first_batch: int) -> tuple[Finding | None, list[str]]:
        """(the ranks hold different parameters, remarks on data that are alike or late), after an epoch."""
        if not self.several:
            return None, []
        told = self.gather((fingerprint(model), waited, first_batch))
        prints, waits, batches = (list(column) for column in zip(*told, strict=True))
        remarks = []
        if len(set(batches)) < self.world:
            remarks.append("Two ranks read the same first batch of an epoch: the data set repeats its samples.")
        usual = sorted(waits)[(self.world - 1) // 2]
        late = max(range(self.world), key=lambda rank: waits[rank])
        if waits[late] > max(0.5, STARVED * usual):
            remarks.append(
                f"Rank {late} waits {waits[late]:.0%} of its time for data, the others {usual:.0%}: it holds all of "
                "them up."
            )
        if len(set(prints)) == 1:
            return None, remarks
        odd = [rank for rank, value in enumerate(prints) if value != prints[0]]
        return catalogue.doc("ranks-diverged").finding(
            "The parameters of rank {ranks} differ from those of rank 0.", ranks=", ".join(map(str, odd))
        ), remarks


class Shares(BatchSampler):
    """Of each batch of ``batches`` the part of one rank. All ranks draw the same order; what a rank draws at random
    afterwards is its own. A last batch with fewer samples than ranks is left out of training."""

    def __init__(self, batches: Any, rank: int, world: int, *, train: bool) -> None:
        self.batches, self.rank, self.world, self.train = batches, rank, world, train
        self.batch_size: Any = getattr(batches, "batch_size", None)
        self.drop_last = getattr(batches, "drop_last", False)
        self.sampler = getattr(batches, "sampler", None)  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        drawn = [list(batch) for batch in self.batches]
        if self.rank and self.train:
            torch.manual_seed(torch.initial_seed() + 7919 * self.rank)
        for batch in drawn:
            part = batch[self.rank :: self.world]
            if len(batch) >= self.world or (part and not self.train):
                yield part


def fingerprint(model: nn.Module) -> int:
    """A checksum of all parameters."""
    found = 0
    for p in model.parameters():
        found = zlib.crc32(p.detach().float().cpu().contiguous().numpy().tobytes(), found)
    return found


def batch_print(tensors: Sequence[torch.Tensor]) -> int:
    found = 0
    for x in tensors:
        found = zlib.crc32(x.detach().cpu().contiguous().numpy().tobytes(), found)
    return found


def is_lost(error: BaseException) -> bool:
    """Whether an exception of torch says that another process is gone."""
    text = str(error).lower()
    told = ("connection closed by peer", "connection reset", "timed out waiting", "broken pipe", "connection refused")
    return isinstance(error, RuntimeError) and any(words in text for words in told)
