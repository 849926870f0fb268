"""Collapsed latents are those of the water level, and codes off the prior are seen."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_bvae import VAE, theory
from pyro_bvae.diagnostics import collapse
from pyro_bvae.diagnostics.collapse import ACTIVE_SHARE
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import FullRankPosterior, MeanFieldPosterior
from pyro_bvae.priors import MixturePrior, NormalPrior, VampPrior
from tests.diagnostics.linear_pairs import optimum_pair
from tests.truths import NOISE, data_and_covariance, decoder_of, linear_vae, train

SPECTRUM = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.25], dtype=torch.float64)


def data(n=4000):
    """Data whose covariance is exactly diagonal, of this spectrum."""
    x = torch.randn(n, 5)
    x = x - x.mean(0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(x.mT @ x / n)).mT * SPECTRUM.sqrt()


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0, 4.0, 8.0])
def test_the_active_latents_are_those_above_the_water_level(beta):
    optimum = theory.linear_optimum(SPECTRUM, 4, beta=beta, likelihood_scale=NOISE)
    pair = optimum_pair(beta, latents=4, spectrum=SPECTRUM, noise=NOISE)
    found = collapse(pair, data())
    assert found.active.tolist() == (SPECTRUM[:4] > beta * 0.3).tolist()
    # The data have this covariance exactly.
    torch.testing.assert_close(found.kl, optimum.rates, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found.mean_variance, optimum.mean_variances, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found.posterior_variance, optimum.posterior_variances)
    torch.testing.assert_close(found.prior_variance, torch.ones(4))
    assert found.p_value > 0.01
    table = found.table()
    assert table["share"].sum() == pytest.approx(1)
    assert list(table.index) == ["z[0]", "z[1]", "z[2]", "z[3]"]


def test_verdicts_in_plain_words():
    words = {
        beta: collapse(optimum_pair(beta, latents=3, spectrum=SPECTRUM, noise=NOISE), data(800))
        for beta in (1.0, 8.0, 20.0)
    }
    assert str(words[1.0]).startswith("All 3 latents are active. 500 codes of the data cannot be")
    assert "1 of 3 latents are active" in words[8.0].verdict()[0]
    assert words[8.0].verdict()[0].endswith("z[1], z[2].")
    assert words[20.0].verdict()[0].startswith("All 3 latents collapsed")


def test_a_trained_vae_collapses_where_theory_says():
    x, _ = data_and_covariance()
    vae = linear_vae(3)
    train(vae, x, beta=4.0, steps=200)
    found = collapse(vae, x)
    assert found.active.sum() == theory.active_latents(
        SPECTRUM, 3, beta=4.0, likelihood_scale=NOISE
    )
    norms = decoder_of(vae).norm(dim=0)
    assert norms[~found.active].max() < 0.1 * norms[found.active].min()


def shifted(shift, scale, correlation=0.0):
    """Codes N(shift, scale²) whatever x is, of a standard normal prior."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            loc = torch.tensor([shift, 0.0]).expand(len(x), 2)
            cov = torch.tensor([[scale**2, correlation * scale], [correlation * scale, 1.0]])
            pyro.sample("z", dist.MultivariateNormal(loc, cov))

    return model, guide


@pytest.mark.parametrize(("shift", "scale"), [(0.7, 1.0), (0.0, 0.5), (0.0, 2.0)])
def test_codes_off_the_prior_are_seen_and_by_how_much(shift, scale):
    found = collapse(shifted(shift, scale), torch.randn(1000))
    exact = theory.normal_kl(torch.tensor([[shift]]), torch.tensor([[scale]])).item()
    assert not found.active.any()
    assert found.p_value < 0.01
    # All posteriors are one, so their mixture is exact; the draws' log q − log p have the variance
    # shift² σ² + (σ² − 1)²/2.
    variance = shift**2 * scale**2 + (scale**2 - 1) ** 2 / 2
    error = (variance / found.data) ** 0.5
    assert found.marginal_kl.low[0].item() == pytest.approx(exact, abs=4.5 * error)
    assert found.information.high.abs().max() < 1e-9
    assert "z[0], whose codes are" in found.verdict()[1]
    assert found.kl[0].item() == pytest.approx(exact)


def test_codes_whose_latents_are_off_together_only_are_seen():
    found = collapse(shifted(0.0, 1.0, correlation=0.7), torch.randn(1000))
    assert found.p_value < 0.01
    assert "it is how they go together" in found.verdict()[1]
    assert found.surgery.total_correlation.middle.item() == pytest.approx(
        -0.5 * torch.log(torch.tensor(1 - 0.49)).item(), abs=0.15
    )


