"""Where β, σ_x and σ_z are the same knob, and where they are not, with the package's own parts."""

import itertools
import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal
from torch.nn.utils.parametrize import register_parametrization

from pyro_bvae import VAE, fit, theory
from pyro_bvae.likelihoods import BernoulliLikelihood, NormalLikelihood
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from pyro_bvae.selection import beta_sigma_study
from tests.truths import (
    NOISE,
    SPECTRUM,
    BalancedPosterior,
    data_and_covariance,
    decoder_of,
    linear_vae,
    terms_of,
)

BETA = 4.0


def quiet(
    vae: VAE, x: Tensor, *, beta: float, steps: int = 400, decay: float = 0.0, rate: float = 0.03
) -> VAE:
    """Train by Adam at two rates, with weight decay on the decoder's W alone."""
    weight = vae.likelihood.decoder.net[0].weight

    def adam(parameters: Any, lr: float) -> torch.optim.Optimizer:
        groups: list[Any] = [
            {"params": [p], "weight_decay": decay if p is weight else 0.0} for p in parameters
        ]
        return torch.optim.Adam(groups, lr=lr)

    for lr, share in ((rate, 1.0), (rate / 10, 0.4)):
        optim = partial(adam, lr=lr)
        options = {"batch_size": len(x), "optim": optim, "progress": False}
        fit(vae, x, beta=beta, steps=int(share * steps), **options)
    return vae


def moments(vae: VAE, x: Tensor) -> tuple[Tensor, Tensor]:
    posterior = vae.posterior(x)
    return posterior.mean.detach(), posterior.variance.detach().mean(0)


def with_axes(vae: VAE, covariance: Tensor) -> VAE:
    """Fix the decoder to the principal axes, the largest first."""
    weight = vae.likelihood.decoder.net[0].weight
    weight.data.copy_(torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, : weight.shape[1]])
    weight.requires_grad_(False)
    return vae


# 1. β and σ_x


def nonlinear(likelihood_scale: float | str, *, prior_scale: float = 1.0) -> VAE:
    torch.manual_seed(1)
    decoder = mlp_decoder(2, (5,), hidden=(16,))
    encoder = mlp_encoder((5,), hidden=(16,))
    return VAE(
        prior=NormalPrior(2, scale=prior_scale),
        likelihood=NormalLikelihood(decoder, scale=likelihood_scale),
        posterior=MeanFieldPosterior(encoder, latents=2),
    )


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_beta_is_the_variance_of_a_normal_likelihood_for_any_network(optimiser: str):
    """The losses are β times each other: SGD with rates 1 : β, or Adam, take the same steps."""
    x = torch.randn(40, 5)
    by_beta, by_sigma = nonlinear(NOISE), nonlinear(NOISE * BETA**0.5)
    for vae, beta, rate in ((by_beta, BETA, 0.002), (by_sigma, 1.0, 0.002 * BETA)):
        sgd = partial(torch.optim.SGD, lr=rate)
        adam = partial(torch.optim.Adam, lr=0.01, eps=1e-30)
        optim = sgd if optimiser == "sgd" else adam
        fit(vae, x, beta=beta, steps=60, batch_size=20, optim=optim, progress=False)
    three = zip(*(v.named_parameters() for v in (by_beta, by_sigma, nonlinear(1.0))), strict=True)
    for (name, value), (_, other), (_, untrained) in three:
        assert torch.allclose(value, other, rtol=0, atol=1e-9), name
        assert (value - untrained).abs().max() > 1e-2


def test_a_bernoulli_likelihood_has_no_scale_that_is_beta():
    """(1/β) log p must be, up to a constant, the log p of another member of the family."""
    x = torch.bernoulli(torch.full((1, 6), 0.5))
    z = torch.randn(200, 3)
    decoder = mlp_decoder(3, (6,))

    def misfit(hot: Tensor, member: Tensor) -> float:
        return (hot / BETA - member).std().item()

    normal = {s: NormalLikelihood(decoder, scale=s)(z).log_prob(x) for s in (0.5, 0.5 * BETA**0.5)}
    assert misfit(*normal.values()) < 1e-12
    hot = BernoulliLikelihood(decoder)(z).log_prob(x)
    assert hot.std() > 0.1

    def at(factor: Tensor) -> Tensor:
        return BernoulliLikelihood(nn.Sequential(decoder, Times(factor)))(z).log_prob(x)

    assert min(misfit(hot, at(factor)) for factor in torch.linspace(0, 3, 61)) > 0.01


