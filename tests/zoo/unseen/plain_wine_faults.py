"""Faults of ``plain_wine`` and what looks like them, each the plainest change of its source."""

from __future__ import annotations

from zoo.cases import Case, edited
from zoo.unseen import plain_wine as program

ORDER = "    order = np.random.RandomState(0).permutation(len(X))\n    X, y = X[order], y[order]\n"
SCALED = "    X_train = (X_train - mean) / std\n    X_val = (X_val - mean) / std\n"
ZERO, CLIP, STEP = (
    "    optimizer.zero_grad()\n",
    "    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n",
    "    optimizer.step()\n",
)
LOSS = "    loss = F.cross_entropy(output, y)\n"

CASES = (
    Case("plain_wine", "", program.build),
    edited(program, "missing-classes", (ORDER, "")),
    edited(program, "unshuffled-training-data", ("    X_train, X_val = X[:138], X[138:]\n    y_train, y_val = y[:138], y[138:]\n", "    X_train, X_val = X[:138], X[138:]\n    y_train, y_val = y[:138], y[138:]\n    order = np.argsort(y_train)\n    X_train, y_train = X_train[order], y_train[order]\n"), ("shuffle=True", "shuffle=False")),
    edited(program, "features-on-wild-scales", (SCALED, ""), also=("inputs-not-normalised",)),
    edited(program, "train-val-preprocessing-mismatch", ("    X_val = (X_val - mean) / std\n", "")),
    edited(program, "target-leaked-into-input", ("    X_train, X_val = X[:138]", "    X = np.column_stack([X[:, :12], y])\n    X_train, X_val = X[:138]"), structural=True),
    edited(program, "labels-out-of-range", ("y_train, y_val = y[:138], y[138:]", "y_train, y_val = y[:138] + 1, y[138:] + 1"), also=("num-classes-mismatch",)),
    edited(program, "labels-unrelated-to-inputs", ("    mean, std =", "    np.random.shuffle(X_train)\n    mean, std =")),
    edited(program, "label-dtype-mismatch", ("torch.LongTensor(y_train)", "torch.FloatTensor(y_train)")),
    edited(program, "label-dtype-mismatch", ("torch.LongTensor(y_train)", "torch.IntTensor(y_train)"), variant="int32"),
    edited(program, "too-few-samples", ("X_train, X_val = X[:138]", "X_train, X_val = X[:9]"), ("y_train, y_val = y[:138]", "y_train, y_val = y[:9]"), structural=True),
    edited(program, "capacity-too-small", ("nn.Linear(64, 32)", "nn.Linear(64, 1)"), ("nn.Linear(32, 3)", "nn.Linear(1, 3)")),
    edited(program, "missing-nonlinearity", ("torch.relu(self.fc1(x))", "self.fc1(x)"), ("torch.relu(self.fc2(x))", "self.fc2(x)"), structural=True),
    edited(program, "zero-gradient", ("return self.fc3(x)", "return self.fc3(x * 0)")),
    edited(program, "zero-gradient", ("return self.fc3(x)", "return torch.round(self.fc3(x))"), variant="rounded"),
    edited(program, "activation-on-logits", ("return self.fc3(x)", "return torch.sigmoid(self.fc3(x))")),
    edited(program, "softmax-before-cross-entropy", ("return self.fc3(x)", "return torch.softmax(self.fc3(x), dim=1)")),
    edited(program, "symmetric-initialisation", ("        self.fc3 = nn.Linear(32, 3)\n", "        self.fc3 = nn.Linear(32, 3)\n        for layer in (self.fc1, self.fc2, self.fc3):\n            nn.init.constant_(layer.weight, 0.01)\n            nn.init.zeros_(layer.bias)\n")),
    edited(program, "exploding-initialisation", ("        self.fc3 = nn.Linear(32, 3)\n", "        self.fc3 = nn.Linear(32, 3)\n        for layer in (self.fc1, self.fc2, self.fc3):\n            nn.init.normal_(layer.weight)\n")),
    edited(program, "vanishing-initialisation", ("        self.fc3 = nn.Linear(32, 3)\n", "        self.fc3 = nn.Linear(32, 3)\n        for layer in (self.fc1, self.fc2, self.fc3):\n            nn.init.normal_(layer.weight, std=1e-4)\n")),
    edited(program, "loss-detached", (LOSS, LOSS + "    loss = torch.tensor(loss.item(), requires_grad=True)\n"), structural=True),
    edited(program, "loss-not-scalar", ("F.cross_entropy(output, y)", "F.cross_entropy(output, y, reduction=\"none\")"), also=("user-code-error",)),
    edited(program, "mse-for-classification", ("nn.Linear(32, 3)", "nn.Linear(32, 1)"), ("return self.fc3(x)", "return self.fc3(x).squeeze(1)"), ("F.cross_entropy(output, y)", "F.mse_loss(output, y.float())"), ("loss=nn.CrossEntropyLoss()", "loss=nn.MSELoss()"), structural=True),
    edited(program, "regulariser-dominates", (LOSS, LOSS + "    loss = loss + sum(p.abs().sum() for p in model.parameters())\n")),
    edited(program, "gradients-not-cleared", (ZERO, "")),
    edited(program, "gradients-cleared-before-step", (ZERO, ""), (CLIP, ZERO)),
    edited(program, "parameters-not-updated", (STEP, "")),
    edited(program, "clip-after-step", (CLIP + STEP, STEP + CLIP), structural=True),
    edited(program, "eval-mode-in-training", (ZERO, "    model.eval()\n" + ZERO), ("        self.fc2 =", "        self.dropout = nn.Dropout(0.2)\n        self.fc2 ="), ("self.fc2(x))", "self.fc2(self.dropout(x)))"), structural=True),
    edited(program, "user-code-error", ("output = model(x)", "output = model(x, y)"), variant="one_argument_too_many"),
    edited(program, "optimizer-reused-across-models", ("    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)\n", "    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)\n    model = Net()\n"), also=("stale-optimizer-parameters", "parameters-missing-from-optimizer", "parameters-not-updated"), structural=True),
    # healthy
    edited(program, "", ("lr=0.05", "lr=0.1"), variant="sgd_tenth"),
    edited(program, "", ("    return loss\n", "    return loss.item()\n"), variant="returns_a_number"),
    edited(program, "", ("    optimizer.zero_grad()\n", "    model.train()\n    optimizer.zero_grad(set_to_none=False)\n"), variant="zeroed_in_place"),
    edited(program, "", ("    x, y = batch\n", "    x, y = batch\n    lam = np.random.beta(0.2, 0.2)\n    other = torch.randperm(len(x))\n    x = lam * x + (1 - lam) * x[other]\n"), ("loss = F.cross_entropy(output, y)", "loss = lam * F.cross_entropy(output, y) + (1 - lam) * F.cross_entropy(output, y[other])"), variant="mixup"),
)  # fmt: skip
