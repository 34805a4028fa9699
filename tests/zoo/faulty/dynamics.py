"""Faults of dynamics: a program of the group ``dynamics_`` and one edit of its source, as a user would make it."""

from __future__ import annotations

from zoo.cases import Case, edited
from zoo.programs import (
    dynamics_cancer,
    dynamics_digits,
    dynamics_friedman,
    dynamics_glyphs,
    dynamics_gru,
    dynamics_shapes,
    dynamics_tabular,
    dynamics_tags,
    dynamics_transformer,
)

CASES: tuple[Case, ...] = (
    edited(dynamics_digits, "learning-rate-too-high", ("lr=0.05", "lr=2.0"), variant="lr-high"),
    edited(dynamics_digits, "learning-rate-too-low", ("lr=0.05", "lr=5e-6"), variant="lr-low"),
    edited(dynamics_digits, "zero-learning-rate", ("lr=0.05", "lr=0.0"), variant="lr-zero"),
    edited(dynamics_tabular, "learning-rate-too-low", ("max_lr=3e-3", "max_lr=3e-7"), variant="max-lr-low"),
    edited(dynamics_tabular, "learning-rate-too-high", ("max_lr=3e-3", "max_lr=3.0"), variant="max-lr-high"),
    edited(dynamics_friedman, "learning-rate-too-high", ("lr=2e-3", "lr=0.5"), variant="lr-high"),
    edited(dynamics_friedman, "learning-rate-too-low", ("lr=2e-3", "lr=1e-7"), variant="lr-low"),
    edited(dynamics_gru, "learning-rate-too-high", ("lr=2e-3", "lr=0.5"), variant="lr-high"),
    edited(dynamics_transformer, "learning-rate-too-high", ("lr=1e-3", "lr=0.3"), variant="lr-high"),
    edited(dynamics_tags, "learning-rate-too-high", ("lr=0.1", "lr=30.0"), variant="lr-high"),
    edited(dynamics_glyphs, "learning-rate-too-low", ("lr=2e-3", "lr=2e-8"), variant="lr-low"),
    edited(
        dynamics_cancer,
        "learning-rate-too-low",
        ("torch.optim.Adam(model.parameters(), lr=5e-3)", "torch.optim.SGD(model.parameters(), lr=1e-4)"),
        variant="sgd-low",
    ),
    edited(dynamics_digits, "weight-decay-too-strong", ("weight_decay=1e-4", "weight_decay=0.5"), variant="decay"),
    edited(dynamics_tabular, "weight-decay-too-strong", ("weight_decay=0.01", "weight_decay=300"), variant="decay"),
    edited(dynamics_friedman, "weight-decay-too-strong", ("weight_decay=1e-5", "weight_decay=1.0"), variant="decay"),
    edited(
        dynamics_transformer,
        "weight-decay-too-strong",
        ('"weight_decay": 0.05', '"weight_decay": 200.0'),
        variant="decay-one-group",
    ),
    edited(
        dynamics_gru,
        "weight-decay-too-strong",
        ("RMSprop(model.parameters(), lr=2e-3)", "RMSprop(model.parameters(), lr=2e-3, weight_decay=0.3)"),
        variant="decay",
    ),
    edited(
        dynamics_tags,
        "weight-decay-too-strong",
        (
            "SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)",
            (
                "SGD(\n"
                "        [{'params': model[:7].parameters()},\n"
                "         {'params': model[7:].parameters(), 'weight_decay': 2.0}],\n"
                "        lr=0.1, momentum=0.9, nesterov=True)"
            ),
        ),
        variant="decay-head",
    ),
    edited(dynamics_digits, "dropout-too-strong", ("p=0.3", "p=0.97"), variant="dropout-functional"),
    edited(dynamics_tabular, "dropout-too-strong", ("width=96, p=0.2", "width=96, p=0.95"), variant="dropout"),
    edited(dynamics_gru, "dropout-too-strong", ("dropout=0.2", "dropout=0.98"), variant="dropout-argument"),
    edited(
        dynamics_shapes,
        "dropout-too-strong",
        (
            "self.last(torch.cat([self.up(d), a], 1))",
            ("self.last(nn.functional.dropout2d(torch.cat([self.up(d), a], 1), 0.95, self.training))"),
        ),
        variant="dropout2d",
    ),
    edited(
        dynamics_friedman,
        "dropout-too-strong",
        (
            "nn.Tanh(),\n        nn.Linear(hidden, 1)",
            "nn.Tanh(),\n        nn.Dropout(0.98),\n        nn.Linear(hidden, 1)",
        ),
        variant="dropout",
    ),
    edited(dynamics_glyphs, "dropout-too-strong", ("nn.Dropout(0.2)", "nn.Dropout(0.98)"), variant="dropout"),
    edited(
        dynamics_digits,
        "augmentation-too-strong",
        (
            "return torch.roll(image, (dx, dy), (1, 2))",
            ("image = torch.roll(image, (dx, dy), (1, 2))\n    return image + 8 * torch.randn_like(image)"),
        ),
        variant="augmentation-strong",
        also=("label-destroying-augmentation",),
    ),
    edited(
        dynamics_digits,
        "augmentation-too-strong",
        ("return torch.roll(image, (dx, dy), (1, 2))", "return image.flatten()[torch.randperm(64)].view(1, 8, 8)"),
        variant="augmentation-permutes",
        also=("label-destroying-augmentation",),
    ),
    edited(
        dynamics_glyphs,
        "augmentation-too-strong",
        ("image = image + 0.1 * torch.randn_like(image)", "image = image * (torch.rand(1, 16, 16) > 0.97)"),
        variant="augmentation-erases",
        also=("label-destroying-augmentation",),
    ),
    edited(
        dynamics_transformer,
        "label-smoothing-too-strong",
        ("label_smoothing=0.1", "label_smoothing=0.999"),
        variant="smoothing",
    ),
    edited(
        dynamics_digits,
        "labels-unrelated-to-inputs",
        ("train_labels = labels[train]", "train_labels = labels[train][torch.randperm(1400)]"),
        variant="labels-permuted",
    ),
    edited(
        dynamics_tabular,
        "noisy-labels",
        ("flip_y=0.02", "flip_y=0.85"),
        variant="noisy-labels",
        also=("labels-unrelated-to-inputs",),
    ),
    edited(
        dynamics_gru,
        "labels-unrelated-to-inputs",
        ("    return tokens, labels", "    return tokens, labels.sort().values"),
        variant="labels-sorted",
    ),
    edited(
        dynamics_digits,
        "gradient-clip-too-small",
        ("        epochs=15", "        clip_grad_norm=1e-5,\n        epochs=15"),
        variant="clip",
    ),
    edited(
        dynamics_tags,
        "gradient-clip-too-small",
        ('        task="multilabel"', '        clip_grad_norm=1e-4,\n        task="multilabel"'),
        variant="clip",
    ),
    edited(dynamics_friedman, "adam-epsilon-out-of-range", ("weight_decay=1e-5", "eps=100.0"), variant="epsilon"),
    edited(
        dynamics_tags,
        "schedule-collapses",
        ('        task="multilabel"', '        scheduler_interval="step",\n        task="multilabel"'),
        variant="schedule-collapses",
        also=("schedule-period-mismatch",),
    ),
    edited(
        dynamics_digits,
        "schedule-collapses",
        ("step_size=8, gamma=0.3", "step_size=1, gamma=0.01"),
        variant="schedule-gamma",
        also=("schedule-period-mismatch",),
    ),
    edited(
        dynamics_transformer,
        "warmup-outlasts-training",
        ("EPOCHS, WARMUP = 10, 60", "EPOCHS, WARMUP = 10, 600_000"),
        variant="warmup",
    ),
    edited(
        dynamics_friedman,
        "exploding-initialisation",
        ("nn.init.xavier_uniform_(module.weight)", "nn.init.normal_(module.weight, std=30)"),
        variant="init-exploding",
        also=("saturated-activations",),
    ),
    edited(
        dynamics_friedman,
        "symmetric-initialisation",
        ("nn.init.xavier_uniform_(module.weight)", "nn.init.constant_(module.weight, 0.05)"),
        variant="init-symmetric",
    ),
    edited(
        dynamics_digits,
        "symmetric-initialisation",
        (
            "self.fc2 = nn.Linear(64, 10)",
            ("self.fc2 = nn.Linear(64, 10)\n        for p in self.parameters():\n            nn.init.zeros_(p)"),
        ),
        variant="init-zero",
    ),
    edited(
        dynamics_digits,
        "exploding-initialisation",
        (
            "self.fc2 = nn.Linear(64, 10)",
            (
                "self.fc2 = nn.Linear(64, 10)\n"
                "        for m in (self.conv1, self.conv2, self.fc1, self.fc2):\n"
                "            nn.init.normal_(m.weight, std=3.0)"
            ),
        ),
        variant="init-exploding",
    ),
    edited(
        dynamics_cancer,
        "dead-relu",
        (
            "nn.Linear(30, 32), nn.Sigmoid(), nn.Linear(32, 32), nn.Sigmoid()",
            "nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU()",
        ),
        ("return Net()", "net = Net()\n    nn.init.constant_(net.layers[2].bias, -30.0)\n    return net"),
        variant="dead-relu",
    ),
    edited(dynamics_tabular, "capacity-too-small", ("width=96", "width=1"), variant="capacity"),
    edited(dynamics_gru, "capacity-too-small", ("hidden=48", "hidden=1"), variant="capacity"),
    edited(
        dynamics_digits,
        "capacity-too-small",
        (
            "self.fc1 = nn.Linear(32 * 4, 64)\n        self.fc2 = nn.Linear(64, 10)",
            "self.fc1 = nn.Linear(32 * 4, 1)\n        self.fc2 = nn.Linear(1, 10)",
        ),
        variant="capacity",
        also=("dead-relu", "dropout-too-strong"),
    ),
    edited(
        dynamics_tags,
        "batch-size-extreme",
        ("batch_size=50", "batch_size=2400"),
        ("lr=0.1", "lr=0.01"),
        variant="batch-full",
        also=("learning-rate-too-low",),
    ),
    edited(
        dynamics_cancer,
        "inputs-not-normalised",
        ("x = (x - mean) / std", "x = x"),
        variant="unscaled",
        also=("features-on-wild-scales",),
    ),
    edited(
        dynamics_friedman,
        "unscaled-regression-target",
        ("y = (y - y[:2400].mean()) / y[:2400].std()", "y = 1e4 * y"),
        variant="target-unscaled",
    ),
    edited(
        dynamics_digits,
        "inputs-not-normalised",
        ("images = images / 16\n    images = (images - 0.305) / 0.376", "images = images * 500"),
        variant="unnormalised",
    ),
    edited(
        dynamics_digits,
        "softmax-before-cross-entropy",
        ("return self.fc2(x)", "return F.softmax(self.fc2(x), dim=1)"),
        variant="softmax",
    ),
    edited(
        dynamics_tags,
        "bce-on-probabilities",
        ("nn.Linear(80, 6),", "nn.Linear(80, 6),\n        nn.Sigmoid(),"),
        ("lr=0.1", "lr=0.01"),
        variant="mse-sigmoid",
    ),
    edited(
        dynamics_glyphs, "loss-sign-flipped", ("    loss.backward()", "    (-loss).backward()"), variant="loss-negated"
    ),
    edited(
        dynamics_glyphs,
        "gradient-clip-too-small",
        ("clip_grad_norm_(model.parameters(), 1.0)", "clip_grad_norm_(model.parameters(), 1e-6)"),
        ("AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)", "SGD(model.parameters(), lr=0.05, momentum=0.9)"),
        variant="clip-own-step",
    ),
    edited(
        dynamics_digits,
        "learning-rate-too-low",
        ("lr=0.05", "lr=1e-6"),
        ("p=0.3", "p=0.98"),
        variant="lr-dropout-at-once",
        also=("dropout-too-strong",),
    ),
    edited(
        dynamics_gru,
        "dropout-too-strong",
        ("dropout=0.2", "dropout=0.98"),
        ("RMSprop(model.parameters(), lr=2e-3)", "RMSprop(model.parameters(), lr=2e-3, weight_decay=0.5)"),
        variant="dropout-decay-at-once",
        also=("weight-decay-too-strong",),
    ),
    edited(
        dynamics_tabular,
        "learning-rate-too-low",
        ("max_lr=3e-3", "max_lr=3e-7"),
        ("weight_decay=0.01", "weight_decay=30000"),
        variant="lr-decay-at-once",
        also=("weight-decay-too-strong",),
    ),
    edited(
        dynamics_tags,
        "dropout-too-strong",
        ("nn.Dropout(0.2)", "nn.Dropout(0.97)"),
        ("lr=0.1", "lr=30.0"),
        variant="dropout-lr-at-once",
        also=("learning-rate-too-high",),
    ),
)
