"""Coloured, noisy and correlated sprites follow the published laws, and stay functions."""

import math

import pytest
import torch
from torch.utils.data import DataLoader

from pyro_bvae.datasets import (
    Coloured,
    Correlated,
    FactorDataset,
    FactorTable,
    Noisy,
    Sprites,
    as_source,
)

SOME = torch.arange(5, 737_280, 9000)


class Numbers(FactorDataset):
    """One-pixel images on a grid, the pixel being the index."""

    def __init__(self, sizes=(6, 4, 5), names=("a", "b", "c")):
        super().__init__(names, sizes, (1, 1, 1))

    def images(self, indices):
        return self._checked(indices).double()[:, None, None, None]


@pytest.mark.parametrize("kind", [Coloured, Noisy])
def test_an_index_and_a_seed_give_one_image(kind):
    data = kind(Sprites(), seed=3)
    batch = data[SOME]
    assert data.shape == batch.shape[1:] == (3, 64, 64)
    assert torch.equal(batch, kind(Sprites(), seed=3)[SOME.flip(0)].flip(0))
    assert torch.equal(batch[4], data[int(SOME[4])])
    part = data.subset(shape=[1], scale=[5])
    at = part.parent_indices(torch.tensor([77, 3]))
    assert torch.equal(part[torch.tensor([77, 3])], data[at])
    assert not torch.equal(batch, kind(Sprites(), seed=4)[SOME])
    assert as_source(data) is data


@pytest.mark.parametrize("kind", [Coloured, Noisy])
def test_factors_are_those_of_the_sprites(kind):
    rows, images = kind(Sprites(), seed=0).sample(20, generator=torch.Generator().manual_seed(1))
    sprites = Sprites()[Sprites().index(rows)].bool()
    assert torch.equal(
        images > 0.4999 if kind is Coloured else images == 1, sprites.expand_as(images)
    )


def test_a_colour_is_uniform_from_a_half_to_one_on_black():
    images = Coloured(Sprites(), seed=0)[SOME]
    sprites = Sprites()[SOME].expand_as(images).bool()
    assert (images[~sprites] == 0).all()
    colours = images.amax((2, 3))
    assert torch.equal(images, sprites * colours[:, :, None, None])
    assert 0.5 <= colours.min() < colours.max() <= 1
    # 246 draws uniform on [½, 1]: the mean's deviation is 1/√(12·4·246); five of them.
    assert abs(colours.mean() - 0.75) < 5 / math.sqrt(48 * colours.numel())
    assert colours.unique().numel() == colours.numel()


def test_noise_is_uniform_and_independent_around_a_white_sprite():
    images = Noisy(Sprites(), seed=0)[SOME]
    sprites = Sprites()[SOME].expand_as(images).bool()
    assert (images[sprites] == 1).all()
    noise = images[~sprites]
    assert 0 <= noise.min() < noise.max() < 1
    n = noise.numel()
    # Mean and mean square of uniforms: deviations 1/√(12n) and √(4/45)/√n; five of them.
    assert abs(noise.mean() - 1 / 2) < 5 / math.sqrt(12 * n)
    assert abs(noise.square().mean() - 1 / 3) < 5 * math.sqrt(4 / 45 / n)
    red, green = images[:, 0, :3].flatten(), images[:, 1, :3].flatten()  # rows without a sprite
    # The correlation of independent channels has the deviation 1/√n; five of them.
    for other in (green, red.roll(1), red.roll(64 * 3)):
        assert abs(torch.corrcoef(torch.stack([red, other]))[0, 1]) < 5 / math.sqrt(len(red))


def test_images_have_the_default_dtype():
    torch.set_default_dtype(torch.float32)
    for kind in (Coloured, Noisy):
        assert kind(Sprites(), seed=0)[SOME].dtype == torch.float32


def test_a_variant_of_a_table_keeps_its_rows():
    rows = torch.tensor([[1, 0], [0, 1], [1, 0]])
    data = Noisy(FactorTable(torch.zeros(3, 1, 4, 4), rows), seed=0)
    assert torch.equal(data.factors(torch.arange(3)), rows)
    assert data.intervention(1, 0).tolist() == [1]


@pytest.mark.parametrize("kind", [Coloured, Noisy])
def test_bad_variants_are_refused(kind):
    with pytest.raises(ValueError, match=r"one channel, got \(3, 64, 64\)"):
        kind(Coloured(Sprites(), seed=0), seed=0)
    for seed in (-1, 0.5, 2**64):
        with pytest.raises(ValueError, match="seed: expected an integer from 0"):
            kind(Sprites(), seed=seed)


