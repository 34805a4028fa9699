"""The Trainer callback of Hugging Face, with the real package and a model made here: nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from probes.results import Verdict

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytestmark = pytest.mark.filterwarnings("ignore")


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2))

    def forward(self, inputs: Any, labels: Any = None) -> dict[str, Any]:
        logits = self.net(inputs)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class Rows(torch.utils.data.Dataset[Any]):
    def __init__(self, size: int, seed: int) -> None:
        self.x = torch.randn(size, 6, generator=torch.Generator().manual_seed(seed))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"inputs": self.x[index], "labels": int(self.x[index, 0] > 0)}


def train(model: nn.Module, folder: Path) -> Any:
    from diagnose.adapters.transformers import DiagnoseCallback

    callback = DiagnoseCallback()
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), num_train_epochs=2, per_device_train_batch_size=10, gradient_accumulation_steps=2,
        eval_strategy="epoch", save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = transformers.Trainer(
        model=model, args=arguments, train_dataset=Rows(160, 0), eval_dataset=Rows(40, 1), callbacks=[callback]
    )
    trainer.train()
    return callback.report


def test_a_healthy_training_raises_no_alarm(tmp_path: Path) -> None:
    report = train(Model(), tmp_path)
    assert report.verdict is Verdict.HEALTHY, repr(report)
    assert [f for f in report.findings if f.severity != "note"] == []


def test_a_dropout_that_sleeps_is_found(tmp_path: Path) -> None:
    class Sleepy(Model):
        def train(self, mode: bool = True) -> Any:
            return super().train(False)

    report = train(Sleepy(), tmp_path)
    assert report.diagnosis.causes[0].name == "eval-mode-in-training"
