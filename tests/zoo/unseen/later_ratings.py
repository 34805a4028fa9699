"""A recommender: people and films as vectors, ratings from one to five, learned by matrix factorisation."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from diagnose import Pipeline
from zoo.cases import cases

PEOPLE, FILMS, RATINGS, TRAIN = 120, 80, 5200, 4600


@functools.lru_cache
def table():
    rng = np.random.default_rng(8)
    cell = rng.permutation(PEOPLE * FILMS)[:RATINGS]
    person, film = cell // FILMS, cell % FILMS
    taste, genre = rng.normal(0, 0.7, (PEOPLE, 3)), rng.normal(0, 0.7, (FILMS, 3))
    score = 3.4 + rng.normal(0, 0.5, PEOPLE)[person] + rng.normal(0, 0.6, FILMS)[film]
    score += (taste[person] * genre[film]).sum(1) + rng.normal(0, 0.3, RATINGS)
    return torch.tensor(person), torch.tensor(film), torch.tensor(score.round().clip(1, 5), dtype=torch.float32)


class Factors(nn.Module):
    def __init__(self, size=12, sparse=False, padding=None, keep=False, films=FILMS):
        super().__init__()
        self.person = nn.Embedding(PEOPLE, size, sparse=sparse)
        self.film = nn.Embedding(films, size, sparse=sparse, padding_idx=padding)
        self.person_bias = nn.Embedding(PEOPLE, 1, sparse=sparse)
        self.film_bias = nn.Embedding(films, 1, sparse=sparse)
        self.mean = nn.Parameter(torch.tensor(3.4)) if not sparse else 3.4
        self.keep = keep
        for e in (self.person, self.film, self.person_bias, self.film_bias):
            nn.init.normal_(e.weight, 0, 0.1)

    def forward(self, person, film):
        match = (self.person(person) * self.film(film)).sum(1, keepdim=True)
        score = match + self.person_bias(person) + self.film_bias(film) + self.mean
        return score if self.keep else score.squeeze(1)


def make(model=None, data=None, order=None, loss=None, compute_loss=None, optimizer=None, val=None, **rest):
    model = model or Factors()
    data = data or table()
    order = torch.arange(RATINGS) if order is None else order
    train = TensorDataset(*(column[order[:TRAIN]] for column in data))
    held = val or TensorDataset(*(column[order[TRAIN:]] for column in data))
    return Pipeline(
        model=model,
        train=DataLoader(train, batch_size=128, shuffle=True),
        val=DataLoader(held, batch_size=200),
        loss=None if compute_loss else loss or nn.MSELoss(),
        optimizer=optimizer or torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=1e-5),
        compute_loss=compute_loss,
        epochs=10,
        **rest,
    )


def build():
    return make()


# faults


def column_of_scores():
    return make(model=Factors(keep=True))


def film_zero_is_padding():
    person, film, rating = table()
    popular = film.bincount().argmax()
    film = torch.where(film == popular, 0, torch.where(film == 0, popular, film))
    return make(model=Factors(padding=0), data=(person, film, rating))


def tables_in_a_dictionary():
    class Dictionary(nn.Module):
        def __init__(self):
            super().__init__()
            self.tables = {"person": nn.Embedding(PEOPLE, 12), "film": nn.Embedding(FILMS, 12)}
            self.out = nn.Linear(24, 1)

        def forward(self, person, film):
            return self.out(torch.cat([self.tables["person"](person), self.tables["film"](film)], 1)).squeeze(1)

    return make(model=Dictionary())


def rows_of_data():
    class Rows(Factors):
        def forward(self, person, film):
            match = (self.person.weight.data[person] * self.film.weight.data[film]).sum(1)
            return match + self.person_bias(person)[:, 0] + self.mean

    return make(model=Rows())


def ratings_sampled_apart():
    person, film, rating = table()
    return make(data=(person, film, rating[torch.randperm(RATINGS, generator=torch.Generator().manual_seed(3))]))


def centred_rating_as_context():
    person, film, rating = table()

    class Context(Factors):
        def __init__(self):
            super().__init__()
            self.context = nn.Linear(3, 1)

        def forward(self, person, film, context):
            return super().forward(person, film) + self.context(context).squeeze(1)

    g = torch.Generator().manual_seed(1)
    weekday, hour = torch.rand(RATINGS, generator=g), torch.rand(RATINGS, generator=g)
    per_person = torch.zeros(PEOPLE).scatter_reduce(0, person, rating, "mean", include_self=False)
    above = rating - per_person[person]
    return make(model=Context(), data=(person, film, torch.stack([weekday, hour, above], 1), rating))


def penalty_on_whole_tables():
    def compute_loss(model, batch):
        person, film, rating = batch
        penalty = sum((p**2).sum() for p in model.parameters())
        return F.mse_loss(model(person, film), rating) + 0.5 * penalty

    return make(compute_loss=compute_loss)


def all_vectors_alike():
    model = Factors()
    nn.init.constant_(model.person.weight, 0.1)
    nn.init.constant_(model.film.weight, 0.1)
    return make(model=model)


def all_vectors_zero():
    model = Factors()
    nn.init.zeros_(model.person.weight)
    nn.init.zeros_(model.film.weight)
    return make(model=model)


def film_table_too_small():
    return make(model=Factors(films=FILMS - 1))


def same_ratings_again():
    person, film, rating = table()
    again = np.random.default_rng(0).permutation(TRAIN)[:600]
    return make(val=TensorDataset(person[again], film[again], rating[again]))


def person_unused():
    class Popular(Factors):
        def forward(self, person, film):
            return self.film_bias(film)[:, 0] + (self.film(film) ** 2).sum(1) + self.mean

    return make(model=Popular())


# healthy


def everything_sparse():
    model = Factors(sparse=True)
    return make(model=model, optimizer=torch.optim.SparseAdam(list(model.parameters()), lr=0.01))


def sorted_by_person():
    person, film, _ = table()
    order = torch.argsort(person * FILMS + film)
    return make(data=tuple(c[order] for c in table()), order=torch.randperm(RATINGS, generator=torch.manual_seed(1)))


def stars_as_classes():
    person, film, rating = table()

    class Stars(nn.Module):
        def __init__(self):
            super().__init__()
            self.person, self.film = nn.Embedding(PEOPLE, 16), nn.Embedding(FILMS, 16)
            self.body = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 5))

        def forward(self, person, film):
            return self.body(torch.cat([self.person(person), self.film(film)], 1))

    return make(model=Stars(), data=(person, film, rating.long() - 1), loss=nn.CrossEntropyLoss())


class Liked(Dataset):
    """What a person liked, with a film that is drawn anew every time."""

    def __init__(self, rows):
        person, film, rating = table()
        kept = rows[rating[rows] >= 4]
        self.person, self.film = person[kept], film[kept]

    def __len__(self):
        return len(self.person)

    def __getitem__(self, i):
        return self.person[i], self.film[i], torch.randint(FILMS, ())


def pairwise_ranking():
    def compute_loss(model, batch):
        person, liked, other = batch
        return -F.logsigmoid(model(person, liked) - model(person, other)).mean()

    pipeline = make(model=Factors(size=4), compute_loss=compute_loss)
    pipeline.train = DataLoader(Liked(torch.arange(TRAIN)), batch_size=128, shuffle=True)
    pipeline.val = DataLoader(Liked(torch.arange(TRAIN, RATINGS)), batch_size=200)
    return pipeline


def mean_of_person_as_context():
    """A mean over the training ratings is no leak of the rating itself."""
    person, film, rating = table()
    known = torch.zeros(PEOPLE).scatter_reduce(0, person[:TRAIN], rating[:TRAIN], "mean", include_self=False)

    class Context(Factors):
        def __init__(self):
            super().__init__()
            self.context = nn.Linear(1, 1)

        def forward(self, person, film, context):
            return super().forward(person, film) + self.context(context).squeeze(1)

    return make(model=Context(), data=(person, film, known[person, None] - 3.4, rating))


CASES = cases(
    build,
    {
        column_of_scores: "target-broadcast",
        film_zero_is_padding: "padding-idx-is-a-real-token",
        tables_in_a_dictionary: "unregistered-modules",
        rows_of_data: "graph-cut",
        ratings_sampled_apart: "labels-unrelated-to-inputs",
        centred_rating_as_context: "target-leaked-into-input",
        penalty_on_whole_tables: "regulariser-dominates",
        all_vectors_alike: "symmetric-initialisation",
        all_vectors_zero: ("symmetric-initialisation", "zero-gradient"),
        film_table_too_small: ("forward-shape-mismatch", "user-code-error"),
        same_ratings_again: "train-val-leakage",
        person_unused: ("ignored-input", "unused-parameters"),
    },
    [everything_sparse, sorted_by_person, stars_as_classes, pairwise_ranking, mean_of_person_as_context],
    structural=[film_zero_is_padding, centred_rating_as_context, same_ratings_again],
)
