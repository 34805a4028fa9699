"""The next values of a sensor from the last ones: an IterableDataset without a length, and a GRU."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from diagnose import Pipeline
from zoo.cases import cases

PAST, FUTURE = 24, 4


@functools.lru_cache
def series():
    rng = np.random.default_rng(8)
    t = np.arange(6000)
    load = np.sin(t / 9) + 0.5 * np.sin(t / 31) + rng.normal(0, 0.08, len(t))
    warmth = np.cos(t / 50) + rng.normal(0, 0.05, len(t))
    return torch.tensor(np.stack([load, warmth], 1), dtype=torch.float32)


class Windows(IterableDataset):
    def __init__(self, start, stop, step=2, shuffle=True):
        self.start, self.stop, self.step, self.shuffle = start, stop, step, shuffle

    def places(self):
        places = torch.arange(self.start, self.stop - PAST - FUTURE, self.step)
        if self.shuffle:
            places = places[torch.randperm(len(places))]
        worker = get_worker_info()
        return places if worker is None else places[worker.id :: worker.num_workers]

    def __iter__(self):
        data = series()
        for p in self.places().tolist():
            yield data[p : p + PAST], data[p + PAST : p + PAST + FUTURE, 0]


class Forecaster(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.gru = nn.GRU(2, width, batch_first=True)
        self.out = nn.Linear(width, FUTURE)

    def forward(self, x):
        return self.out(self.gru(x)[0][:, -1])


def make(model=None, train=None, val=None, loss=None, optimizer=None, batch=32, workers=0, **rest):
    model = model if model is not None else Forecaster()
    return Pipeline(
        model=model,
        train=DataLoader(train or Windows(0, 5000), batch_size=batch, num_workers=workers),
        val=DataLoader(val or Windows(5000, 6000, shuffle=False), batch_size=64),
        loss=loss or nn.MSELoss(),
        optimizer=optimizer(model) if optimizer else torch.optim.Adam(model.parameters(), lr=4e-3),
        epochs=4,
        **rest,
    )


def base():
    return make()


# faults


def every_worker_reads_it_all():
    class Whole(Windows):
        def places(self):
            return torch.arange(self.start, self.stop - PAST - FUTURE, self.step)

    return make(train=Whole(0, 5000), workers=2)


def reads_the_answer():
    class Overlapping(Windows):
        def __iter__(self):
            data = series()
            for p in self.places().tolist():
                yield data[p : p + PAST], data[p + PAST - FUTURE : p + PAST, 0]

    return make(train=Overlapping(0, 5000), val=Overlapping(5000, 6000, shuffle=False))


def first_window_again_and_again():
    class Stuck(Windows):
        def __iter__(self):
            data = series()
            for _ in self.places().tolist():
                yield data[:PAST], data[PAST : PAST + FUTURE, 0]

    return make(train=Stuck(0, 5000))


def target_has_a_column_too_many():
    class Column(Windows):
        def __iter__(self):
            for x, y in super().__iter__():
                yield x, y.unsqueeze(-1)

    return make(train=Column(0, 5000), val=Column(5000, 6000, shuffle=False))


def second_sensor_is_dead():
    class Model(Forecaster):
        def forward(self, x):
            return super().forward(torch.stack([x[..., 0], x[..., 0] * 0], -1))

    return make(Model())


def state_kept_between_batches():
    class Model(Forecaster):
        def __init__(self):
            super().__init__()
            self.state = None

        def forward(self, x):
            h, state = self.gru(x, self.state if self.state is not None and self.state.shape[1] == len(x) else None)
            self.state = state.detach()
            return self.out(h[:, -1])

    return make(Model())


def batch_taken_for_time():
    model = Forecaster()
    model.gru.batch_first = False
    return make(model)


def constant_hours():
    class Frozen(Windows):
        def __iter__(self):
            for x, y in super().__iter__():
                yield torch.full_like(x, float(int(x.mean()) // 100)), y

    return make(train=Frozen(0, 5000), val=Frozen(5000, 6000, shuffle=False))


# healthy


def endless():
    class Endless(Windows):
        def __iter__(self):
            while True:
                yield from super().__iter__()

    return make(train=Endless(0, 5000))


def two_workers_share():
    return make(workers=2)


def batches_of_the_users_own():
    class Batches:
        """Not a DataLoader: something that yields batches whenever it is iterated."""

        def __iter__(self):
            items = list(Windows(0, 5000))
            for i in range(0, len(items), 32):
                x, y = zip(*items[i : i + 32], strict=True)
                yield torch.stack(x), torch.stack(y)

    pipeline = make()
    pipeline.train = Batches()
    return pipeline


def quantiles():
    def pinball(out, y):
        return torch.max(0.9 * (y - out), -0.1 * (y - out)).mean()

    return make(loss=pinball)


CASES = cases(
    base,
    {
        every_worker_reads_it_all: "iterable-dataset-not-sharded",
        reads_the_answer: "target-leaked-into-input",
        first_window_again_and_again: ("repeated-samples", "constant-inputs"),
        target_has_a_column_too_many: ("output-shape-mismatch", "target-broadcast"),
        second_sensor_is_dead: "ignored-input",
        state_kept_between_batches: "nondeterministic-eval",
        batch_taken_for_time: "batch-mixing",
        constant_hours: "constant-inputs",
    },
    (endless, two_workers_share, batches_of_the_users_own, quantiles),
    structural=(
        every_worker_reads_it_all,
        reads_the_answer,
    ),
)
