"""A user's own ``probes`` and ``reports`` win for the user's imports, in spawned loader workers too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

USER_DATA = """
import torch
from torch.utils.data import DataLoader, Dataset
import probes                     # the user's own module
from reports.tables import TABLE  # and package

class Data(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        import probes, reports.tables  # in the worker
        return torch.tensor([probes.VALUE, reports.tables.TABLE])

def get_loaders():
    return DataLoader(Data(), batch_size=2, num_workers=1, multiprocessing_context="spawn"), None
"""

WORKER = """
from diagnose.worker.isolation import hide_own_packages, import_user_paths, own_packages_first

own_packages_first()
import probes.results
import diagnose.target.source, diagnose.config

def main():
    import sys
    from pathlib import Path
    hide_own_packages()
    import_user_paths(sys.argv[1])
    import user_data
    print("user", user_data.probes.VALUE, user_data.TABLE)
    train, _ = user_data.get_loaders()
    print("loader", [batch.tolist() for batch in train])
    source = diagnose.target.source.load_source(
        diagnose.config.Config(target="user_model:get_model", data="user_data:get_loaders", task="regression"),
        Path(sys.argv[1]),
    )
    pipeline = source.build(0)
    where = source.created_at(pipeline.model)
    print("ours", type(where).__module__, where.file, where.line, where.text)
    glyphs = diagnose.target.source.Source.__init__.__globals__["flagged_parts"].__globals__["builtin_loaders"](
        "glyphs-200:8:4", batch_size=4, num_workers=1
    )
    glyphs["train"].multiprocessing_context = "spawn"
    print("glyphs", [tuple(images.shape) for images, _ in glyphs["train"]])

main()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "probes.py").write_text("VALUE = 11\n")
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "tables.py").write_text("TABLE = 22\n")
    (tmp_path / "user_data.py").write_text(USER_DATA)
    (tmp_path / "user_model.py").write_text("from torch import nn\n\ndef get_model():\n    return nn.Linear(2, 1)\n")
    return tmp_path


def test_the_users_modules_win_and_ours_go_on_working(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    worker = tmp_path_factory.mktemp("ours") / "worker.py"
    worker.write_text(WORKER)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(worker), str(project)],
        capture_output=True,
        text=True,
        cwd=project,
        timeout=120,
        check=False,
        env=_environment(),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "user 11 22",
        "loader [[[11, 22], [11, 22]], [[11, 22], [11, 22]]]",
        "ours probes.results user_model.py 4 return nn.Linear(2, 1)",
        "glyphs [(4, 3, 8, 8)]",
    ]


def test_python_m_finds_our_packages_in_such_a_folder(project: Path) -> None:
    """``python -m`` puts the current folder first, where the user's ``probes`` lies in wait."""
    code = (
        "import sys; sys.path.insert(0, '');"
        "from diagnose.worker.isolation import own_packages_first, hide_own_packages\n"
        "own_packages_first(); import probes.results\n"
        "hide_own_packages(); import probes; print(probes.VALUE)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=project, check=False, env=_environment()
    )
    assert done.stdout.strip() == "11", done.stderr


@pytest.mark.parametrize("module", ["diagnose", "diagnose.pipeline", "diagnose.batches", "diagnose.datasets"])
def test_what_loader_workers_import_needs_none_of_the_clashing_packages(module: str) -> None:
    code = (
        f"import sys, {module}; from diagnose import Pipeline\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in ('probes', 'reports')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment())
    assert done.stdout.strip() == "[]"


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent), "OMP_NUM_THREADS": "1"}
