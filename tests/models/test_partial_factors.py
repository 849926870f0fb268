"""Factors known for some of the data: what they teach, and errors at the door."""

from functools import partial

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from pyro_bvae import fit
from pyro_bvae.likelihoods import BernoulliLikelihood, NormalLikelihood
from pyro_bvae.models import PartialFactorsVAE
from pyro_bvae.models.partly_known import PartlyKnown
from pyro_bvae.networks import ContextEncoder, mlp_decoder, mlp_encoder
from pyro_bvae.objectives import ELBO
from pyro_bvae.posteriors import FullRankPosterior, MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from tests.models.cases import FACTORS, KNOWN, X, noise, partial_factors

PIXELS = 30


def linear_data(rows=400):
    """x = A y + noise, y two factors that no distribution of x alone can tell from rotated ones."""
    y, directions = noise(rows, 2), noise(2, PIXELS, seed=2)
    x = y @ directions + 3 * noise(rows, PIXELS, seed=4)
    covariance = directions.T @ directions + 9 * torch.eye(PIXELS)
    best = (directions @ torch.linalg.solve(covariance, directions.T)).diagonal().mean().item()
    return x, y, directions, best


def linear_vae():
    regressor = MeanFieldPosterior(mlp_encoder((PIXELS,), hidden=()), latents=2)
    encoder = ContextEncoder(mlp_encoder((PIXELS + 2,), hidden=()))
    return PartialFactorsVAE(
        NormalPrior(1),
        NormalLikelihood(mlp_decoder(1 + 2, (PIXELS,), hidden=()), scale="learned"),
        MeanFieldPosterior(encoder, latents=1),
        regressor,
        alpha=1.0,
    )


def explained(predicted, y):
    return (1 - (predicted - y).square().mean() / y.var()).item()


