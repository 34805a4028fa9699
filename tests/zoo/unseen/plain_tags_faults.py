"""Faults of ``plain_tags`` and what looks like them, each the plainest change of its source."""

from __future__ import annotations

from zoo.cases import Case, edited
from zoo.unseen import plain_tags as program

HEAD = "        return self.head(h)\n"
BCE = "criterion = nn.BCEWithLogitsLoss()"
SCORES = "    Y = (score"

CASES = (
    Case("plain_tags", "", program.build),
    edited(program, "bce-on-probabilities", (HEAD, "        return torch.sigmoid(self.head(h))\n"), structural=True),
    edited(program, "bce-on-probabilities", (BCE, "criterion = nn.BCELoss()"), variant="logits_into_bce"),
    edited(program, "softmax-before-cross-entropy", (HEAD, "        return torch.softmax(self.head(h), dim=1)\n"), also=("bce-on-probabilities", "activation-on-logits"), variant="softmax_for_tags"),
    edited(program, "activation-on-logits", (HEAD, "        return torch.relu(self.head(h))\n")),
    edited(program, "label-dtype-mismatch", (".astype(np.float32)\n    return X, Y", ".astype(np.int64)\n    return X, Y")),
    edited(program, "target-outside-loss-domain", ("    return X, Y\n", "    return X, Y * 100\n")),
    edited(program, "labels-unrelated-to-inputs", ("    return X, Y\n", "    return X, rng.permutation(Y)\n")),
    edited(program, "constant-labels", ("    return X, Y\n", "    return X, np.zeros_like(Y)\n")),
    edited(program, "output-shape-mismatch", ("nn.Linear(64, len(TAGS))", "nn.Linear(64, 4)"), also=("num-classes-mismatch",)),
    edited(program, "forward-shape-mismatch", ("nn.Linear(20, 64)", "nn.Linear(10, 64)")),
    edited(program, "nonfinite-inputs", ("    return X, Y\n", "    X[rng.random(X.shape) < 0.01] = np.nan\n    return X, Y\n")),
    edited(program, "batchnorm-on-single-sample", ("X[:1200], Y[:1200]", "X[:1185], Y[:1185]")),
    edited(program, "loss-detached", ("return criterion(output, batch[\"labels\"]), output", "return criterion(output, batch[\"labels\"]).detach(), output"), structural=True),
    edited(program, "loss-detached", ("criterion(output, batch", "criterion((output > 0).float(), batch"), variant="thresholded", structural=True, also=("graph-cut",)),
    edited(program, "regulariser-dominates", ("criterion(output, batch[\"labels\"])", "criterion(output, batch[\"labels\"]) + sum(p.norm() for p in model.parameters())")),
    edited(program, "dead-relu", ("torch.relu(self.fc2(h))", "torch.relu(self.fc2(h) - 20)")),
    edited(program, "unregistered-modules", ("self.fc2 = nn.Linear(64, 64)", "self.fc2 = {\"hidden\": nn.Linear(64, 64)}"), ("self.fc2(h)", "self.fc2[\"hidden\"](h)"), structural=True),
    edited(program, "batchnorm-statistics-lag", ("nn.BatchNorm1d(64)", "nn.BatchNorm1d(64, momentum=1e-4)")),
    edited(program, "label-map-differs-in-validation", ("Clips(X[1200:], Y[1200:])", "Clips(X[1200:], Y[1200:, ::-1].copy())")),
    edited(program, "class-imbalance", (" > 1.5)", " > 16)"), structural=True),
    # healthy
    edited(program, "", (HEAD, "        return torch.sigmoid(self.head(h))\n"), (BCE, "criterion = nn.BCELoss()"), variant="sigmoid_bceloss"),
    edited(program, "", (" > 1.5)", " > 6)"), (BCE, "criterion = nn.BCEWithLogitsLoss(pos_weight=torch.full((5,), 4.0))"), variant="rare_tags"),
    edited(program, "", ("        self.head = nn.Linear(64, len(TAGS))\n", "        self.head = nn.Linear(64, len(TAGS))\n        nn.init.constant_(self.head.bias, -4.6)\n"), variant="prior_bias"),
)  # fmt: skip