def test_p_values_of_codes_that_fill_the_prior_are_not_small():
    pair = optimum_pair(1.0, latents=3, spectrum=SPECTRUM, noise=NOISE)
    values = [collapse(pair, data(200), compared=100, seed=s).p_value for s in range(20)]
    # Of 20 values, which are at most α with probability at most α, 4 below .05 come once in 60.
    assert sum(value < 0.05 for value in values) <= 5


def test_activity_is_a_share_of_the_priors_variance():
    def pair(scale):
        def model(x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(0.0, scale))
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

        def guide(x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(0.2 * scale * x, scale))

        return model, guide

    x = torch.randn(400)
    for scale in (0.1, 1.0, 10.0):
        found = collapse(pair(scale), x)
        assert found.active.tolist() == [True]
        assert found.mean_variance.item() == pytest.approx(0.04 * scale**2 * x.var().item())
    assert ACTIVE_SHARE == 0.01


def test_latents_of_a_prior_without_a_variance_are_active_where_they_move():
    """The quartiles of a Cauchy are 2 apart, here within 5 · .05 of it, as 4,000 draws say."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Cauchy(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z[..., 0], 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.stack([x, 0 * x], -1), 1.0).to_event(1))

    found = collapse((model, guide), torch.randn(4000))
    assert found.active.tolist() == [True, False]
    assert found.prior_variance.sqrt() == pytest.approx([2 / 1.349] * 2, abs=0.25 / 1.349)


def build(prior, posterior):
    return VAE(
        prior=prior,
        likelihood=NormalLikelihood(mlp_decoder(2, (5,), hidden=())),
        posterior=posterior,
    )


def test_other_priors_and_posteriors_are_taken():
    posterior = MeanFieldPosterior(mlp_encoder((5,), hidden=()), latents=2)
    full = FullRankPosterior(mlp_encoder((5,), hidden=()), latents=2)
    x = torch.randn(60, 5)
    for vae, exact in (
        (build(VampPrior(posterior, x[:3]), posterior), False),
        (build(MixturePrior(2, components=3), posterior), False),
        (build(NormalPrior(2, scale=dist.HalfNormal(1.0)), posterior), True),
        (build(NormalPrior(2), full), True),
    ):
        found = collapse(vae, x)
        assert found.surgery.exact == exact
        assert torch.isfinite(found.kl).all()
        assert found.data == 60


def test_bad_input_is_named():
    pair = shifted(0.0, 1.0)
    with pytest.raises(ValueError, match="compared: expected a whole number >= 1, got 0"):
        collapse(pair, torch.randn(20), compared=0)
    with pytest.raises(ValueError, match="x: expected at least 8 data"):
        collapse(pair, torch.randn(3))

    def broken(x):
        with pyro.plate("data", len(x)):
            loc = torch.full((len(x), 2), torch.inf)
            pyro.sample("z", dist.Normal(loc, 1.0, validate_args=False).to_event(1))

    with pytest.raises(ValueError, match="NaN or infinity from the guide"):
        collapse((pair[0], broken), torch.randn(20))


def test_parts_of_a_hierarchy_are_those_of_its_elbo():
    """z₂ ~ N(0, 1), z₁ ~ N(z₂, s), x ~ N(z₁, 1), with the exact posteriors as guide.

    E log q(z₁|x)/p(z₁|z₂) = ½ log s(v + 1)/v with v = 1 + s, and with z₂ it is I(x; z₁). A draw's
    log ratio has a standard deviation of at most 1: within 5 standard errors of 2,000 draws.
    """
    s, v = 0.09, 1.09

    def model(x):
        with pyro.plate("data", len(x)):
            above = pyro.sample("z2", dist.Normal(0.0, 1.0))
            z = pyro.sample("z1", dist.Normal(above, s**0.5))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z1", dist.Normal(x * v / (v + 1), (v / (v + 1)) ** 0.5))
            pyro.sample("z2", dist.Normal(z / v, (s / v) ** 0.5))

    x = torch.randn(2000) * (v + 1) ** 0.5
    lower, upper = (collapse((model, guide), x, site=name).kl.item() for name in ("z1", "z2"))
    assert lower == pytest.approx(0.5 * math.log(s * (v + 1) / v), abs=5 / 2000**0.5)
    assert lower + upper == pytest.approx(0.5 * math.log(v + 1), abs=5 / 2000**0.5)