def test_known_factors_get_latents_of_their_own():
    """Each datum tells one of its two factors; both get the right direction, and the other's mean.

    Of the 200 data that tell a factor alone, an entry of its direction, of size 1, would have the
    error 3/√200 = 0.21, and the whole a cosine of 1/√(1 + 0.21²) = 0.98; of 400 unknown factors the
    share that is explained has an error of about (1 − best) √(2/400) = 0.02.
    """
    x, y, directions, best = linear_data()
    known = torch.tensor([[True, False], [False, True]]).repeat(len(x) // 2, 1)
    vae = linear_vae()
    optim = partial(torch.optim.Adam, lr=2e-2)
    data = (x, torch.where(known, y, 0.0), known)
    fit(vae, data, steps=500, batch_size=400, seed=0, optim=optim, progress=False)
    columns = vae.likelihood.decoder.net[0].weight.T[1:]
    assert (torch.cosine_similarity(columns, directions) > 0.95).all()
    assert explained(vae.predict(x)[~known], y[~known]) > best - 0.1


def test_what_is_unknown_counts_for_nothing():
    case = partial_factors()
    losses = []
    for filling in (0.0, 7.0):
        factors = torch.where(KNOWN, FACTORS, filling)
        torch.manual_seed(0)
        losses.append(ELBO().loss(*case.model_and_guide(2.0), X, factors, KNOWN))
    assert losses[0] == losses[1]


def test_all_known_and_none_known_need_no_mask():
    pair = partial_factors().model_and_guide(2.0)
    for short, whole in (
        ((X, FACTORS), (X, FACTORS, torch.ones_like(KNOWN))),
        ((X,), (X, FACTORS, torch.zeros_like(KNOWN))),
    ):
        losses = []
        for data in (short, whole):
            torch.manual_seed(0)
            losses.append(ELBO().loss(*pair, *data))
        assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_alpha_weighs_the_regression_term_alone():
    losses = []
    for alpha in (0.0, 1.0, 3.0):
        torch.manual_seed(0)
        case = partial_factors(alpha)
        torch.manual_seed(0)
        losses.append(ELBO().loss(*case.model_and_guide(1.0), *case.data))
    term = -case.model.regressor(X).base_dist.log_prob(FACTORS)[KNOWN].sum().item()
    assert losses[1] - losses[0] == pytest.approx(term)
    assert losses[2] - losses[0] == pytest.approx(3 * term)


def test_predict_encode_decode_sample():
    vae = partial_factors().model
    guess = vae.predict(X)
    mixed = torch.where(KNOWN, FACTORS, guess)
    assert torch.equal(vae.predict(X, FACTORS, KNOWN), mixed)
    assert torch.equal(vae.encode(X, FACTORS, KNOWN), vae.encode(X, mixed))
    expected = vae.decode(vae.encode(X, mixed), mixed)
    assert torch.equal(vae.reconstruct(X, FACTORS, KNOWN), expected)
    assert vae.sample(FACTORS).shape == X.shape
    assert vae.model(size=4).shape == (4, *X.shape[1:])


def test_partly_known_is_a_point_where_known():
    base, p = Normal(noise(5, 2, seed=5), 0.5), Normal(torch.zeros(2), 2.0)
    q = PartlyKnown(base, FACTORS, KNOWN)
    draws = q.expand((4000, 5, 2)).sample()
    assert (draws[:, KNOWN] == FACTORS[KNOWN]).all()
    # 5 standard errors of means and of variances of 4000 normal draws of sd 0.5
    torch.testing.assert_close(draws.mean(0), q.mean, atol=5 * 0.5 / 4000**0.5, rtol=0)
    torch.testing.assert_close(draws.var(0), q.variance, atol=5 * 0.25 * (2 / 4000) ** 0.5, rtol=0)
    kl = torch.distributions.kl_divergence(q, p)
    torch.testing.assert_close(kl[KNOWN], -p.log_prob(FACTORS)[KNOWN])
    torch.testing.assert_close(kl[~KNOWN], kl_divergence(base, p)[~KNOWN])
    assert (q.log_prob(draws[0])[KNOWN] == 0).all()


NAN = torch.where(KNOWN, FACTORS, torch.nan)


@pytest.mark.parametrize(
    ("rest", "error", "message"),
    [
        ((NAN, KNOWN), ValueError, "factors: expected finite numbers, .* factors.nan_to_num"),
        (
            (FACTORS[:3], KNOWN),
            ValueError,
            r"factors: expected shape \[5, 2\], a row for each x, got",
        ),
        ((FACTORS[:, :1], KNOWN), ValueError, r"factors: expected shape \[5, 2\], .* got \[5, 1\]"),
        ((FACTORS.long(), KNOWN), TypeError, "factors: expected .* floating-point .* torch.int64"),
        ((FACTORS, KNOWN.long()), TypeError, "known: expected a tensor of booleans, got torch.int"),
        ((FACTORS, KNOWN[:, 0]), ValueError, r"known: expected shape \[5, 2\], .* got \[5\]"),
        ((None, KNOWN), TypeError, "known: expected factors with it, got none"),
    ],
)
def test_refuses_factors(rest, error, message):
    model = partial_factors().model
    for function in (model.guide, model.model, model.encode, model.predict):
        with pytest.raises(error, match=message):
            function(X, *rest)


def test_refuses_parts():
    model = partial_factors().model
    parts = (model.prior, model.likelihood, model.posterior, model.regressor)
    with pytest.raises(ValueError, match="alpha: expected a finite number >= 0, got 'a'"):
        PartialFactorsVAE(*parts, alpha="a")
    wide = BernoulliLikelihood(mlp_decoder(5, X.shape[1:]))
    with pytest.raises(ValueError, match="expected a decoder of 4 numbers, latents and factors"):
        PartialFactorsVAE(parts[0], wide, *parts[2:], alpha=1.0)
    other = FullRankPosterior(mlp_encoder(X.shape[1:]), latents=2)
    with pytest.raises(TypeError, match="regressor: expected a MeanFieldPosterior, got FullRank"):
        PartialFactorsVAE(*parts[:3], other, alpha=1.0)
    plain = MeanFieldPosterior(mlp_encoder(X.shape[1:]), latents=2)
    with pytest.raises(TypeError, match="encoder: expected a network of two arguments"):
        PartialFactorsVAE(*parts[:2], plain, parts[3], alpha=1.0)
