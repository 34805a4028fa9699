"""Hugging Face's Trainer with a small BERT from scratch: made-up reviews, padded by a collator, accuracy each epoch."""

import os
import random
import tempfile

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

set_seed(int(os.environ.get("SEED", 0)))

GOOD = ["great", "lovely", "fine", "superb", "happy", "bright"]
BAD = ["awful", "boring", "poor", "dreadful", "sad", "dull"]
PLAIN = ["the", "film", "actor", "was", "scene", "and", "then", "music", "story", "a", "long", "first", "end"]
VOCAB = {word: i for i, word in enumerate(["[PAD]", "[CLS]", "[SEP]", *GOOD, *BAD, *PLAIN])}


def make_reviews(n, seed):
    rng = random.Random(seed)
    reviews = []
    for _ in range(n):
        label = rng.randrange(2)
        words = rng.choices(PLAIN, k=rng.randint(4, 12))
        for word in rng.sample(GOOD if label else BAD, 2):
            words.insert(rng.randrange(len(words)), word)
        ids = [VOCAB["[CLS]"], *(VOCAB[w] for w in words), VOCAB["[SEP]"]]
        reviews.append({"input_ids": ids, "labels": label})
    return reviews


class ReviewDataset(torch.utils.data.Dataset):
    def __init__(self, reviews):
        self.reviews = reviews

    def __len__(self):
        return len(self.reviews)

    def __getitem__(self, idx):
        return self.reviews[idx]


def collate(features):
    longest = max(len(f["input_ids"]) for f in features)
    ids = torch.zeros(len(features), longest, dtype=torch.long)
    mask = torch.zeros(len(features), longest, dtype=torch.long)
    for row, f in enumerate(features):
        ids[row, : len(f["input_ids"])] = torch.tensor(f["input_ids"])
        mask[row, : len(f["input_ids"])] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([f["labels"] for f in features])}


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    predictions = np.argmax(logits, axis=-1)
    return {"accuracy": float((predictions == labels).mean())}


config = BertConfig(
    vocab_size=len(VOCAB),
    hidden_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=96,
    max_position_embeddings=32,
    num_labels=2,
)
model = BertForSequenceClassification(config)

with tempfile.TemporaryDirectory() as output:
    training_args = TrainingArguments(
        output_dir=output,
        num_train_epochs=3,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=64,
        learning_rate=1e-3,
        weight_decay=0.01,
        warmup_steps=10,
        eval_strategy="epoch",
        save_strategy="no",
        logging_steps=20,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=ReviewDataset(make_reviews(800, 1)),
        eval_dataset=ReviewDataset(make_reviews(200, 2)),
        data_collator=collate,
        compute_metrics=compute_metrics,
    )
    trainer.train()
    print(trainer.evaluate())
