# ruff: noqa: E501  (changes stand as they stand in the scripts)
"""Healthy variations of the third group of scripts, each close to a fault."""

from __future__ import annotations

from .case import make as _case

NEWER_LOOKALIKES = (
    _case(
        "tutorial",
        "zero-grad-at-the-end",
        "        optimizer.zero_grad()\n        loss.backward()\n",
        "        loss.backward()\n",
        "        optimizer.step()\n",
        "        optimizer.step()\n        optimizer.zero_grad()\n",
    ),
    _case(
        "tutorial",
        "log-softmax-with-nll",
        "x = self.fc1(x)\n",
        "x = F.log_softmax(self.fc1(x), dim=1)\n",
        "nn.CrossEntropyLoss()",
        "nn.NLLLoss()",
    ),
    _case(
        "tutorial",
        "overfits-one-batch-first",
        "# Train Network\n",
        "# Sanity check: overfit a single batch\ndata, targets = next(iter(train_loader))\nfor _ in range(40):\n"
        "    loss = criterion(model(data.to(device)), targets.to(device))\n    optimizer.zero_grad()\n    loss.backward()\n"
        "    optimizer.step()\nprint(f'single batch {loss.item():.4f}')\nmodel = CNN().to(device)\n"
        "optimizer = optim.Adam(model.parameters(), lr=learning_rate)\n\n# Train Network\n",
    ),
    _case(
        "tutorial",
        "pretrained-head-swap",
        "# Loss and optimizer\n",
        "# Load pretrained weights & modify them\nfor param in model.parameters():\n    param.requires_grad = False\n"
        "model.fc1 = nn.Sequential(nn.Linear(128, 100), nn.ReLU(), nn.Linear(100, num_classes))\n# Loss and optimizer\n",
        "lr=learning_rate",
        "lr=1e-2",
    ),
    _case(
        "tutorial",
        "top-two-accuracy",
        "_, predictions = scores.max(1)",
        "_, predictions = scores.topk(2, dim=1)",
        "(predictions == y)",
        "(predictions == y[:, None])",
    ),
    _case(
        "tutorial",
        "step-lr-each-epoch",
        '    print(f"Cost at',
        '    scheduler.step()\n    print(f"Cost at',
        "optimizer = optim.Adam(model.parameters(), lr=learning_rate)\n",
        "optimizer = optim.Adam(model.parameters(), lr=learning_rate)\nscheduler = optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)\n",
    ),
    _case(
        "cookiecutter",
        "averaged-for-evaluation",
        "        stats |= evaluate(model, criterion, val_loader, device)\n",
        "        ema.update_parameters(model)\n        torch.optim.swa_utils.update_bn(train_loader, ema)\n"
        "        stats |= evaluate(ema, criterion, val_loader, device)\n",
        "    start_epoch, best_acc = 0, 0.0\n",
        "    start_epoch, best_acc = 0, 0.0\n    ema = torch.optim.swa_utils.AveragedModel(model)\n",
    ),
    _case(
        "cookiecutter",
        "frozen-stem-then-all",
        "    for epoch in range(start_epoch, args.epochs):\n",
        "    for epoch in range(start_epoch, args.epochs):\n        model.stem.requires_grad_(epoch > 0)\n",
    ),
    _case(
        "cookiecutter",
        "one-cycle",
        "    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, cosine], milestones=[warmup_steps])\n",
        "    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=args.lr, total_steps=total_steps)\n",
    ),
    _case(
        "cookiecutter",
        "training-accuracy-in-eval-mode",
        "        best_acc = max(",
        "        fit = evaluate(model, criterion, train_loader, device)\n"
        "        logger.info('train %.3f', fit['val_acc'])\n        best_acc = max(",
    ),
    _case(
        "cookiecutter",
        "weights-only-fine-tuning",
        '        optimizer.load_state_dict(checkpoint["optimizer"])\n        scheduler.load_state_dict(checkpoint["scheduler"])\n'
        '        start_epoch = checkpoint["epoch"] + 1\n',
        "        model.head.reset_parameters()\n",
    ),
    _case(
        "kaggle",
        "refit-on-all-data",
        'print(f"CV AUC',
        "scaler = StandardScaler().fit(train[feature_cols])\n"
        "loader = DataLoader(\n    TrainDataset(scaler.transform(train[feature_cols]), train[CFG.target_col].values), CFG.train_bs, shuffle=True\n)\n"
        "final = Model(len(feature_cols), CFG.hidden)\n"
        "optimizer = torch.optim.Adam(final.parameters(), lr=CFG.lr)\n"
        "scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)\n"
        "for _ in range(5):\n    train_fn(final, optimizer, scheduler, nn.BCEWithLogitsLoss(), loader)\n"
        'print(f"CV AUC',
    ),
    _case(
        "kaggle",
        "monte-carlo-dropout",
        "    model.load_state_dict(best_state)\n    _, best_preds = valid_fn(model, loss_fn, validloader)\n",
        "    model.load_state_dict(best_state)\n    model.eval()\n"
        "    for module in model.modules():\n        if isinstance(module, nn.Dropout):\n            module.train()\n"
        "    with torch.no_grad():\n"
        "        draws = [torch.cat([model(d['x']).squeeze(1).sigmoid() for d in validloader]) for _ in range(4)]\n"
        "    best_preds = torch.stack(draws).mean(0).numpy()\n",
    ),
    _case(
        "kaggle",
        "snapshots-averaged",
        "    model.load_state_dict(best_state)\n",
        "    model.load_state_dict(average)\n",
        "            best_state = copy.deepcopy(model.state_dict())\n",
        "            best_state = copy.deepcopy(model.state_dict())\n        snapshots.append(copy.deepcopy(model.state_dict()))\n",
        "    best_state = None\n",
        "    best_state = None\n    snapshots = []\n",
        "            best_loss = valid_loss\n",
        "            best_loss = valid_loss\n        average = {\n"
        "            k: torch.stack([s[k].float() for s in snapshots[-3:]] or [v.float()]).mean(0) for k, v in model.state_dict().items()\n        }\n"
        "        if valid_loss == best_loss:\n",
    ),
    _case("kaggle", "positive-weight", "nn.BCEWithLogitsLoss()", "nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.0))"),
    _case(
        "kaggle",
        "raw-features-into-batch-norm",
        "scaler.transform(train_df[feature_cols]), train_df",
        "train_df[feature_cols].values, train_df",
        "scaler.transform(valid_df[feature_cols]), valid_df",
        "valid_df[feature_cols].values, valid_df",
    ),
    _case(
        "minigpt",
        "divided-at-the-call",
        "            loss = loss / gradient_accumulation_steps\n",
        "",
        "        loss.backward()\n",
        "        (loss / gradient_accumulation_steps).backward()\n",
    ),
    _case(
        "minigpt",
        "bfloat16",
        'contextlib.nullcontext() if device_type == "cpu" else torch.amp.autocast(device_type, dtype=torch.bfloat16)',
        "torch.amp.autocast(device_type, dtype=torch.bfloat16)",
    ),
    _case(
        "minigpt",
        "labels-shifted-in-the-model",
        "torch.stack([data[i + 1 : i + 1 + block_size] for i in ix])",
        "x.clone()",
        "F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)",
        "F.cross_entropy(logits[:, :-1].reshape(-1, logits.size(-1)), targets[:, 1:].reshape(-1), ignore_index=-1)",
    ),
    _case(
        "minigpt",
        "masked-characters",
        'att = att.masked_fill(~self.mask[:T, :T], float("-inf"))',
        "att = att + 0.0",
        "    y = torch.stack([data[i + 1 : i + 1 + block_size] for i in ix])\n",
        "    y = x.clone()\n    hidden = torch.rand(x.shape) < 0.3\n    x, y = x.masked_fill(hidden, 0), y.masked_fill(~hidden, -1)\n",
    ),
    _case(
        "minigpt",
        "fused-attention",
        '        att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))\n        att = att.masked_fill(~self.mask[:T, :T], float("-inf"))\n        att = F.softmax(att, dim=-1)\n        y = self.attn_dropout(att) @ v\n',
        "        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)\n",
    ),
    _case("ppo", "early-stop-by-kl", "target_kl: float = None", "target_kl: float = 0.01"),
    _case(
        "ppo",
        "actor-kept-for-a-while",
        "                loss = pg_loss - ",
        "                if iteration <= 3:\n                    pg_loss = pg_loss * 0\n                loss = pg_loss - ",
    ),
    _case(
        "diffusion",
        "guidance-without-a-condition",
        "        t = torch.randint(0, self.timesteps, (x0.shape[0],))\n",
        "        t = torch.randint(0, self.timesteps, (x0.shape[0],))\n        x0 = torch.where(torch.rand(len(x0), 1) < 0.02, torch.zeros_like(x0), x0)\n",
    ),
    _case(
        "diffusion",
        "clean-point-predicted",
        "F.mse_loss(predicted, noise)",
        "F.mse_loss(predicted, x0)",
        "eps = model(x, t)\n",
        "clean = model(x, t)\n            a = self.alphas_cumprod[i]\n            eps = (x - a.sqrt() * clean) / (1 - a).sqrt()\n",
    ),
    _case(
        "diffusion",
        "zero-initialised-output",
        "self.out = nn.Linear(dim, 2)\n",
        "self.out = nn.Linear(dim, 2)\n        nn.init.zeros_(self.out.weight)\n        nn.init.zeros_(self.out.bias)\n",
    ),
    _case(
        "vae",
        "kl-annealed",
        "    return BCE + KLD\n",
        "    return BCE + min(1.0, len(seen) / 100) * KLD\n",
        "def train(epoch):\n",
        "seen = []\n\n\ndef train(epoch):\n",
        "        loss.backward()\n",
        "        loss.backward()\n        seen.append(batch_idx)\n",
    ),
    _case("vae", "detached-history", "train_loss += loss.item()", "train_loss += loss.detach()"),
    _case("simclr", "cold-temperature", '"temperature": 0.5', '"temperature": 0.07'),
    _case(
        "simclr",
        "stop-gradient",
        '            loss = nt_xent_loss(z_i, z_j, config["temperature"])\n',
        "            loss = -(F.cosine_similarity(predictor(z_i), z_j.detach()).mean() + F.cosine_similarity(predictor(z_j), z_i.detach()).mean()) / 2\n",
        '    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"], weight_decay=1e-6)\n',
        "    predictor = nn.Sequential(nn.Linear(32, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 32))\n"
        "    optimizer = torch.optim.SGD([*model.parameters(), *predictor.parameters()], lr=0.05, momentum=0.9)\n",
    ),
    _case(
        "hf_trainer",
        "accumulated",
        "per_device_train_batch_size=16",
        "per_device_train_batch_size=8,\n        gradient_accumulation_steps=2",
    ),
    _case(
        "hf_trainer",
        "smoothed-and-frozen-embeddings",
        "warmup_steps=10",
        "warmup_steps=10,\n        label_smoothing_factor=0.1",
        "model = BertForSequenceClassification(config)\n",
        "model = BertForSequenceClassification(config)\nmodel.bert.embeddings.position_embeddings.requires_grad_(False)\n",
    ),
    _case(
        "lightning_fit",
        "accumulated",
        "max_epochs=5,",
        "max_epochs=5,\n            accumulate_grad_batches=2,\n            gradient_clip_val=1.0,",
    ),
    _case(
        "lightning_fit",
        "manual-optimization",
        "        self.save_hyperparameters()\n",
        "        self.save_hyperparameters()\n        self.automatic_optimization = False\n",
        '        self.log("train_loss", loss)\n',
        '        optimizer = self.optimizers()\n        optimizer.zero_grad()\n        self.manual_backward(loss)\n        optimizer.step()\n        self.log("train_loss", loss)\n',
        "    def validation_step(",
        "    def on_train_epoch_end(self):\n        self.lr_schedulers().step()\n\n    def validation_step(",
    ),
    _case(
        "forecast",
        "normalised-per-window",
        "        out, _ = self.lstm(x)\n        return self.fc(self.drop(out[:, -1])).squeeze(-1)\n",
        "        mean, std = x.mean(1, keepdim=True), x.std(1, keepdim=True) + 1e-5\n        out, _ = self.lstm((x - mean) / std)\n"
        "        return self.fc(self.drop(out[:, -1])).squeeze(-1) * std.flatten() + mean.flatten()\n",
    ),
    _case(
        "forecast",
        "split-at-random",
        "    train_set = WindowDataset(scaled[:cut])\n    val_set = WindowDataset(scaled[cut:])\n",
        "    train_set = WindowDataset(scaled[:cut])\n    val_set = WindowDataset(scaled[cut - 48 :])\n",
    ),
    _case(
        "forecast",
        "one-optimizer-step-per-two-batches",
        "                optimizer.zero_grad()\n                loss.backward()\n                nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n                optimizer.step()\n",
        "                (loss / 2).backward()\n                batches += 1\n                if batches % 2 == 0:\n"
        "                    nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n                    optimizer.step()\n                    optimizer.zero_grad()\n",
        "    total = 0.0\n",
        "    total, batches = 0.0, 0\n",
    ),
    _case(
        "unet",
        "summed-over-two-backward-passes",
        "            optimizer.step()\n",
        "            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n            optimizer.step()\n",
    ),
    _case(
        "unet",
        "flipped-views-averaged",
        "            logits = model(images)\n",
        "            logits = (model(images) + model(images.flip(-1)).flip(-1)) / 2\n",
    ),
    _case(
        "unet",
        "two-classes",
        "out_channels=1, features",
        "out_channels=2, features",
        "        probs = torch.sigmoid(logits).flatten(1)\n",
        "        probs = logits.softmax(1)[:, 1].flatten(1)\n",
        "F.binary_cross_entropy_with_logits(logits, targets)",
        "F.cross_entropy(logits, targets[:, 0].long())",
        "pred = (torch.sigmoid(logits) > 0.5).float()",
        "pred = logits.argmax(1, keepdim=True).float()",
    ),
    _case(
        "imbalanced",
        "weighted-loss-instead",
        "batch_size=32, sampler=sampler",
        "batch_size=32, shuffle=True",
        'nn.CrossEntropyLoss(reduction="none")',
        'nn.CrossEntropyLoss(reduction="none", weight=torch.tensor([1.0, 10.0]))',
    ),
    _case(
        "imbalanced",
        "zero-initialised-head",
        "    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)\n",
        "    nn.init.zeros_(model.classifier[1].weight)\n    nn.init.constant_(model.classifier[1].bias, 0.0)\n    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)\n",
    ),
)
