"""Classifiers written in closed form, against plain computations and on made-up names."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from training.starter.words import discriminants, fit_text_classifiers

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT_DIM, CHANNELS, NAMES = 8, 24, 60


@pytest.fixture(scope="module")
def world():
    """Names whose features follow from their texts, beside a nuisance that pictures of one name differ by."""
    generator = torch.Generator().manual_seed(0)
    texts = F.normalize(torch.randn(NAMES, TEXT_DIM, generator=generator), dim=-1)
    seen_as = torch.linalg.qr(torch.randn(CHANNELS, TEXT_DIM, generator=generator)).Q.T
    rows = torch.arange(NAMES).repeat(30)
    nuisance = torch.zeros(CHANNELS)
    nuisance[0] = 3.0
    spread = torch.randn(len(rows), 1, generator=generator) * nuisance
    features = texts[rows] @ seen_as + spread + 0.1 * torch.randn(len(rows), CHANNELS, generator=generator)
    return texts, features, rows


def test_discriminants_are_those_of_one_name_after_the_other(world):
    _, features, rows = world
    found = discriminants(features, rows, ridge=0.2).numpy()
    values, names = features.numpy().astype(float), rows.numpy()
    middles = np.stack([values[names == name].mean(axis=0) for name in range(NAMES)])
    within = sum(np.outer(v - middles[n], v - middles[n]) for v, n in zip(values, names, strict=True)) / len(values)
    within += 0.2 * np.trace(within) / CHANNELS * np.eye(CHANNELS)
    for name in range(NAMES):
        direction = np.linalg.inv(within) @ (middles[name] - middles.mean(axis=0))
        np.testing.assert_allclose(found[name], direction / np.linalg.norm(direction), atol=1e-4)


def test_what_pictures_of_a_name_differ_by_weighs_little(world):
    _, features, rows = world
    means = torch.stack([features[rows == name].mean(dim=0) for name in range(NAMES)])
    plain = F.normalize(means - means.mean(dim=0), dim=-1)
    assert discriminants(features, rows, ridge=0.05)[:, 0].abs().mean() < 0.3 * plain[:, 0].abs().mean()


def test_a_name_counts_once_however_many_pictures_it_has(world):
    _, features, rows = world
    more = torch.cat([torch.arange(len(rows)), (rows == 3).nonzero()[:, 0].repeat(2)])
    again = discriminants(features[more], rows[more], ridge=5.0)
    assert F.cosine_similarity(again, discriminants(features, rows, ridge=5.0)).min() > 0.98


def written_from(world, known, *, noise=0.1, width=16):
    texts, features, rows = world
    kept = torch.isin(rows, known)
    mean = features[kept].mean(dim=0)
    place = torch.searchsorted(known, rows[kept])
    directions = discriminants(F.normalize(features[kept] - mean, dim=-1), place, ridge=0.05)
    return fit_text_classifiers(
        texts[known],
        directions,
        torch.full((len(known),), noise),
        mean,
        width=width,
        bandwidth=0.5,
        share=0.8,
        temperature=0.1,
    )


def answers(written, features):
    return F.normalize(features - written.mean, dim=-1) @ written.projection


def test_names_without_pictures_are_told_apart(world):
    texts, features, rows = world
    known, unknown = torch.arange(45), torch.arange(45, NAMES)
    written = written_from(world, known)
    asked = torch.isin(rows, unknown)
    chosen = (answers(written, features[asked]) @ written.classifiers(texts[unknown]).T).argmax(dim=1) + 45
    assert (chosen == rows[asked]).float().mean() > 0.6  # 1 of 15 by chance


def test_a_known_name_keeps_its_direction_but_for_the_noise(world):
    texts, features, rows = world
    directions = discriminants(features, rows, ridge=0.05)

    def lost(noise):
        ridge = torch.full((NAMES,), noise)
        made = fit_text_classifiers(
            texts, directions, ridge, features.mean(dim=0), width=CHANNELS, bandwidth=0.1, share=0.5, temperature=0.1
        )
        return 1 - F.cosine_similarity(made.classifiers(texts) @ made.projection.T, directions).mean().item()

    assert lost(1e-4) < 1e-4 < lost(3.0)


def test_noise_is_row_by_row(world):
    texts, features, rows = world
    directions = discriminants(features, rows, ridge=0.05)
    noise = torch.full((NAMES,), 1e-3)
    noise[5] = 10.0
    made = fit_text_classifiers(
        texts, directions, noise, features.mean(dim=0), width=CHANNELS, bandwidth=0.3, share=0.5, temperature=0.1
    )
    lost = 1 - F.cosine_similarity(made.classifiers(texts) @ made.projection.T, directions)
    assert lost[5] > 5 * lost[torch.arange(NAMES) != 5].max()


def test_fewer_dimensions_keep_most_and_columns_are_orthonormal(world):
    texts, features, _ = world
    whole, narrow = written_from(world, torch.arange(NAMES), width=CHANNELS), written_from(world, torch.arange(NAMES))
    torch.testing.assert_close(narrow.projection.T @ narrow.projection, torch.eye(16), atol=1e-5, rtol=0)
    full = answers(whole, features) @ whole.classifiers(texts).T
    less = answers(narrow, features) @ narrow.classifiers(texts).T
    assert (full.argmax(dim=1) == less.argmax(dim=1)).float().mean() > 0.9
