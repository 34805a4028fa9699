"""Digit strings to their sorted selves, by an encoder and a decoder that is taught with the true prefix."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from diagnose import Pipeline
from zoo.cases import cases

BEGIN, END, PAD, WORDS = 10, 11, 12, 13
LONGEST, COUNT, TRAIN = 7, 2200, 1900


@functools.lru_cache
def sentences():
    g = torch.Generator().manual_seed(6)
    lengths = torch.randint(3, LONGEST + 1, (COUNT,), generator=g)
    return [torch.randint(0, 10, (int(n),), generator=g) for n in lengths]


class Sorting(Dataset):
    def __init__(self, begin, end):
        self.rows = sentences()[begin:end]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        source = self.rows[i]
        return source, torch.cat([torch.tensor([BEGIN]), source.sort().values, torch.tensor([END])])


def pad(rows, value=PAD):
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)


def collate(rows):
    return pad([source for source, _ in rows]), pad([target for _, target in rows])


class Translator(nn.Module):
    def __init__(self, width=48, masked=True, tied=False):
        super().__init__()
        self.words = nn.Embedding(WORDS, width, padding_idx=PAD)
        self.place = nn.Embedding(LONGEST + 3, width)
        self.net = nn.Transformer(width, 4, 1, 1, 96, dropout=0.0, batch_first=True)
        self.generator = nn.Linear(width, WORDS)
        if tied:
            nn.init.normal_(self.words.weight, 0, 0.1)
            self.generator.weight = self.words.weight
        self.masked = masked

    def embed(self, tokens):
        return self.words(tokens) + self.place(torch.arange(tokens.shape[1]))

    def hidden(self, source):
        return source == PAD

    def forward(self, source, target):
        mask = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1) if self.masked else None
        hidden = self.hidden(source)
        h = self.net(
            self.embed(source), self.embed(target), tgt_mask=mask,
            src_key_padding_mask=hidden, memory_key_padding_mask=hidden,
        )  # fmt: skip
        return self.generator(h)


def taught(model, batch):
    source, target = batch
    out = model(source, target[:, :-1])
    return F.cross_entropy(out.transpose(1, 2), target[:, 1:], ignore_index=PAD), out


def make(model=None, compute_loss=taught, optimizer=None, collate=collate, **rest):
    model = model or Translator()
    return Pipeline(
        model=model,
        train=DataLoader(Sorting(0, TRAIN), batch_size=64, shuffle=True, collate_fn=collate),
        val=DataLoader(Sorting(TRAIN, COUNT), batch_size=100, collate_fn=collate),
        compute_loss=compute_loss,
        optimizer=optimizer or torch.optim.Adam(model.parameters(), lr=2e-3),
        epochs=8,
        **rest,
    )


def build():
    return make()


# faults


def not_shifted():
    def loss(model, batch):
        source, target = batch
        out = model(source, target)
        return F.cross_entropy(out.transpose(1, 2), target, ignore_index=PAD), out

    return make(compute_loss=loss)


def no_mask_for_the_decoder():
    return make(model=Translator(masked=False))


def padding_number_of_another_vocabulary():
    def loss(model, batch):
        source, target = batch
        out = model(source, target[:, :-1])
        return F.cross_entropy(out.transpose(1, 2), target[:, 1:], ignore_index=1), out

    return make(compute_loss=loss)


def viewed_into_place():
    def loss(model, batch):
        source, target = batch
        out = model(source, target[:, :-1])
        n, steps, words = out.shape
        return F.cross_entropy(out.reshape(n, words, steps), target[:, 1:], ignore_index=PAD), out

    return make(compute_loss=loss)


def mask_upside_down():
    class Inverted(Translator):
        def hidden(self, source):
            return (source != PAD) & (torch.arange(source.shape[1]) > 0)

    return make(model=Inverted())


def padding_is_read():
    """The mean of all hidden states is the first thing that the decoder reads, padding included."""

    class Context(Translator):
        def hidden(self, source):
            return torch.zeros_like(source, dtype=torch.bool)

    return make(model=Context())


def summed_with_item():
    def loss(model, batch):
        source, target = batch
        out = model(source, target[:, :-1])
        total = 0.0
        for step in range(out.shape[1]):
            total += F.cross_entropy(out[:, step], target[:, step + 1], ignore_index=PAD).nan_to_num().item()
        return torch.tensor(total / out.shape[1], requires_grad=True), out

    return make(compute_loss=loss)


def generator_changed_later():
    model = Translator()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    model.generator = nn.Linear(48, WORDS)
    return make(model=model, optimizer=optimizer)


def choice_fed_on():
    """What is scored is the hard choice, put back among the words."""

    def loss(model, batch):
        source, target = batch
        choice = model(source, target[:, :-1]).argmax(-1)
        out = F.one_hot(choice, WORDS).float() * 10
        return F.cross_entropy(out.transpose(1, 2), target[:, 1:], ignore_index=PAD), out

    return make(compute_loss=loss)


def softmax_for_the_generator():
    model = Translator()
    model.generator = nn.Sequential(model.generator, nn.Softmax(dim=-1))
    return make(model=model)


# healthy


def tied_words():
    return make(model=Translator(tied=True))


def smoothed():
    def loss(model, batch):
        source, target = batch
        out = model(source, target[:, :-1])
        flat = out.reshape(-1, WORDS)
        return F.cross_entropy(flat, target[:, 1:].reshape(-1), ignore_index=PAD, label_smoothing=0.1), out

    return make(compute_loss=loss)


class Recurrent(nn.Module):
    """The prefix is now and then the model's own choice (scheduled sampling)."""

    def __init__(self, width=64):
        super().__init__()
        self.words = nn.Embedding(WORDS, width)
        self.encoder = nn.GRU(width, width, batch_first=True)
        self.cell = nn.GRUCell(2 * width, width)
        self.out = nn.Linear(width, WORDS)

    def forward(self, source, target):
        memory, _ = self.encoder(self.words(source))
        lengths = (source != PAD).sum(1)
        h = memory[torch.arange(len(source)), lengths - 1]
        word, logits = target[:, 0], []
        for step in range(target.shape[1]):
            weights = (memory @ h[:, :, None]).masked_fill((source == PAD)[:, :, None], -1e9).softmax(1)
            h = self.cell(torch.cat([self.words(word), (weights * memory).sum(1)], 1), h)
            logits.append(self.out(h))
            word = target[:, min(step + 1, target.shape[1] - 1)]
            if self.training and torch.rand(()) < 0.2:
                word = logits[-1].argmax(1)
        return torch.stack(logits, 1)


