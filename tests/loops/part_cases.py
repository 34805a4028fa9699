# ruff: noqa: E501  (changes stand as they stand in the scripts)
"""Faults of data, model, loss and optimizer, and trainings that go wrong, in the scripts of ``programs``.

``FIRST_LOOK`` was written before any probe had been run on a captured step; its figures are told apart.
"""

from __future__ import annotations

from .case import make as _case

FIRST_LOOK = (
    _case("notebook_like", "softmax-before-cross-entropy", "return self.fc2(x)", "return F.softmax(self.fc2(x), dim=1)"),
    _case("notebook_like", "batch-mixing", "x = torch.flatten(x, 1)", "x = x.permute(1, 0, 2, 3).reshape(-1, 64)"),
    _case("notebook_like", "activation-on-logits", "return self.fc2(x)", "return F.relu(self.fc2(x))"),
    _case("notebook_like", "graph-cut", "x = torch.flatten(x, 1)", "x = torch.flatten(x, 1).detach()"),
    _case("main_guard", "target-broadcast", "return self.out(x).squeeze(-1)", "return self.out(x)"),
    _case("main_guard", "missing-nonlinearity", "x = torch.relu(self.hidden(x))\n        x = torch.relu(self.inner(x))",
          "x = self.hidden(x)\n        x = self.inner(x)"),
    _case("main_guard", "nonfinite-training", "default=3e-3", "default=3e9", accepted=("diverging", "learning-rate-too-high")),
    _case("tagger", "wrong-loss-axis", "scores.permute(0, 2, 1), tags", "scores.reshape(len(words), TAGS, -1), tags"),
    _case("character_model", "future-leak", "weights.masked_fill(~self.mask[:t, :t], float(\"-inf\"))", "weights"),
    _case("labels_of_many", "bce-on-probabilities", "return self.head(x)", "return self.head(x).sigmoid()"),
    _case("by_hand", "nondeterministic-eval", "0.3, training=self.training", "0.3"),
    _case("trainer_class", "softmax-before-cross-entropy", "nn.Linear(288, 10)", "nn.Linear(288, 10), nn.Softmax(dim=1)"),
)  # fmt: skip

PART_CASES = (
    *FIRST_LOOK,
)  # fmt: skip
