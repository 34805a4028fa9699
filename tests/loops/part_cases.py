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
    _case("quickstart", "softmax-before-cross-entropy", "pred = model(X)\n        loss = loss_fn(pred, y)\n        loss.backward()",
          "pred = model(X).softmax(dim=1)\n        loss = loss_fn(pred, y)\n        loss.backward()"),
    _case("quickstart", "missing-nonlinearity", "nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10)",
          "nn.Linear(64, 64), nn.Dropout(0.2), nn.Linear(64, 10)"),
    _case("quickstart", "loss-sign-flipped", "        loss.backward()\n", "        (-loss).backward()\n"),
    _case("trainer_class", "unregistered-modules", "    model = nn.Sequential(", "    class Net(nn.Module):\n"
          "        def __init__(self, *parts):\n            super().__init__()\n            self.parts, self.head = list(parts[:-1]), parts[-1]\n\n"
          "        def forward(self, x):\n            for part in self.parts:\n                x = part(x)\n            return self.head(x)\n\n    model = Net("),
    _case("segmentation", "softmax-over-batch", "cross_entropy(unet(image), mask)", "nll_loss(unet(image).log_softmax(0), mask)"),
    _case("segmentation", "mse-for-classification", "nn.Conv2d(12, 3, 1))", "nn.Conv2d(12, 1, 1))",
          "nn.functional.cross_entropy(unet(image), mask)", "nn.functional.mse_loss(unet(image)[:, 0], mask.float())",
          "logits.argmax(dim=1)", "logits[:, 0].round()"),
    _case("by_hand", "nll-on-probabilities", "return self.fc2(F.dropout(F.relu(self.fc1(x)), 0.3, training=self.training))",
          "return self.fc2(F.dropout(F.relu(self.fc1(x)), 0.3, training=self.training)).softmax(1)",
          "loss = F.cross_entropy(net(X_train[index]), Y_train[index])", "loss = F.nll_loss(net(X_train[index]), Y_train[index])"),
    _case("by_hand", "dead-relu", "        self.fc2 = nn.Linear(80, 10)\n",
          "        self.fc2 = nn.Linear(80, 10)\n        nn.init.constant_(self.fc1.bias, -8.0)\n"),
    _case("by_hand", "symmetric-initialisation", "        self.fc2 = nn.Linear(80, 10)\n",
          "        self.fc2 = nn.Linear(80, 10)\n        for layer in (self.fc1, self.fc2):\n            nn.init.constant_(layer.weight, 0.05)\n"),
    _case("by_hand", "constant-inputs", "torch.tensor(images, dtype=torch.float32) / 16", "torch.tensor(images // 17, dtype=torch.float32)"),
    _case("by_hand", "initial-loss-off", "        self.fc2 = nn.Linear(80, 10)\n",
          "        self.fc2 = nn.Linear(80, 10)\n        nn.init.normal_(self.fc2.weight, std=8.0)\n",
          accepted=("exploding-initialisation",)),
    _case("tagger", "layer-created-in-forward", "return self.head(out)", "return nn.Linear(64, TAGS)(out)",
          accepted=("nondeterministic-eval",)),
    _case("tagger", "batch-mixing", "self.lstm = nn.LSTM(24, 32, batch_first=True,", "self.lstm = nn.LSTM(24, 32,"),
    _case("tagger", "graph-cut", "out, _ = self.lstm(self.embedding(words))", "out, _ = self.lstm(self.embedding(words).data)"),
    _case("character_model", "misaligned-language-model-labels", "source[i + 1 : i + block_size + 1] for i in starts]", "source[i : i + block_size] for i in starts]"),
    _case("character_model", "batch-mixing", "(weights @ v).transpose(1, 2).reshape(b, t, c)", "(weights @ v).transpose(0, 2).reshape(b, t, c)",
          accepted=("future-leak",)),
    _case("labels_of_many", "loss-sign-flipped", "        loss.backward()\n", "        loss.neg().backward()\n"),
    _case("labels_of_many", "zero-gradient", "return self.head(x)", "return self.head(x * 0)", accepted=("ignored-input", "graph-cut")),
    _case("main_guard", "nonfinite-inputs", "features = (features - features.mean(0)) / features.std(0)",
          "features = (features - features.mean(0)) / (features - features).std(0)", accepted=("nonfinite-training",)),
    _case("multi_loader", "batch-mixing", "return self.heads[task](self.trunk(x))", "return self.heads[task](self.trunk(x - x.mean(0)))"),
    _case("half_precision", "softmax-before-cross-entropy", "nn.Linear(width * 16, 10),\n", "nn.Linear(width * 16, 10), nn.Softmax(-1),\n"),
    _case("compiled", "activation-on-logits", "nn.Linear(64, 4))", "nn.Linear(64, 4), nn.ReLU())"),
    _case("finetune", "dead-relu", "model.fc = nn.Linear(40, 3)\n", "model.fc = nn.Linear(40, 3)\nnn.init.constant_(model.middle[0].bias, -30.0)\n"),
    _case("long_run", "stuck-at-chance", "loss = criterion(network(batch), kind)", "loss = criterion(network(batch), kind[torch.randperm(len(kind))])"),
    _case("long_run", "diverging", "lr=0.05, momentum=0.9", "lr=6.0, momentum=0.9", accepted=("nonfinite-training", "learning-rate-too-high")),
    _case("long_run", "predicts-one-class", "lr=0.05, momentum=0.9", "lr=2.0, momentum=0.9", accepted=("diverging", "stuck-at-chance", "learning-rate-too-high")),
    _case("long_run", "nonfinite-training", "loss = criterion(network(batch), kind)", "loss = criterion(network(batch) / (epoch < 4), kind)"),
)  # fmt: skip
