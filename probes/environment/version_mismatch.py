"""Packages that were not built for each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Stage
from probes.results import Grade

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="ENV907",
    name="version-mismatch",
    stage=Stage.DATA,
    grade=Grade.PROVED,
    summary="An installed companion of torch was built for another version of it.",
    why="torchvision and torchaudio call into torch's C++ code, which changes between versions: operators are missing, "
    "or the process dies.",
    fix="Install the versions that belong together: pip install torch torchvision from one index.",
    consequences=("user-code-error", "worker-crashed"),
    references=("pytorch.org: previous versions",),
)
COMPANIONS = ("torchvision", "torchaudio")


def run(ctx: Context) -> Findings:
    """What the companions' own metadata require, against what is installed."""
    from importlib import metadata

    from packaging.requirements import Requirement
    from packaging.version import Version

    torch = Version(metadata.version("torch"))
    told = [f"torch {torch}"]
    for name in COMPANIONS:
        try:
            installed = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        told.append(f"{name} {installed.version}")
        for line in installed.requires or ():
            needed = Requirement(line)
            if needed.name == "torch" and not needed.specifier.contains(torch.base_version, prereleases=True):
                yield DOC.finding(
                    "{name} {version} needs torch{needed}, installed is {torch}",
                    name=name,
                    version=installed.version,
                    needed=str(needed.specifier),
                    torch=str(torch),
                )
    return ", ".join(told)
