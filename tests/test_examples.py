"""The worked examples: their commands name what is there, and their pipelines train, go on and are evaluated."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest
from probing import context

from diagnose.training.evaluate import evaluate
from diagnose.training.loop import train
from diagnose.training.pictures import augmentation_picture

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
COMMAND = re.compile(r"^    diagnose (.+)$", re.MULTILINE)


def commands(path: Path) -> list[list[str]]:
    return [shlex.split(line) for line in COMMAND.findall(path.read_text(encoding="utf-8"))]


def test_each_adds_one_idea() -> None:
    assert [path.name[:2] for path in EXAMPLES] == ["01", "02", "03", "04", "05", "06"]
    for path in EXAMPLES:
        text = path.read_text(encoding="utf-8")
        assert "What it shows" in text
        assert re.search(r"What\s+to\s+look\s+at", text)
        assert commands(path)
        assert all(f"examples/{path.name}:get_pipeline" in arguments for arguments in commands(path))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_pipelines_train_and_are_evaluated(path: Path, tmp_path: Path) -> None:
    """In this process, and shorter."""

    def get_pipeline() -> Any:
        return runpy.run_path(str(path))["get_pipeline"]()

    ctx = context(get_pipeline)
    train(ctx, tmp_path, epochs=1)
    rows = train(ctx, tmp_path, epochs=2, resume=True)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert rows[-1]["val_accuracy"] > 0.4
    split = "test" if path.name.startswith("06") else "val"
    assert evaluate(ctx, tmp_path, split=split)["split"] == split
    assert augmentation_picture(ctx, tmp_path).startswith("Augmentation takes") is path.name.startswith("05")
