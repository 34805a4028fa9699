"""A tagger of sequences: recurrent in both directions, one class per token, padding ignored."""

import os

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(int(os.environ.get("SEED", "0")))
WORDS, TAGS, PAD = 50, 5, 0


class Sentences(Dataset):
    def __init__(self, count):
        lengths = torch.randint(5, 15, (count,))
        self.items = [torch.randint(1, WORDS, (int(n),)) for n in lengths]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        words = self.items[i]
        previous = torch.cat([words[:1], words[:-1]])
        return words, (words + previous) % TAGS


def collate(batch):
    words, tags = zip(*batch, strict=True)
    pad = nn.utils.rnn.pad_sequence
    return pad(words, batch_first=True, padding_value=PAD), pad(tags, batch_first=True, padding_value=-1)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 24, padding_idx=PAD)
        self.lstm = nn.LSTM(24, 32, batch_first=True, bidirectional=True)
        self.head = nn.Linear(64, TAGS)

    def forward(self, words):
        out, _ = self.lstm(self.embedding(words))
        return self.head(out)


train_data = DataLoader(Sentences(400), batch_size=16, shuffle=True, collate_fn=collate)
valid_data = DataLoader(Sentences(80), batch_size=40, collate_fn=collate)
tagger = Tagger()
loss_function = nn.CrossEntropyLoss(ignore_index=-1)
optimizer = torch.optim.Adam(tagger.parameters(), lr=5e-3)
for epoch in range(4):
    tagger.train()
    for words, tags in train_data:
        tagger.zero_grad()
        scores = tagger(words)
        loss = loss_function(scores.permute(0, 2, 1), tags)
        loss.backward()
        optimizer.step()
    tagger.eval()
    with torch.no_grad():
        right = known = 0
        for words, tags in valid_data:
            mask = tags != -1
            right += (tagger(words).argmax(-1) == tags)[mask].sum().item()
            known += mask.sum().item()
    print(epoch, loss.item(), right / known)