class Times(nn.Module):
    def __init__(self, factor: Tensor) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, logits: Tensor) -> Tensor:
        return self.factor * logits


# 2. β and σ_z


def build(*, prior_scale: float | str, likelihood_scale: float | str) -> VAE:
    return linear_vae(
        3, prior=prior_scale, likelihood=likelihood_scale, posterior=BalancedPosterior
    )


def test_a_free_decoder_makes_sigma_z_a_gauge_even_when_it_is_learned():
    x, _ = data_and_covariance(64)
    options = {"batch_size": 64, "num_particles": 1, "progress": False}
    table = beta_sigma_study(
        build,
        x,
        betas=(2.0,),
        prior_scales=(0.5, 1.0, 2.0, "learned"),
        likelihood_scales=(NOISE,),
        steps=600,
        optim=partial(torch.optim.Adam, lr=0.03),
        **options,
    )
    best = theory.linear_optimum(SPECTRUM, 3, beta=2.0, likelihood_scale=NOISE)
    assert table["kl"].to_numpy() == pytest.approx(best.rate.item(), abs=0.04)
    assert table["reconstruction"].to_numpy() == pytest.approx(best.distortion.item(), abs=0.1)
    for scale, variances in zip(
        table["prior_scale_after"], table["posterior_variance"], strict=True
    ):
        relative = torch.tensor(variances).sort().values / scale[0] ** 2
        assert relative == pytest.approx(best.posterior_variances, abs=0.04)


def in_units(vae: VAE) -> VAE:
    """Write what makes the means in units of σ_z, and what reads z in units of 1/σ_z."""
    scale, head = vae.prior.scale().item(), vae.posterior.head
    units = torch.tensor([scale, scale, 1.0, 1.0])
    head.bias.data[2:] += 2 * math.log(scale)
    register_parametrization(head, "weight", Times(units[:, None]))
    register_parametrization(head, "bias", Times(units))
    first = vae.likelihood.decoder.net[0]
    register_parametrization(first, "weight", Times(torch.tensor(1 / scale)))
    return vae


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_adam_trains_any_network_alike_at_all_sigma_z_if_weights_are_in_its_units(scale: float):
    """Its steps have the length of its rate, whatever the gradient: units are all it can miss."""
    x = torch.randn(40, 5)
    adam = partial(torch.optim.Adam, lr=0.01, eps=1e-30)

    def trained(vae: VAE) -> VAE:
        fit(vae, x, beta=BETA, steps=60, batch_size=20, optim=adam, progress=False)
        return vae

    one, units, usual = (
        trained(nonlinear(NOISE)),
        trained(in_units(nonlinear(NOISE, prior_scale=scale))),
        trained(nonlinear(NOISE, prior_scale=scale)),
    )
    assert units.encode(x) / scale == pytest.approx(one.encode(x), abs=1e-6)
    assert (usual.encode(x) / scale - one.encode(x)).abs().max() > 0.1


def test_a_fixed_decoder_makes_beta_a_prior_with_the_same_means_and_beta_times_the_variance():
    x, covariance = data_and_covariance(64)
    by_beta = with_axes(linear_vae(3, posterior=BalancedPosterior), covariance)
    by_prior = with_axes(linear_vae(3, prior=BETA**-0.5, posterior=BalancedPosterior), covariance)
    decoder = decoder_of(by_beta)
    mean, variance = moments(quiet(by_beta, x, beta=BETA), x)
    mean_prior, variance_prior = moments(quiet(by_prior, x, beta=1.0), x)
    exact = theory.tempered_posterior(decoder, beta=BETA, likelihood_scale=NOISE)
    assert mean == pytest.approx(x @ exact.weight.mT, abs=0.02)
    assert mean_prior == pytest.approx(mean, abs=0.02)
    assert variance == pytest.approx(exact.covariance.diagonal(), rel=0.02)
    assert variance == pytest.approx(BETA * variance_prior, rel=0.02)


