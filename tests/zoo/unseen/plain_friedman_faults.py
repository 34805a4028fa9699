"""Faults of ``plain_friedman`` and what looks like them, each the plainest change of its source."""

from __future__ import annotations

from zoo.cases import Case, edited
from zoo.unseen import plain_friedman as program

X_SCALED = "    X = (X - X.mean(axis=0)) / X.std(axis=0)\n"
Y_SCALED = "    y = (y - y.mean()) / y.std()\n"
RELU, LAST = "            nn.ReLU(),\n", "            nn.Linear(64, 1),\n"
FORWARD = "return self.net(x).squeeze(1)"
LOSS = "criterion = nn.MSELoss()"
ADAM = "torch.optim.Adam(model.parameters(), lr=1e-3)"

CASES = (
    Case("plain_friedman", "", program.build),
    edited(program, "unscaled-regression-target", (Y_SCALED, "    y = y * 1000\n")),
    edited(program, "unscaled-regression-target", (Y_SCALED, "    y = 50000 + 10000 * y\n"), (ADAM, "torch.optim.SGD(model.parameters(), lr=1e-3)"), variant="sgd"),
    edited(program, "target-broadcast", (FORWARD, "return self.net(x)")),
    edited(program, "target-broadcast", ("y = torch.tensor(y, dtype=torch.float32)", "y = torch.tensor(y, dtype=torch.float32).unsqueeze(1)"), variant="column_target"),
    edited(program, "output-shape-mismatch", ("nn.Linear(64, 1)", "nn.Linear(64, 3)"), (FORWARD, "return self.net(x)")),
    edited(program, "input-dtype-mismatch", ("X = torch.tensor(X, dtype=torch.float32)", "X = torch.from_numpy(X)")),
    edited(program, "", ("y = torch.tensor(y, dtype=torch.float32)", "y = torch.from_numpy(y)"), variant="target_of_doubles"),
    edited(program, "nonfinite-inputs", (X_SCALED, "    X[:, 9] = 0.5\n" + X_SCALED)),
    edited(program, "constant-inputs", (X_SCALED, "    X[:] = X.mean(axis=0)\n"), also=("repeated-samples",)),
    edited(program, "inputs-not-normalised", (X_SCALED, "    X = X * 255\n"), (ADAM, "torch.optim.SGD(model.parameters(), lr=1e-2)")),
    edited(program, "labels-unrelated-to-inputs", (Y_SCALED, Y_SCALED + "    y = y[torch.randperm(len(y)).numpy()]\n")),
    edited(program, "target-leaked-into-input", (Y_SCALED, Y_SCALED + "    X[:, 9] = y\n"), structural=True),
    edited(program, "constant-labels", (Y_SCALED, "    y = y * 0 + 1\n")),
    edited(program, "train-val-leakage", ("DataLoader(val_set, batch_size=50)", "DataLoader(dataset, batch_size=50)"), structural=True),
    edited(program, "missing-nonlinearity", (RELU, "")),
    edited(program, "activation-on-logits", (LAST, LAST + RELU)),
    edited(program, "batch-mixing", (FORWARD, "return self.net(x.reshape(10, -1).T).squeeze(1)")),
    edited(program, "saturated-activations", ("nn.ReLU()", "nn.Sigmoid()"), (X_SCALED, "    X = X * 1000\n")),
    edited(program, "exploding-initialisation", ("    def forward(self, x):", "        for layer in self.net:\n            if isinstance(layer, nn.Linear):\n                nn.init.normal_(layer.weight, std=1.0)\n\n    def forward(self, x):")),
    edited(program, "vanishing-gradient", (LAST, "            nn.Sigmoid(),\n" + "            nn.Linear(64, 64),\n            nn.Sigmoid(),\n" * 10 + LAST), also=("vanishing-initialisation",)),
    edited(program, "wrong-custom-backward", ("class Regressor", "class Square(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, x):\n        ctx.save_for_backward(x)\n        return x * x\n\n    @staticmethod\n    def backward(ctx, grad):\n        (x,) = ctx.saved_tensors\n        return grad * x\n\n\nclass Regressor"), (FORWARD, "return self.net[-1](Square.apply(self.net[:-1](x))).squeeze(1)"), structural=True),
    edited(program, "loss-detached", (LOSS, "criterion = lambda output, y: torch.tensor(((output.detach().numpy() - y.numpy()) ** 2).mean())"), structural=True),
    edited(program, "nonfinite-loss", (LOSS, "criterion = lambda output, y: (torch.log(output) - y).pow(2).mean()")),
    edited(program, "nonfinite-loss", (LOSS, "criterion = lambda output, y: ((output - y).abs() / (y * 0)).mean()"), variant="divided_by_zero"),
    edited(program, "nonfinite-activations", (FORWARD, "return self.net(torch.log(x)).squeeze(1)")),
    edited(program, "nonfinite-gradient", (FORWARD, "x = self.net[0](x)\n        x = x * (x > 0)\n        return self.net[2:](torch.sqrt(x)).squeeze(1)")),
    edited(program, "unstable-log", (LOSS, "criterion = lambda output, y: torch.sqrt((output - y) ** 2).mean()"), also=("nonfinite-gradient",), structural=True),
    edited(program, "loss-sign-flipped", (LOSS, "criterion = lambda output, y: -nn.functional.mse_loss(output, y)")),
    edited(program, "loss-summed", (LOSS, "criterion = nn.MSELoss(reduction=\"sum\")"), (ADAM, "torch.optim.SGD(model.parameters(), lr=1e-2)")),
    edited(program, "graph-cut", (FORWARD, "x = self.net[:2](x)\n        return self.net[2:](x.data).squeeze(1)"), structural=True),
    edited(program, "bf16-update-lost", (FORWARD, "return self.net(x.bfloat16()).squeeze(1).float()"), ("    model = Regressor()\n", "    model = Regressor().to(torch.bfloat16)\n"), (ADAM, "torch.optim.SGD(model.parameters(), lr=1e-4)")),
    edited(program, "fp16-underflow", (FORWARD, "return self.net(x.half()).squeeze(1).float()"), ("    model = Regressor()\n", "    model = Regressor().half()\n"), (LOSS, "criterion = lambda output, y: 1e-7 * nn.functional.mse_loss(output, y)")),
    edited(program, "stale-optimizer-parameters", ("    return Pipeline(", "    import copy\n\n    model = copy.deepcopy(model)\n    return Pipeline("), structural=True, also=("optimizer-reused-across-models",)),
    edited(program, "parameters-missing-from-optimizer", ("Adam(model.parameters()", "Adam(model.net[-1].parameters()"), structural=True),
    edited(program, "iterable-dataset-not-sharded", ("class Regressor", "class Rows(torch.utils.data.IterableDataset):\n    def __init__(self, rows):\n        self.rows = rows\n\n    def __iter__(self):\n        return iter(self.rows)\n\n\nclass Regressor"), ("DataLoader(train_set, batch_size=32, shuffle=True)", "DataLoader(Rows(train_set), batch_size=32, num_workers=2)"), structural=True),
    edited(program, "target-outside-loss-domain", (LOSS, "criterion = nn.PoissonNLLLoss()"), structural=True),
    edited(program, "user-code-error", ("self.net(x)", "self.network(x)"), variant="misspelt_attribute"),
    # healthy
    edited(program, "", (Y_SCALED, ""), variant="target_as_it_is"),
    edited(program, "", (X_SCALED, ""), variant="unit_interval"),
    edited(program, "", (LOSS, "criterion = nn.SmoothL1Loss()"), variant="smooth_l1"),
    edited(program, "", (LOSS, "criterion = nn.MSELoss(reduction=\"sum\")"), variant="summed_under_adam"),
    edited(program, "", ("class Regressor", "class Rows(torch.utils.data.IterableDataset):\n    def __init__(self, rows):\n        self.rows = rows\n\n    def __iter__(self):\n        return iter([self.rows[i] for i in torch.randperm(len(self.rows)).tolist()])\n\n\nclass Regressor"), ("DataLoader(train_set, batch_size=32, shuffle=True)", "DataLoader(Rows(train_set), batch_size=32)"), variant="iterable"),
    edited(program, "", (LAST, "            nn.Tanh(),\n" + LAST), ("            nn.ReLU(),\n", "            nn.LayerNorm(64),\n            nn.GELU(),\n"), variant="layernorm_gelu"),
)  # fmt: skip
