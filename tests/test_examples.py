"""The worked examples do what their first lines say: their commands run as they stand there."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest
from command_line import run
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


@pytest.mark.slow
def test_the_commands_of_the_third_run_as_they_stand(tmp_path: Path) -> None:
    (path,) = [path for path in EXAMPLES if path.name.startswith("03")]
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    done = [run(*arguments, cwd=tmp_path) for arguments in commands(path)]
    assert [one.code for one in done] == [0, 0]
    assert [row["epoch"] for row in done[-1].results["training"]["history"]] == [1, 2, 3, 4, 5, 6]
    assert any("Resumed" in text for text in done[-1].results["pipeline"]["warnings"])


@pytest.mark.parametrize("path", [path for path in EXAMPLES if path.name[:2] != "03"], ids=lambda path: path.name)
def test_the_pipelines_train_and_are_evaluated(path: Path, tmp_path: Path) -> None:
    """In this process, and shorter."""

    def get_pipeline() -> Any:
        return runpy.run_path(str(path))["get_pipeline"]()

    ctx = context(get_pipeline)
    rows = train(ctx, tmp_path, epochs=2)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert rows[-1]["val_accuracy"] > 0.4
    split = "test" if path.name.startswith("06") else "val"
    assert evaluate(ctx, tmp_path, split=split)["split"] == split
    assert augmentation_picture(ctx, tmp_path).startswith("Augmentation takes") is path.name.startswith("05")
