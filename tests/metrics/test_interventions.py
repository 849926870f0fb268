"""The metrics that hold factors: their batches, what is encoded, and known scores."""

import numpy as np
import pytest
import torch

from pyro_bvae.metrics import beta_vae_score, factor_vae_score
from pyro_bvae.metrics.interventions import Codebook, held_batches, held_pairs

SIZES = (3, 6, 40, 32, 32)
SMALL = {"train": 2000, "evaluation": 1500}
METRICS = [beta_vae_score, factor_vae_score]


def rotated(rows):
    """Both positions turned by 45°."""
    codes = rows.to(torch.float64)
    x, y = codes[:, 3].clone(), codes[:, 4].clone()
    codes[:, 3], codes[:, 4] = (x + y) / 2**0.5, (x - y) / 2**0.5
    return codes


def noise(rows):
    return torch.randn(len(rows), 10, generator=torch.Generator().manual_seed(len(rows)))


def test_batches_hold_one_factor_and_vary_the_others_uniformly():
    batches = held_batches(SIZES, 2000, 64, np.random.default_rng(0))
    columns = np.stack(np.unravel_index(batches.points, SIZES), axis=-1)
    classes = np.array([[len(np.unique(c)) for c in batch.T] for batch in columns])
    held = np.eye(5, dtype=bool)[batches.held]
    assert (classes[held] == 1).all()
    assert (classes[~held] > 1).all()
    # five equal shares of 2000: sd √(2000 · .16) = 18; of 128,000 points over 3 shapes: .0013,
    # but those held move together: 400 batches of one shape each add .2 √(2/9/400) = .0047
    assert np.bincount(batches.held) == pytest.approx(400, abs=72)
    assert np.bincount(columns[..., 0].ravel()) / 128_000 == pytest.approx(1 / 3, abs=0.02)


def test_pairs_share_one_factor_each_pair_its_own_class():
    first, second = held_pairs((4, 5), 300, 16, np.random.default_rng(0))
    a = np.stack(np.unravel_index(first.points, (4, 5)), axis=-1)
    b = np.stack(np.unravel_index(second.points, (4, 5)), axis=-1)
    held = np.eye(2, dtype=bool)[first.held]
    shared = (a == b).mean(axis=1)
    assert (shared[held] == 1).all()
    assert shared[~held].mean() < 0.3
    assert all(len(np.unique(a[i, :, k])) > 1 for i, k in enumerate(first.held))


@pytest.mark.parametrize("metric", METRICS)
def test_every_distinct_point_is_encoded_once(metric):
    seen = []

    def encode(rows):
        assert rows.dtype == torch.int64
        seen.append(rows)
        return rows * 1.0

    metric(encode, (3, 4, 500), **SMALL)
    rows = torch.cat(seen)
    assert len(rows.unique(dim=0)) == len(rows) <= 6000
    assert len(seen) == -(-len(rows) // 4096)


@pytest.mark.parametrize(
    ("encode", "beta_vae", "factor_vae"),
    # sd of 1500 answers: √(.16/1500) = .0103; of the classifier's 2000 about as much
    [(rotated, 0.805, 0.80), (noise, 0.22, 0.20)],
)
def test_rotated_and_noise_codes_score_what_is_known(encode, beta_vae, factor_vae):
    ours = beta_vae_score(encode, SIZES, **SMALL), factor_vae_score(encode, SIZES, **SMALL)
    assert [s.score for s in ours] == pytest.approx([beta_vae, factor_vae], abs=0.05)
    assert all(s.interval[0] < s.score < s.interval[1] for s in ours)


@pytest.mark.parametrize("metric", METRICS)
def test_perfect_code_scores_one(metric):
    result = metric(lambda rows: rows, SIZES, **SMALL)
    assert result.score == result.train_accuracy == result.ceiling == 1.0
    assert result.interval == (1.0, 1.0)


def test_confusion_and_votes_count_every_batch():
    confusion = beta_vae_score(rotated, SIZES, **SMALL).confusion
    votes = factor_vae_score(rotated, SIZES, **SMALL)
    assert confusion.sum() == votes.votes.sum() == 1500
    assert (confusion[3:, :3].sum(), confusion[:3, 3:].sum()) == (0, 0)
    assert np.array_equal(votes.active, np.ones(5, dtype=bool))


def test_factor_vae_ignores_latents_that_hardly_vary():
    def encode(rows):
        codes = rows.to(torch.float64)
        return torch.cat([1e-4 * codes, codes.new_full((len(rows), 1), 0.1), codes], dim=1)

    result = factor_vae_score(encode, (3, 4), **SMALL)
    assert result.active.tolist() == [False] * 3 + [True] * 2
    assert result.votes[:3].sum() == 0
    assert result.score == 1.0


def test_factor_vae_without_active_latents_is_zero():
    result = factor_vae_score(lambda rows: 0.001 * rows, (3, 4), **SMALL)
    assert (result.score, result.interval, result.votes.sum()) == (0.0, None, 0)


def test_factor_vae_does_not_mind_scale():
    scale = torch.tensor([1.0, 8.0, 0.5, 2.0, 0.25])
    before = factor_vae_score(rotated, SIZES, **SMALL)
    after = factor_vae_score(lambda rows: rotated(rows) * scale, SIZES, **SMALL)
    assert before.score == after.score


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("encode", "sizes", "options", "message"),
    [
        (lambda rows: rows, (1, 4), {}, "factor_sizes: expected two classes or more"),
        (lambda rows: rows, (3, 4), {"train": 0}, "train: expected a whole number >= 1"),
        (lambda rows: rows, (3, 4), {"seed": -1}, "seed: expected a whole number >= 0"),
        (lambda rows: rows[:-1], (3, 4), {}, "codes from encode: expected one row for each"),
        (lambda rows: rows[:, 0], (3, 4), {}, "codes from encode: expected an array"),
        (lambda rows: rows / 0.0, (3, 4), {}, "codes from encode: expected finite"),
    ],
)
def test_bad_arguments_are_refused(metric, encode, sizes, options, message):
    with pytest.raises(ValueError, match=message):
        metric(encode, sizes, **(SMALL | options))


def test_codebook_encodes_a_last_lone_point():
    book = Codebook(lambda rows: rows * 1.0, (2, 3), np.arange(5), chunk=2)
    assert book.codes(np.array([[4, 0]])).tolist() == [[[1.0, 1.0], [0.0, 0.0]]]
