"""Faults of ``plain_cancer`` and what looks like them, each the plainest change of its source."""

from __future__ import annotations

from zoo.cases import Case, edited
from zoo.unseen import plain_cancer as program

LAST = "            nn.Linear(16, 1),\n"
DATA = "    X, y = load_breast_cancer(return_X_y=True)\n"
SCALED = "    X_train = scaler.fit_transform(X_train)\n    X_val = scaler.transform(X_val)\n"
SPLIT = "    X_train, X_val, y_train, y_val = train_test_split(X, y, test_size=0.2, random_state=42)\n"

CASES = (
    Case("plain_cancer", "", program.build),
    edited(program, "features-on-wild-scales", (SCALED, "")),
    edited(program, "features-on-wild-scales", (SCALED, ""), ("torch.optim.Adam(model.parameters(), lr=1e-3)", "torch.optim.SGD(model.parameters(), lr=1e-4)"), variant="sgd"),
    edited(program, "train-val-preprocessing-mismatch", ("    X_val = scaler.transform(X_val)\n", "")),
    edited(program, "nonfinite-inputs", (DATA, DATA + "    X[11, 3] = float(\"nan\")\n")),
    edited(program, "nonfinite-inputs", (SCALED, SCALED + "    X_train, X_val = X_train / X_train.min(axis=0).clip(0), X_val / X_train.min(axis=0).clip(0)\n"), variant="divided_by_zero"),
    edited(program, "input-dtype-mismatch", ("X_train = torch.tensor(X_train, dtype=torch.float32)", "X_train = torch.tensor(X_train)"), ("X_val = torch.tensor(X_val, dtype=torch.float32)", "X_val = torch.tensor(X_val)")),
    edited(program, "target-leaked-into-input", (SPLIT, "    import numpy as np\n    X = np.column_stack([X, y])\n" + SPLIT), structural=True),
    edited(program, "labels-unrelated-to-inputs", (SPLIT, "    import numpy as np\n    np.random.shuffle(X)\n" + SPLIT)),
    edited(program, "noisy-labels", (SPLIT, "    import numpy as np\n    y = np.where(np.random.rand(len(y)) < 0.3, 1 - y, y)\n" + SPLIT)),
    edited(program, "class-imbalance", (SPLIT, "    import numpy as np\n    keep = np.concatenate([np.flatnonzero(y == 1), np.flatnonzero(y == 0)[:12]])\n    X, y = X[keep], y[keep]\n" + SPLIT.replace("random_state=42", "random_state=42, stratify=y")), structural=True),
    edited(program, "constant-labels", (SPLIT, "    y[:] = 1\n" + SPLIT)),
    edited(program, "train-val-leakage", (SPLIT, "    X_train, y_train = X, y\n" + "    _, X_val, _, y_val = train_test_split(X, y, test_size=0.2, random_state=42)\n"), structural=True),
    edited(program, "label-map-differs-in-validation", ("    y_val = torch.tensor(y_val,", "    y_val = torch.tensor(1 - y_val,")),
    edited(program, "target-outside-loss-domain", (DATA, DATA + "    y = 2 * y - 1\n")),
    edited(program, "target-outside-loss-domain", (DATA, DATA + "    y = y + 1\n"), variant="one_and_two"),
    edited(program, "label-dtype-mismatch", ("y_train = torch.tensor(y_train, dtype=torch.float32)", "y_train = torch.tensor(y_train)"), ("y_val = torch.tensor(y_val, dtype=torch.float32)", "y_val = torch.tensor(y_val)")),
    edited(program, "output-shape-mismatch", ("nn.BCEWithLogitsLoss()", "nn.CrossEntropyLoss()")),
    edited(program, "output-shape-mismatch", (".unsqueeze(1)", ""), variant="target_without_column", also=("target-broadcast",)),
    edited(program, "bce-on-probabilities", (LAST, LAST + "            nn.Sigmoid(),\n")),
    edited(program, "bce-on-probabilities", ("nn.BCEWithLogitsLoss()", "nn.BCELoss()"), variant="logits_into_bce"),
    edited(program, "activation-on-logits", (LAST, LAST + "            nn.ReLU(),\n")),
    edited(program, "softmax-over-batch", (LAST, LAST + "            nn.Softmax(dim=0),\n"), ("nn.BCEWithLogitsLoss()", "nn.BCELoss()")),
    edited(program, "missing-nonlinearity", ("            nn.ReLU(),\n", ""), structural=True),
    edited(program, "saturated-activations", ("nn.ReLU()", "nn.Tanh()"), (SCALED, "")),
    edited(program, "inputs-not-normalised", (SCALED, "    X_train, X_val = X_train * 100, X_val * 100\n"), also=("features-on-wild-scales",)),
    edited(program, "symmetric-initialisation", ("    def forward(self, x):", "        for layer in self.layers:\n            if isinstance(layer, nn.Linear):\n                nn.init.zeros_(layer.weight)\n                nn.init.zeros_(layer.bias)\n\n    def forward(self, x):")),
    edited(program, "unstable-log", (LAST, LAST + "            nn.Sigmoid(),\n"), ("nn.BCEWithLogitsLoss()", "lambda p, y: -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()"), structural=True),
    edited(program, "loss-sign-flipped", (LAST, LAST + "            nn.Sigmoid(),\n"), ("nn.BCEWithLogitsLoss()", "lambda p, y: (y * torch.log(p + 1e-7) + (1 - y) * torch.log(1 - p + 1e-7)).mean()")),
    edited(program, "adam-epsilon-out-of-range", ("lr=1e-3", "lr=1e-3, eps=1.0")),
    edited(program, "fp16-overflow", ("    model = MLP(X_train.shape[1])\n", "    model = MLP(X_train.shape[1]).half()\n"), (SCALED, ""), ("X_train = torch.tensor(X_train, dtype=torch.float32)", "X_train = torch.tensor(X_train * 100, dtype=torch.float16)"), ("X_val = torch.tensor(X_val, dtype=torch.float32)", "X_val = torch.tensor(X_val * 100, dtype=torch.float16)"), ("y_train, dtype=torch.float32", "y_train, dtype=torch.float16"), ("y_val, dtype=torch.float32", "y_val, dtype=torch.float16"), also=("nonfinite-inputs",)),
    # healthy
    edited(program, "", (LAST, LAST + "            nn.Sigmoid(),\n"), ("nn.BCEWithLogitsLoss()", "nn.BCELoss()"), variant="sigmoid_bceloss"),
    edited(program, "", ("nn.Linear(16, 1)", "nn.Linear(16, 2)"), ("nn.BCEWithLogitsLoss()", "nn.CrossEntropyLoss()"), ("dtype=torch.float32).unsqueeze(1)", "dtype=torch.long)"), variant="two_logits"),
    edited(program, "", ("nn.BCEWithLogitsLoss()", "nn.BCEWithLogitsLoss(pos_weight=torch.tensor(0.6))"), variant="pos_weight"),
    edited(program, "", ("return self.layers(x)", "return self.layers(x).squeeze(1)"), (".unsqueeze(1)", ""), variant="vector_of_logits"),
    edited(program, "", ("        epochs=20,\n", "        epochs=20,\n        clip_grad_norm=1e-3,\n"), variant="adam_tiny_clip"),
    edited(program, "", (SPLIT, "    import numpy as np\n    keep = np.concatenate([np.flatnonzero(y == 1), np.flatnonzero(y == 0)[:70]])\n    X, y = X[keep], y[keep]\n" + SPLIT), variant="imbalanced_learnable"),
)  # fmt: skip
