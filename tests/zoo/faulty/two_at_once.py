"""Two faults of learning at once: neither repair helps without the other, and both names are right."""

from __future__ import annotations

from zoo.cases import Case, faulty
from zoo.faulty.digits_plain_more import adam
from zoo.faulty.tabular_more import HeavyDropout, adamw
from zoo.programs import digits_batchnorm, digits_plain, tabular

CASES: tuple[Case, ...] = (
    faulty(
        digits_batchnorm.build, "dropout-too-strong", variant="and-rate-too-low", also=("learning-rate-too-low",),
        config={"dropout": 0.97, "lr": 1e-6},
    ),
    faulty(
        digits_plain.build, "weight-decay-too-strong", variant="and-rate-too-low", also=("learning-rate-too-low",),
        optimizer=adam(lr=1e-7, weight_decay=5.0),
    ),
    faulty(
        tabular.build, "dropout-too-strong", variant="and-decay", also=("weight-decay-too-strong",),
        model=HeavyDropout, optimizer=adamw(weight_decay=100.0),
    ),
)  # fmt: skip
