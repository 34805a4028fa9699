"""The Lightning callback, and a LightningModule as a pipeline, with the real package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import diagnose
from diagnose.errors import UsageError
from probes.results import Verdict

pl = pytest.importorskip("lightning.pytorch")
pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own, about workers and loggers


def _data() -> tuple[DataLoader[Any], DataLoader[Any]]:
    x = torch.randn(160, 6, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    return (
        DataLoader(TensorDataset(x[:120], y[:120]), batch_size=12, shuffle=True),
        DataLoader(TensorDataset(x[120:], y[120:]), batch_size=20),
    )


class Data(pl.LightningDataModule):  # type: ignore[misc, name-defined]
    def train_dataloader(self) -> Any:
        return _data()[0]

    def val_dataloader(self) -> Any:
        return _data()[1]


class Module(pl.LightningModule):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2))

    def forward(self, x: Any) -> Any:
        return self.net(x)

    def training_step(self, batch: Any, index: int) -> Any:
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class Manual(Module):
    """Its own steps, without clearing the gradients."""

    automatic_optimization = False

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, index: int) -> None:
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.manual_backward(loss)
        self.optimizers().step()


def fit(module: Any, folder: Path) -> Any:
    from diagnose.adapters.lightning import DiagnoseCallback

    callback = DiagnoseCallback()
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[callback], default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(module, datamodule=Data())
    return callback.report


def test_a_healthy_fit_raises_no_alarm(tmp_path: Path) -> None:
    report = fit(Module(), tmp_path)
    assert report.verdict is Verdict.HEALTHY, repr(report)
    assert [f for f in report.findings if f.severity != "note"] == []


def test_manual_steps_are_watched(tmp_path: Path) -> None:
    report = fit(Manual(), tmp_path)
    assert report.diagnosis.causes[0].name == "gradients-not-cleared"


def test_a_module_with_its_data_is_a_pipeline() -> None:
    from diagnose.adapters.lightning import pipeline

    report = diagnose.check(lambda: pipeline(Module(), Data()), stages=["smoke"])
    assert report.verdict is Verdict.HEALTHY, repr(report)


def test_manual_optimisation_is_no_pipeline() -> None:
    from diagnose.adapters.lightning import pipeline

    with pytest.raises(UsageError, match="manual optimisation"):
        pipeline(Manual(), Data())