@pytest.mark.parametrize(
    ("prior", "beta", "squares"),
    [
        (1.0, 1.0, (0.886141, 0.480776, 0.2)),
        (0.5, 1.0, (1.389454, 0.565564, 0.0)),
        (0.5, 2.0, (1.131129, 0.0, 0.0)),
    ],
)
def test_weight_decay_makes_sigma_z_switch_latents_off_like_beta(prior, beta, squares):
    x, _ = data_and_covariance(64)
    vae = linear_vae(3, prior=prior, posterior=BalancedPosterior)
    quiet(vae, x, beta=beta, decay=2.0)
    found = decoder_of(vae).square().sum(0).sort(descending=True).values
    exact = theory.weight_decay_singular_values(
        SPECTRUM, 3, weight_decay=2.0, beta=beta, likelihood_scale=NOISE, prior_scale=prior
    )
    assert exact**2 == pytest.approx(torch.tensor(squares), abs=1e-6)
    assert found == pytest.approx(exact**2, abs=0.02)


def test_orthonormal_columns_make_sigma_z_a_knob_of_the_rate():
    x, covariance = data_and_covariance(64)
    rates = {}
    for beta, prior in ((1.0, 1.0), (1.0, 0.5), (4.0, 1.0)):
        vae = linear_vae(3, prior=prior, posterior=BalancedPosterior)
        orthogonal(vae.likelihood.decoder.net[0])
        quiet(vae, x, beta=beta)
        rates[beta, prior] = terms_of(vae, x, covariance, beta).rate.item()
        exact = theory.unit_norm_rates(
            SPECTRUM, 3, beta=beta, likelihood_scale=NOISE, prior_scale=prior
        )
        assert rates[beta, prior] == pytest.approx(exact.sum().item(), abs=0.02)
    assert rates[4.0, 1.0] < rates[1.0, 0.5] - 2


# 4. Learned σ_x


def test_a_learned_sigma_x_does_not_take_beta_away():
    """If β and σ_x were one knob here, their product would not depend on β."""
    x, _ = data_and_covariance(64)
    betas = (0.5, 1.0, 1.5, 2.0, 4.0)
    table = beta_sigma_study(
        build,
        x,
        betas=betas,
        likelihood_scales=("learned",),
        steps=500,
        warm_steps=350,
        batch_size=64,
        num_particles=1,
        optim=partial(torch.optim.Adam, lr=0.03),
        progress=False,
    )
    found = torch.tensor(table["likelihood_scale_after"])
    exact = torch.stack([theory.learned_likelihood_scale(SPECTRUM, 3, beta=b) for b in betas])
    assert found == pytest.approx(exact, rel=0.02)
    assert list(table["active"]) == [3, 3, 2, 1, 0]
    levels = torch.tensor(betas) * found**2
    assert all(later > 1.5 * sooner for sooner, later in itertools.pairwise(levels.tolist()))


def test_a_learned_sigma_z_leaves_a_learned_sigma_x_where_it_was():
    x, _ = data_and_covariance(64)
    table = beta_sigma_study(
        build,
        x,
        betas=(1.5,),
        prior_scales=("learned",),
        likelihood_scales=("learned",),
        steps=600,
        batch_size=64,
        num_particles=1,
        optim=partial(torch.optim.Adam, lr=0.03),
        progress=False,
    )
    exact = theory.learned_likelihood_scale(SPECTRUM, 3, beta=1.5)
    assert table["likelihood_scale_after"][0] == pytest.approx(exact.item(), rel=0.02)
    assert table["active"][0] == 2


# 5. Conversions


@pytest.mark.parametrize(("convention", "weight"), [("sum", 0.5), ("half", 1.0), ("mean", 0.3)])
def test_equivalent_beta_has_the_minimum_of_the_loss_of_a_paper(convention: str, weight: float):
    """Gradients of c‖x − x̂‖² + B·KL and of the package's loss are parallel, for any network."""
    x = torch.randn(40, 5)
    vae = nonlinear(0.7)
    beta = theory.equivalent_beta(
        weight, squared_error=convention, likelihood_scale=0.7, dimensions=5
    )

    def gradient(loss: Tensor) -> Tensor:
        return torch.cat(
            [g.flatten() for g in torch.autograd.grad(loss, [*vae.parameters()], retain_graph=True)]
        )

    posterior = vae.posterior(x)
    z = posterior.rsample()
    kl = theory.normal_kl(posterior.mean, posterior.stddev).sum()
    squared = (x - vae.likelihood(z).mean).square()
    error = {"sum": squared.sum(), "half": squared.sum() / 2, "mean": squared.mean(1).sum()}
    theirs = error[convention] + weight * kl
    ours = beta * kl - vae.likelihood(z).log_prob(x).sum()
    pulled = [gradient(loss) for loss in (theirs, ours)]
    assert torch.cosine_similarity(*pulled, dim=0) == pytest.approx(1.0, abs=1e-12)
