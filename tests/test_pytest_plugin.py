"""The fixture ``diagnose`` in a test session of its own, as its users have it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

TESTS = """
import pytest, torch
from torch import nn
from diagnose import Pipeline

def pipeline(*last):
    torch.manual_seed(0)
    x = torch.randn(96, 6)
    y = (x[:, 0] > 0).long()
    batches = [(x[i:i + 16], y[i:i + 16]) for i in range(0, 64, 16)]
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2), *last)
    return Pipeline(model=model, train=batches, val=[(x[64:], y[64:])], loss=nn.CrossEntropyLoss(),
                    optimizer=torch.optim.Adam(model.parameters(), lr=1e-2))

def test_fine(diagnose):
    assert diagnose.smoke(pipeline)["verdict"] == "healthy"

def test_faulty(diagnose):
    diagnose.smoke(lambda: pipeline(nn.Softmax(dim=1)))

def test_script(diagnose):
    diagnose.watch("train.py", steps=12)
"""
SCRIPT = """
import torch
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
for _ in range(20):
    model(torch.randn(8, 4)).pow(2).mean().backward()
    optimizer.step()
"""


def test_failures_name_the_defect_its_figures_and_its_fix(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=TESTS, train=SCRIPT)
    done = pytester.runpytest_subprocess("-p", "no:xdist", "-p", "no:cacheprovider", "--junit-xml=out.xml")
    done.assert_outcomes(passed=1, failed=2)
    done.stdout.fnmatch_lines(
        [
            "*error: softmax-before-cross-entropy: *",
            "fix: Return the logits*",
            "*error: gradients-not-cleared: in * of * steps*",
            "*train.py:5  model(torch.randn(8, 4)).pow(2).mean().backward()",
        ]
    )
    xml = (Path(pytester.path) / "out.xml").read_text()
    assert 'name="diagnose" value="faulty"' in xml
    assert "report.md" in xml