def scheduled_sampling():
    return make(model=Recurrent())


def one_step_after_the_other():
    def loss(model, batch):
        source, target = batch
        out = model(source, target[:, :-1])
        total, count = 0.0, 0
        for step in range(out.shape[1]):
            total = total + F.cross_entropy(out[:, step], target[:, step + 1], ignore_index=PAD, reduction="sum")
            count += int((target[:, step + 1] != PAD).sum())
        return total / count

    return make(compute_loss=loss)


CASES = cases(
    build,
    {
        not_shifted: ("misaligned-language-model-labels", "target-leaked-into-input"),
        no_mask_for_the_decoder: "future-leak",
        padding_number_of_another_vocabulary: "ignore-index-hits-class",
        viewed_into_place: "wrong-loss-axis",
        mask_upside_down: ("padding-affects-output", "ignored-input"),
        padding_is_read: "padding-affects-output",
        summed_with_item: "loss-detached",
        generator_changed_later: ("stale-optimizer-parameters", "parameters-missing-from-optimizer"),
        choice_fed_on: ("loss-detached", "graph-cut"),
        softmax_for_the_generator: "softmax-before-cross-entropy",
    },
    [tied_words, smoothed, scheduled_sampling, one_step_after_the_other],
    structural=[
        not_shifted,
        no_mask_for_the_decoder,
        padding_is_read,
        padding_number_of_another_vocabulary,
        viewed_into_place,
        generator_changed_later,
    ],
)
