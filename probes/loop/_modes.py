"""Steps in eval mode under one loader only: the phases were mixed up, not the modes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probes.records.loop import StepLook


def is_one_loader(looks: Sequence[StepLook]) -> bool:
    """Whether all steps in eval mode are under one loader, and those under another are all in train mode."""
    asleep = {look.loader for look in looks if look.asleep}
    awake = {look.loader for look in looks if not look.asleep}
    return len(asleep) == 1 and bool(awake) and not asleep & awake and -1 not in asleep | awake
