# ruff: noqa: E501  (changes stand as they stand in the scripts)
"""Faults in thirteen scripts of a third group, written as those of later_cases.py were; first run in docs/watch.md."""

from __future__ import annotations

from .case import make as _case

NEWER_CASES = (
    # tutorial
    _case("tutorial", "gradients-not-cleared", "        optimizer.zero_grad()\n", ""),
    _case(
        "tutorial",
        "gradients-cleared-before-step",
        "        optimizer.zero_grad()\n        loss.backward()\n",
        "        loss.backward()\n        optimizer.zero_grad()\n",
    ),
    _case("tutorial", "eval-mode-in-training", "    model.train()\n    return num_correct", "    return num_correct"),
    _case("tutorial", "softmax-before-cross-entropy", "x = self.fc1(x)\n", "x = F.softmax(self.fc1(x), dim=1)\n"),
    _case(
        "tutorial",
        "nll-on-probabilities",
        "x = self.fc1(x)\n",
        "x = F.softmax(self.fc1(x), dim=1)\n",
        "nn.CrossEntropyLoss()",
        "nn.NLLLoss()",
    ),
    _case("tutorial", "activation-on-logits", "x = self.fc1(x)\n", "x = F.relu(self.fc1(x))\n"),
    _case(
        "tutorial",
        "stale-optimizer-parameters",
        "# Loss and optimizer\n",
        "# Loss and optimizer\noptimizer = optim.Adam(model.parameters(), lr=learning_rate)\n"
        "model = CNN(in_channels=in_channels, num_classes=num_classes).to(device)\n",
        "optimizer = optim.Adam(model.parameters(), lr=learning_rate)\n\n\n# Check",
        "\n\n# Check",
        accepted=("optimizer-reused-across-models",),
    ),
    _case(
        "tutorial",
        "constant-inputs",
        ".unsqueeze(0) / 16.0",
        ".unsqueeze(0).long().div(17, rounding_mode='floor').float()",
    ),
    _case(
        "tutorial",
        "first-batch-only",
        "    loop = tqdm(train_loader, leave=False)\n",
        "    loop = tqdm([next(iter(DataLoader(train_dataset, batch_size)))] * 22, leave=False)\n",
    ),
    _case(
        "tutorial",
        "labels-unrelated-to-inputs",
        "        self.transform = transform\n",
        "        self.transform = transform\n"
        "        self.images = self.images[torch.randperm(len(self.images)).numpy()]\n",
    ),
    _case("tutorial", "learning-rate-too-high", "learning_rate = 2e-3", "learning_rate = 2.0", accepted=("diverging",)),
    # cookiecutter
    _case("cookiecutter", "train-mode-in-validation", "    model.eval()\n", ""),
    _case("cookiecutter", "eval-mode-in-training", "    model.train()\n", ""),
    _case(
        "cookiecutter",
        "scheduler-before-optimizer",
        "        scheduler.step()\n",
        "",
        "        optimizer.zero_grad(set_to_none=True)\n",
        "        optimizer.zero_grad(set_to_none=True)\n        scheduler.step()\n",
    ),
    _case(
        "cookiecutter",
        "optimizer-state-not-restored",
        '        optimizer.load_state_dict(checkpoint["optimizer"])\n',
        "",
    ),
    _case(
        "cookiecutter",
        "buffers-not-saved",
        '"model": model_without_ddp.state_dict(),',
        '"model": {k: v.data for k, v in model_without_ddp.named_parameters()},',
        'load_state_dict(checkpoint["model"])',
        'load_state_dict(checkpoint["model"], strict=False)',
    ),
    _case(
        "cookiecutter",
        "metric-over-wrong-axis",
        "output.argmax(dim=1)",
        "output.argmax(dim=0)[: len(target)]",
        "(pred == target)",
        "(pred == target[: len(pred)])",
    ),
    _case(
        "cookiecutter",
        "schedule-collapses",
        "    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, cosine], milestones=[warmup_steps])\n",
        "    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.3)\n",
    ),
    _case(
        "cookiecutter",
        "warmup-outlasts-training",
        "warmup_steps = args.warmup_epochs * len(train_loader)",
        "warmup_steps = 1000",
        "T_max=total_steps - warmup_steps",
        "T_max=10000",
        accepted=("schedule-period-mismatch",),
    ),
    # kaggle
    _case(
        "kaggle",
        "training-on-validation-data",
        'train_df = train[train["fold"] != fold].reset_index(drop=True)',
        "train_df = train.reset_index(drop=True)",
        accepted=("train-val-leakage",),
    ),
    _case("kaggle", "best-weights-by-reference", "copy.deepcopy(model.state_dict())", "model.state_dict()"),
    _case(
        "kaggle",
        "optimizer-reused-across-models",
        "    optimizer = torch.optim.Adam(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)\n",
        "",
        "def run_training(fold):\n",
        "first = Model(num_features=len(feature_cols), hidden_size=CFG.hidden)\n"
        "optimizer = torch.optim.Adam(first.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)\n\n\n"
        "def run_training(fold):\n",
        accepted=("stale-optimizer-parameters",),
    ),
    _case("kaggle", "train-mode-in-validation", "    model.eval()\n", ""),
    _case(
        "kaggle",
        "bce-on-probabilities",
        "        return self.dense3(x)\n",
        "        return torch.sigmoid(self.dense3(x))\n",
    ),
    _case(
        "kaggle",
        "target-leaked-into-input",
        'if c.startswith("f_")]',
        'if c != "fold"]',
    ),
    _case(
        "kaggle",
        "schedule-period-mismatch",
        "steps_per_epoch=len(trainloader)",
        "steps_per_epoch=10 * len(trainloader)",
        accepted=("warmup-outlasts-training",),
    ),
    _case(
        "kaggle",
        "missing-nonlinearity",
        "nn.functional.leaky_relu(self.dense1(x))",
        "self.dense1(x)",
        "nn.functional.leaky_relu(self.dense2(x))",
        "self.dense2(x)",
    ),
    # minigpt
    _case("minigpt", "future-leak", '        att = att.masked_fill(~self.mask[:T, :T], float("-inf"))\n', ""),
    _case(
        "minigpt", "misaligned-language-model-labels", "data[i + 1 : i + 1 + block_size]", "data[i : i + block_size]"
    ),
    _case("minigpt", "gradients-not-cleared", "    optimizer.zero_grad(set_to_none=True)\n", ""),
    _case("minigpt", "eval-mode-in-training", "    model.train()\n    return out", "    return out"),
    _case(
        "minigpt",
        "clip-after-step",
        "    if grad_clip != 0.0:\n        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)\n    optimizer.step()\n",
        "    optimizer.step()\n    if grad_clip != 0.0:\n        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)\n",
    ),
    _case(
        "minigpt",
        "warmup-outlasts-training",
        "warmup_iters = 10\n",
        "warmup_iters = 2000\n",
        "lr_decay_iters = 120",
        "lr_decay_iters = 600000",
    ),
    _case(
        "minigpt",
        "unregistered-modules",
        "nn.ModuleList([Block(config) for _ in range(config.n_layer)])",
        "[Block(config) for _ in range(config.n_layer)]",
    ),
    _case(
        "minigpt",
        "batch-mixing",
        "x.size()\n",
        "x.size()\n        x = x.reshape(T, B, C)\n",
        ".split(self.n_embd, dim=2)\n",
        ".reshape(T, B, 3 * C).transpose(0, 1).contiguous().split(self.n_embd, dim=2)\n",
        accepted=("future-leak",),
    ),
    # ppo
    _case("ppo", "gradients-not-cleared", "                optimizer.zero_grad()\n", ""),
    _case(
        "ppo",
        "clip-after-step",
        "                nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)\n                optimizer.step()\n",
        "                optimizer.step()\n                nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)\n",
    ),
    _case(
        "ppo",
        "parameters-missing-from-optimizer",
        "optim.Adam(agent.parameters()",
        "optim.Adam(agent.critic.parameters()",
    ),
    _case("ppo", "target-broadcast", "                newvalue = newvalue.view(-1)\n", ""),
    _case(
        "ppo",
        "zero-learning-rate",
        "frac = 1.0 - (iteration - 1.0) / args.num_iterations",
        "frac = (args.num_iterations - iteration) // args.num_iterations",
    ),
    # diffusion
    _case("diffusion", "gradients-not-cleared", "    opt.zero_grad()\n", ""),
    _case("diffusion", "ignored-input", "h = h + block(h + temb)", "h = h + block(h)", accepted=("unused-parameters",)),
    _case("diffusion", "parameters-not-updated", "    opt.step()\n", ""),
    _case(
        "diffusion",
        "first-batch-only",
        "    (x0,) = next(batches)\n",
        "    (x0,) = next(iter(DataLoader(TensorDataset(points), batch_size=BATCH)))\n",
    ),
    _case(
        "diffusion",
        "layer-created-in-forward",
        "        return self.out(h)\n",
        "        return nn.Linear(64, 2)(h)\n",
    ),
    _case(
        "diffusion", "schedule-collapses", "CosineAnnealingLR(opt, T_max=TRAIN_STEPS)", "ExponentialLR(opt, gamma=0.9)"
    ),
    _case(
        "diffusion",
        "unregistered-modules",
        "nn.ModuleList([nn.Sequential(nn.Linear(dim, dim), nn.SiLU()) for _ in range(3)])",
        "[nn.Sequential(nn.Linear(dim, dim), nn.SiLU()) for _ in range(3)]",
    ),
    # vae
    _case("vae", "graph-retained", "train_loss += loss.item()", "train_loss += loss"),
    _case("vae", "train-mode-in-validation", "    model.eval()\n", ""),
    _case(
        "vae",
        "parameters-missing-from-optimizer",
        "optim.Adam(model.parameters(), lr=args.lr)",
        "optim.Adam([*model.fc1.parameters(), *model.fc21.parameters(), *model.fc22.parameters()], lr=args.lr)",
    ),
    _case(
        "vae",
        "gradients-cleared-before-step",
        "        optimizer.zero_grad()\n",
        "",
        "        optimizer.step()\n",
        "        optimizer.zero_grad()\n        optimizer.step()\n",
    ),
    _case(
        "vae",
        "loss-detached",
        "        loss.backward()\n",
        "        loss = loss.detach().requires_grad_()\n        loss.backward()\n",
        accepted=("graph-cut", "parameters-not-updated"),
    ),
    # simclr
    _case(
        "simclr",
        "optimizer-reused-across-models",
        "    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-2)\n",
        "    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)\n",
        accepted=("parameters-missing-from-optimizer", "parameters-not-updated", "stale-optimizer-parameters"),
    ),
    _case(
        "simclr",
        "training-on-validation-data",
        "for x, y in train_loader:\n            with torch",
        "for x, y in test_loader:\n            with torch",
    ),
    _case(
        "simclr",
        "batch-mixing",
        "nn.Flatten(), nn.Linear(32 * 16, feature_dim)",
        "nn.Flatten(0), nn.Unflatten(0, (512, -1)), Swap(), nn.Linear(32 * 16, feature_dim)",
        "class SimCLR(",
        "class Swap(nn.Module):\n    def forward(self, x):\n        return x.T\n\n\nclass SimCLR(",
    ),
    _case(
        "simclr",
        "repeated-samples",
        "self.transform(self.images[i]), self.transform(self.images[i]), self.labels[i]",
        "self.transform(self.images[0]), self.transform(self.images[0]), self.labels[i]",
        accepted=("constant-inputs",),
    ),
    # hf_trainer
    _case("hf_trainer", "warmup-outlasts-training", "warmup_steps=10", "warmup_steps=2000"),
    _case(
        "hf_trainer",
        "padding-affects-output",
        'return {"input_ids": ids, "attention_mask": mask,',
        'return {"input_ids": ids,',
    ),
    _case(
        "hf_trainer",
        "learning-rate-too-high",
        "learning_rate=1e-3",
        "learning_rate=1.0",
        accepted=("diverging", "stuck-at-chance", "predicts-one-class"),
    ),
    # lightning_fit
    _case(
        "lightning_fit",
        "parameters-missing-from-optimizer",
        "AdamW(self.parameters()",
        "AdamW(self.backbone.parameters()",
    ),
    _case(
        "lightning_fit",
        "schedule-collapses",
        "CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs)",
        "StepLR(optimizer, step_size=2, gamma=0.5)",
        '"interval": "epoch"',
        '"interval": "step"',
    ),
    _case(
        "lightning_fit",
        "softmax-before-cross-entropy",
        "return self.head(self.backbone(x))",
        "return self.head(self.backbone(x)).softmax(-1)",
    ),
    _case(
        "lightning_fit",
        "graph-retained",
        '        self.log("train_loss", loss)\n',
        '        self.history.append(loss)\n        self.log("train_loss", loss)\n',
        "        self.save_hyperparameters()\n",
        "        self.save_hyperparameters()\n        self.history = []\n",
    ),
    _case(
        "lightning_fit",
        "eval-mode-in-training",
        "    def training_step(self, batch, batch_idx):\n",
        "    def training_step(self, batch, batch_idx):\n        self.eval()\n",
    ),
    _case(
        "lightning_fit",
        "training-on-validation-data",
        "return DataLoader(self.val_set, batch_size=100)",
        "return DataLoader(self.train_set, batch_size=100)",
        accepted=("train-val-leakage",),
    ),
    # forecast
    _case(
        "forecast", "target-broadcast", "self.fc(self.drop(out[:, -1])).squeeze(-1)", "self.fc(self.drop(out[:, -1]))"
    ),
    _case("forecast", "batch-mixing", "batch_first=True", "batch_first=False"),
    _case(
        "forecast",
        "best-weights-by-reference",
        "self.state = {k: v.detach().clone() for k, v in model.state_dict().items()}",
        "self.state = model.state_dict()",
    ),
    _case(
        "forecast",
        "scheduler-before-optimizer",
        "        scheduler.step()\n",
        "",
        "        train_loss = run_epoch(",
        "        scheduler.step()\n        train_loss = run_epoch(",
    ),
    _case("forecast", "train-mode-in-validation", "model.train(training)", "model.train()"),
    _case(
        "forecast",
        "eval-mode-in-training",
        "model.train(training)",
        "model.train(not training)",
        accepted=("train-mode-in-validation",),
    ),
    _case(
        "forecast",
        "nonfinite-inputs",
        "    scaled = (demand - mean) / std\n",
        "    scaled = (demand - mean) / std\n    scaled[np.random.default_rng(0).integers(0, 1600, 8)] = np.nan\n",
        accepted=("nonfinite-training",),
    ),
    _case(
        "forecast",
        "unscaled-regression-target",
        "        target = self.series[i + self.history + self.horizon - 1]\n",
        "        target = self.series[i + self.history + self.horizon - 1] * 31 + 200\n",
    ),
    # unet
    _case(
        "unet",
        "accumulation-not-averaged",
        "loss_fn(predictions, masks) / ACCUM_STEPS",
        "loss_fn(predictions, masks)",
        "AdamW(model.parameters(), lr=LR)",
        "SGD(model.parameters(), lr=0.1, momentum=0.9)",
    ),
    _case("unet", "graph-retained", "epoch_loss += loss.item() * ACCUM_STEPS", "epoch_loss += loss * ACCUM_STEPS"),
    _case(
        "unet",
        "first-batch-only",
        "        epoch_loss += loss.item() * ACCUM_STEPS\n",
        "        epoch_loss += loss.item() * ACCUM_STEPS\n        if i == 1:\n            break\n",
        "shuffle=True",
        "shuffle=False",
    ),
    _case(
        "unet",
        "buffers-not-saved",
        '"state_dict": model.state_dict()',
        '"state_dict": dict(model.named_parameters())',
        'model.load_state_dict(checkpoint["state_dict"])',
        'model.load_state_dict(checkpoint["state_dict"], strict=False)',
    ),
    _case("unet", "gradients-not-cleared", "            optimizer.zero_grad()\n", ""),
    _case(
        "unet",
        "bce-on-probabilities",
        "        return self.final_conv(x)\n",
        "        return torch.sigmoid(self.final_conv(x))\n",
    ),
    # imbalanced
    _case(
        "imbalanced",
        "best-weights-by-reference",
        "{name: value.cpu().clone() for name, value in model.state_dict().items()}",
        "{name: value.cpu() for name, value in model.state_dict().items()}",
    ),
    _case("imbalanced", "schedule-period-mismatch", "T_max=epochs * len(train_loader)", "T_max=epochs"),
    _case("imbalanced", "gradients-not-cleared", "        optimizer.zero_grad()\n", ""),
    _case(
        "imbalanced",
        "parameters-not-updated",
        "        loss.backward()\n",
        "        loss.backward()\n        optimizer.zero_grad()\n",
        accepted=("gradients-cleared-before-step",),
    ),
    _case(
        "imbalanced", "softmax-before-cross-entropy", "self.ce(logits, targets)", "self.ce(logits.softmax(-1), targets)"
    ),
)