def law(first, second, sigma):
    """p(a, b), written out."""
    band = [
        [
            math.exp(-((a / (first - 1) - b / (second - 1)) ** 2) / (2 * sigma**2))
            for b in range(second)
        ]
        for a in range(first)
    ]
    return torch.tensor(band) / sum(map(sum, band))


@pytest.mark.parametrize("sigma", [0.05, 0.2, 0.7, 1e3])
def test_pairs_have_their_share_to_one_image(sigma):
    data = Correlated(Numbers((6, 4, 500)), "a", "b", sigma=sigma, seed=0)
    rows = data.factors(torch.arange(len(data)))
    counts = torch.bincount(rows[:, 0] * 4 + rows[:, 1], minlength=24).view(6, 4)
    assert len(data) == 12_000
    assert (counts - law(6, 4, sigma) * len(data)).abs().max() <= 1


def test_images_of_a_pair_come_equally_often_and_belong_to_their_factors():
    parent = Numbers((6, 4, 500))
    data = Correlated(parent, 1, 0, sigma=0.2, seed=0)
    every = torch.arange(len(data))
    assert torch.equal(parent.factors(data.parent_indices(every)), data.factors(every))
    assert torch.equal(data[every].view(-1).long(), data.parent_indices(every))
    counts = torch.bincount(data.parent_indices(every), minlength=len(parent)).view(24, 500)
    assert (counts.amax(1) - counts.amin(1)).max() == 1


def test_the_other_factors_stay_uniform_and_independent():
    data = Correlated(Numbers((6, 4, 2, 50), "abcd"), "a", "b", sigma=0.2, seed=0)
    rows = data.factors(torch.arange(len(data)))
    for other, size in ((2, 2), (3, 50)):
        joint = torch.bincount(rows[:, 0] * size + rows[:, other], minlength=6 * size)
        joint = joint.view(6, size).double()
        expected = joint.sum(1, keepdim=True) / size
        # A sum of squares that choosing without replacement makes smaller than chi-squared,
        # which has the mean 6 (size − 1) and the variance twice that; five deviations.
        degrees = 6 * (size - 1)
        assert ((joint - expected) ** 2 / expected).sum() < degrees + 5 * math.sqrt(2 * degrees)


def test_it_trains_and_it_samples():
    data = Correlated(Sprites(), "scale", "posX", sigma=0.1, seed=0)
    sample = data.sample(20_000, generator=torch.Generator().manual_seed(0)).factors
    measured = torch.corrcoef(sample[:, [2, 4]].T.double())[0, 1]
    p = law(6, 32, 0.1)
    a, b = (torch.arange(n).double() for n in (6, 32))
    mean_a, mean_b = p.sum(1) @ a, p.sum(0) @ b
    covariance = (a - mean_a) @ p @ (b - mean_b)
    expected = covariance / (p.sum(1) @ (a - mean_a) ** 2 * (p.sum(0) @ (b - mean_b) ** 2)).sqrt()
    assert expected > 0.9
    # A correlation's deviation is at most about (1 − ρ²)/√n for Gaussian tails; ten of them.
    assert abs(measured - expected) < 10 * (1 - expected**2) / math.sqrt(20_000)
    batch = next(iter(DataLoader(data.subset(shape=[2]), batch_size=8)))
    assert batch.shape == (8, 1, 64, 64)
    fixed = data.sample_fixing("scale", 500, generator=torch.Generator().manual_seed(0), value=0)
    assert fixed.factors[:, 4].double().mean() < 8


def test_the_seed_decides():
    first, again, other = (
        Correlated(Numbers(), "a", "b", sigma=0.3, seed=seed)[torch.arange(120)]
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("first", "second", "sigma", "complaint"),
    [
        ("a", "a", 0.1, "expected two factors"),
        ("a", "one", 0.1, r"two classes or more, got 'a' and 'one' of sizes \[6, 1\]"),
        ("a", "z", 0.1, "factor: expected one of"),
        ("a", "b", 0, "sigma: expected a positive number, got 0"),
        ("a", "b", math.inf, "sigma: expected a positive"),
        ("a", "b", math.nan, "sigma: expected a positive"),
    ],
)
def test_bad_correlations_are_refused(first, second, sigma, complaint):
    with pytest.raises(ValueError, match=complaint):
        Correlated(Numbers((6, 4, 1), ("a", "b", "one")), first, second, sigma=sigma, seed=0)
