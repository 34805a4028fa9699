"""Faults of ``plain_resnet`` and what looks like them, each the plainest change of its source."""

from __future__ import annotations

from zoo.cases import Case, edited
from zoo.unseen import plain_resnet as program

HEAD = "model.fc = nn.Linear(model.fc.in_features, len(CLASSES))\n"
LOAD = "model.load_state_dict(pretrained_weights())"
ADAM = "torch.optim.Adam(model.parameters(), lr=1e-3)"

CASES = (
    Case("plain_resnet", "", program.build),
    edited(program, "num-classes-mismatch", ("    " + HEAD, ""), structural=True),
    edited(program, "num-classes-mismatch", ("nn.Linear(model.fc.in_features, len(CLASSES))", "nn.Linear(model.fc.in_features, 2)"), variant="two", also=("labels-out-of-range",)),
    edited(program, "unreadable-sample", ("found.append((data.getvalue(), label))", "found.append((data.getvalue()[: 300 if i == 37 else None], label))"), structural=True),
    edited(program, "incomplete-dataset", ("    samples = files()\n", "    samples = [s for s in files(630) if s[1] != 2]\n"), also=("missing-classes",), structural=True),
    edited(program, "wrong-normalisation-statistics", ("[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]", "[0.229, 0.224, 0.225], [0.485, 0.456, 0.406]"), structural=True),
    edited(program, "train-val-preprocessing-mismatch", ("CenterCrop(32), transforms.ToTensor(), normalize", "CenterCrop(32), transforms.ToTensor()")),
    edited(program, "pretrained-weights-not-loaded", (LOAD, "model.load_state_dict({\"module.\" + k: v for k, v in pretrained_weights().items()}, strict=False)"), structural=True),
    edited(program, "pretrained-weights-not-loaded", (HEAD, HEAD + "    for m in model.modules():\n        if isinstance(m, nn.Conv2d):\n            nn.init.kaiming_normal_(m.weight)\n"), variant="initialised_afterwards", structural=True),
    edited(program, "everything-frozen", (HEAD, HEAD + "    for parameter in model.parameters():\n        parameter.requires_grad = False\n"), structural=True),
    edited(program, "stale-optimizer-parameters", ("    model = get_model()\n    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)\n", "    model = get_model()\n    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)\n    model.fc = nn.Linear(512, len(CLASSES))\n"), structural=True, also=("parameters-missing-from-optimizer",)),
    edited(program, "parameters-missing-from-optimizer", (ADAM, "torch.optim.Adam(model.layer4.parameters(), lr=1e-3)"), structural=True),
    edited(program, "warmup-outlasts-training", ("StepLR(optimizer, step_size=7, gamma=0.1)", "LinearLR(optimizer, start_factor=1e-4, total_iters=1000)"), structural=True),
    edited(program, "softmax-before-cross-entropy", (HEAD, "model.fc = nn.Sequential(nn.Linear(model.fc.in_features, len(CLASSES)), nn.Softmax(dim=1))\n")),
    edited(program, "activation-on-logits", (HEAD, "model.fc = nn.Sequential(nn.Linear(model.fc.in_features, len(CLASSES)), nn.Sigmoid())\n")),
    edited(program, "output-shape-mismatch", ("nn.Linear(model.fc.in_features, len(CLASSES))", "nn.Linear(model.fc.in_features, 1)"), also=("num-classes-mismatch",)),
    edited(program, "class-imbalance", ("label = i % 3", "label = 0 if i % 50 else 1 + (i // 50) % 2"), structural=True),
    edited(program, "train-val-leakage", ("Folder(samples[320:], val_transform)", "Folder(samples[200:], val_transform)"), structural=True),
    edited(program, "augmentation-on-validation", ("val = Folder(samples[320:], val_transform)", "val = Folder(samples[320:], train_transform)"), structural=True),
    edited(program, "user-code-error", ("return self.transform(image), label", "return self.transforms(image), label"), variant="misspelt"),
    edited(program, "duplicate-worker-randomness", ("        self.transform = transform\n", "        self.transform = transform\n        self.train = len(samples) > 200\n        self.rng = np.random.default_rng(0)\n"), ("        return self.transform(image), label", "        if self.train:\n            image = image.point(lambda v, a=self.rng.uniform(0.8, 1.2): min(255, int(a * v)))\n        return self.transform(image), label"), ("batch_size=16, shuffle=True)", "batch_size=16, shuffle=True, num_workers=2)"), structural=True),
    # healthy
    edited(program, "", (HEAD, "for parameter in model.parameters():\n        parameter.requires_grad = False\n    " + HEAD), (ADAM, "torch.optim.Adam(model.fc.parameters(), lr=1e-3)"), variant="frozen_backbone"),
    edited(program, "", ("    scheduler =", "    model.to(\"cpu\")\n    scheduler ="), variant="optimizer_before_to"),
    edited(program, "", (ADAM, "torch.optim.Adam([{\"params\": [p for n, p in model.named_parameters() if not n.startswith(\"fc\")], \"lr\": 1e-4}, {\"params\": model.fc.parameters()}], lr=1e-3)"), variant="two_rates"),
    edited(program, "", ("    model = models.resnet18()\n    model.load_state_dict(pretrained_weights())\n", "    model = models.resnet18(zero_init_residual=True)\n"), ("        intents=[\"pretrained\"],\n", ""), variant="zero_init_residual"),
    edited(program, "", ("transforms.CenterCrop(32)", "transforms.CenterCrop((32, 40))"), ("transforms.RandomCrop(32)", "transforms.RandomCrop((32, 40))"), variant="not_square"),
    edited(program, "", (ADAM, "torch.optim.Adam(model.parameters(), lr=1e-3)"), ("label = i % 3", "label = int(rng.choice(3, p=[0.7, 0.2, 0.1]))"), variant="imbalanced"),
)  # fmt: skip
