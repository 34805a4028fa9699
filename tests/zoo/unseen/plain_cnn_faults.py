"""Faults of ``plain_cnn`` and what looks like them, each the plainest change of its source."""

from __future__ import annotations

from zoo.cases import Case, edited
from zoo.unseen import plain_cnn as program

HEAD = "        x = self.fc2(x)\n        return x\n"
TO_TENSOR = "    transforms.ToTensor(),\n"
NORMALISE = "    transforms.Normalize(MEAN, STD),\n"
VAL = "val_set = Shapes(images[1100:], labels[1100:], val_transform)"
TRAIN = "train_set = Shapes(images[:1100], labels[:1100], train_transform)"
SPLIT = "    images, labels = pictures()\n"
ITEM = "image = Image.fromarray(self.images[index])"
ADAM = (
    "torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)",
    "torch.optim.Adam(model.parameters(), lr=1e-3)",
)

CASES = (
    Case("plain_cnn", "", program.build),
    # data
    edited(program, "constant-inputs", ("image + rng.normal(0, 20, (32, 32, 3))", "np.zeros((32, 32, 3))")),
    edited(program, "repeated-samples", (ITEM, "image = Image.fromarray(self.images[0])"), also=("constant-inputs",)),
    edited(
        program, "duplicate-samples", (TRAIN, "train_set = Shapes(images[:200].repeat(5, axis=0), labels[:200].repeat(5), val_transform)"),
        structural=True,
    ),
    edited(program, "inputs-normalised-twice", (NORMALISE, NORMALISE + NORMALISE)),
    edited(
        program, "inputs-normalised-twice", (NORMALISE, "    transforms.Lambda(lambda x: x / 255),\n" + NORMALISE),
        variant="divided", also=("wrong-normalisation-statistics",), structural=True,
    ),
    edited(
        program, "wrong-normalisation-statistics", ("(0.37, 0.37, 0.37), (0.21, 0.21, 0.21)", "(125.3, 123.0, 113.9), (63.0, 62.1, 66.7)"),
        structural=True,
    ),
    edited(program, "train-val-preprocessing-mismatch", ("    transforms.ToTensor(),\n    transforms.Normalize(MEAN, STD),\n])  # fmt: skip\n\n\nclass", "    transforms.ToTensor(),\n])  # fmt: skip\n\n\nclass")),
    edited(program, "augmentation-on-validation", (VAL, VAL.replace("val_transform", "train_transform")), structural=True),
    edited(program, "train-val-leakage", (VAL, "val_set = Shapes(images[800:1100], labels[800:1100], val_transform)"), structural=True),
    edited(program, "train-val-leakage", ("images[:1100], labels[:1100]", "images, labels"), variant="all_in_training", structural=True),
    edited(program, "labels-unrelated-to-inputs", (SPLIT, SPLIT + "    images = np.random.permutation(images)\n")),
    edited(program, "labels-unrelated-to-inputs", (SPLIT, SPLIT + "    images, labels = images[np.argsort(labels)], labels.copy()\n"), variant="sorted_apart"),
    edited(program, "noisy-labels", (SPLIT, SPLIT + "    labels = np.where(np.random.rand(len(labels)) < 0.35, np.random.randint(0, 6, len(labels)), labels)\n")),
    edited(program, "classes-overlap", ("][label]", "][0 if label == 2 else label]")),
    edited(program, "label-map-differs-in-validation", (VAL, "val_set = Shapes(images[1100:], 5 - labels[1100:], val_transform)")),
    edited(program, "labels-out-of-range", ("label = int(self.labels[index])", "label = int(self.labels[index]) + 1"), also=("num-classes-mismatch",)),
    edited(program, "constant-labels", ("label = int(self.labels[index])", "label = int(self.labels[0])")),
    edited(program, "label-dtype-mismatch", ("label = int(self.labels[index])", "label = float(self.labels[index])")),
    edited(program, "missing-classes", (SPLIT, SPLIT + "    order = np.argsort(labels)\n    images, labels = images[order], labels[order]\n")),
    edited(program, "unshuffled-training-data", (TRAIN, "order = np.argsort(labels[:1100])\n    train_set = Shapes(images[order], labels[order], train_transform)"), ("batch_size=32, shuffle=True", "batch_size=32, shuffle=False")),
    edited(program, "empty-loader", ("batch_size=32, shuffle=True", "batch_size=2048, shuffle=True, drop_last=True")),
    edited(program, "slow-dataloader", (ITEM, ITEM + "\n        sum(i * i for i in range(200_000))"), structural=True),
    edited(program, "user-code-error", ("transforms.RandomCrop(32,", "transforms.RandomCrop(48,"), ("padding=4, padding_mode=\"reflect\"", "padding=0"), variant="crop_larger_than_picture"),
    # model
    edited(program, "forward-shape-mismatch", ("nn.Linear(64 * 4 * 4, 64)", "nn.Linear(64 * 8 * 8, 64)")),
    edited(program, "forward-shape-mismatch", ("nn.Conv2d(3, 16, 3, padding=1)", "nn.Conv2d(1, 16, 3, padding=1)"), variant="grey"),
    edited(program, "num-classes-mismatch", ("num_classes=len(CLASSES)", "num_classes=5"), also=("labels-out-of-range",)),
    edited(program, "softmax-before-cross-entropy", (HEAD, "        x = F.softmax(self.fc2(x), dim=1)\n        return x\n")),
    edited(program, "activation-on-logits", (HEAD, "        x = F.relu(self.fc2(x))\n        return x\n")),
    edited(program, "softmax-over-batch", (HEAD, "        x = F.softmax(self.fc2(x), dim=0)\n        return x\n")),
    edited(program, "nondeterministic-eval", ("x = self.dropout(x)", "x = F.dropout(x, 0.5)")),
    edited(program, "layer-created-in-forward", ("x = F.relu(self.fc1(x))", "x = F.relu(nn.Linear(64 * 4 * 4, 64)(x))"), also=("nondeterministic-eval",)),
    edited(program, "batchnorm-statistics-lag", ("nn.BatchNorm2d(16)", "nn.BatchNorm2d(16, momentum=0.001)"), ("nn.BatchNorm2d(32)", "nn.BatchNorm2d(32, momentum=0.001)"), ("nn.BatchNorm2d(64)", "nn.BatchNorm2d(64, momentum=0.001)")),
    edited(program, "batchnorm-on-single-sample", ("self.bn3 = nn.BatchNorm2d(64)", "self.bn3 = nn.BatchNorm2d(64)\n        self.bn4 = nn.BatchNorm1d(64)"), ("F.relu(self.fc1(x))", "F.relu(self.bn4(self.fc1(x)))"), ("images[:1100], labels[:1100]", "images[:1089], labels[:1089]")),
    edited(program, "dead-relu", ("        self.dropout = ", "        nn.init.constant_(self.fc1.bias, -10.0)\n        self.dropout = ")),
    edited(program, "unused-parameters", ("        self.pool = ", "        self.conv4 = nn.Conv2d(64, 64, 3, padding=1)\n        self.pool = "), structural=True),
    edited(program, "ignored-input", ("x = self.pool(F.relu(self.bn1(self.conv1(x))))", "x = self.pool(F.relu(self.bn1(self.conv1(x * 0))))"), also=("zero-gradient",)),
    edited(program, "graph-cut", ("x = torch.flatten(x, 1)", "x = torch.flatten(x, 1).detach()"), structural=True),
    edited(program, "graph-cut", ("x = torch.flatten(x, 1)", "x = torch.tensor(torch.flatten(x, 1).detach().numpy())"), variant="numpy", structural=True),
    edited(program, "graph-cut", ("        x = self.pool(F.relu(self.bn1(self.conv1(x))))\n        x = self.pool(F.relu(self.bn2(self.conv2(x))))\n", "        with torch.no_grad():\n            x = self.pool(F.relu(self.bn1(self.conv1(x))))\n            x = self.pool(F.relu(self.bn2(self.conv2(x))))\n"), variant="no_grad", structural=True),
    # loss
    edited(program, "mse-for-classification", ("nn.CrossEntropyLoss()", "lambda output, y: F.mse_loss(output.argmax(1).float(), y.float())"), variant="argmax", also=("loss-detached", "graph-cut")),
    edited(program, "loss-not-scalar", ("nn.CrossEntropyLoss()", "nn.CrossEntropyLoss(reduction=\"none\")")),
    edited(program, "loss-summed", ("nn.CrossEntropyLoss()", "nn.CrossEntropyLoss(reduction=\"sum\")")),
    edited(program, "loss-sign-flipped", ("nn.CrossEntropyLoss()", "nn.NLLLoss()"), (HEAD, "        x = -F.log_softmax(self.fc2(x), dim=1)\n        return x\n")),
    edited(program, "nll-on-probabilities", ("nn.CrossEntropyLoss()", "nn.NLLLoss()"), (HEAD, "        x = F.softmax(self.fc2(x), dim=1)\n        return x\n"), structural=True),
    edited(program, "nll-on-probabilities", ("nn.CrossEntropyLoss()", "nn.NLLLoss()"), variant="logits"),
    edited(program, "ignore-index-hits-class", ("nn.CrossEntropyLoss()", "nn.CrossEntropyLoss(ignore_index=0)")),
    # optimizer
    edited(program, "parameters-missing-from-optimizer", ("SGD(model.parameters()", "SGD(model.fc2.parameters()"), structural=True),
    edited(program, "zero-learning-rate", ("lr=0.02", "lr=0.0")),
    edited(program, "schedule-collapses", ("        epochs=10,\n", "        epochs=10,\n        scheduler_interval=\"step\",\n"), ("CosineAnnealingLR(optimizer, T_max=10)", "ExponentialLR(optimizer, gamma=0.9)")),
    edited(program, "schedule-period-mismatch", ("        epochs=10,\n", "        epochs=10,\n        scheduler_interval=\"step\",\n"), structural=True),
    # healthy
    edited(program, "", ("nn.CrossEntropyLoss()", "nn.CrossEntropyLoss(label_smoothing=0.1)"), variant="label_smoothing"),
    edited(program, "", ("    transforms.RandomHorizontalFlip(),\n", "    transforms.RandomHorizontalFlip(),\n    transforms.RandomRotation(10),\n    transforms.ColorJitter(0.4, 0.4, 0.4),\n"), ("    transforms.Normalize(MEAN, STD),\n])  # fmt: skip\nval", "    transforms.Normalize(MEAN, STD),\n    transforms.RandomErasing(0.25),\n])  # fmt: skip\nval"), variant="heavy_augmentation"),
    edited(program, "", ("nn.Dropout(0.3)", "nn.Dropout(0.5)"), ADAM, variant="dropout_half"),
    edited(program, "", ("nn.CrossEntropyLoss()", "nn.NLLLoss()"), (HEAD, "        x = F.log_softmax(self.fc2(x), dim=1)\n        return x\n"), variant="log_softmax_nll"),
    edited(program, "", ("lr=0.02, momentum=0.9", "lr=0.1, momentum=0.9"), variant="sgd_tenth"),
    edited(program, "", ("batch_size=32, shuffle=True", "batch_size=4, shuffle=True"), ("lr=0.02", "lr=0.003"), variant="batch_of_four"),
    edited(program, "", (TO_TENSOR, "    transforms.PILToTensor(),\n    transforms.ConvertImageDtype(torch.float32),\n    transforms.Lambda(lambda x: x * 255),\n"), (NORMALISE, ""), ("        self.conv1 =", "        self.bn0 = nn.BatchNorm2d(3)\n        self.conv1 ="), ("self.conv1(x)", "self.conv1(self.bn0(x))"), variant="bytes_into_batchnorm"),
    edited(program, "", ("CosineAnnealingLR(optimizer, T_max=10)", "OneCycleLR(optimizer, max_lr=0.05, epochs=10, steps_per_epoch=len(train_loader))"), ("        epochs=10,\n", "        epochs=10,\n        scheduler_interval=\"step\",\n"), variant="one_cycle"),
    edited(program, "", ("        self.fc2 = nn.Linear(64, num_classes)", "        self.fc2 = nn.Linear(64, num_classes)\n        nn.init.zeros_(self.fc2.weight)\n        nn.init.zeros_(self.fc2.bias)"), variant="zero_head"),
    edited(program, "", ("rng.integers(0, len(CLASSES), n)", "rng.choice(len(CLASSES), n, p=[0.45, 0.25, 0.1, 0.1, 0.05, 0.05])"), ("nn.CrossEntropyLoss()", "nn.CrossEntropyLoss(weight=torch.tensor([0.4, 0.7, 1.7, 1.7, 3.3, 3.3]))"), variant="imbalanced_weighted"),
)  # fmt: skip
