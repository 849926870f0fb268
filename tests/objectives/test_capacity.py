"""The capacity objective at the exact optimum of the linear VAE."""

from functools import partial

import pyro
import pytest
import torch
from pyro import distributions as dist

from pyro_bvae import fit, tempered, theory
from pyro_bvae.objectives import CapacityELBO
from pyro_bvae.training import CompiledSVI, schedules
from tests.objectives.examples import data, small_vae
from tests.truths import (
    NOISE,
    SPECTRUM,
    BalancedPosterior,
    data_and_covariance,
    linear_vae,
    terms_of,
)


def test_theory_gives_the_golden_values():
    for capacity, gamma, rate, distortion in (
        (1.0, 100.0, 1.0, 7.969828),
        (2.0, 100.0, 2.0, 5.470732),
        (1.0, 3.0, 1.197762, None),
    ):
        optimum = theory.capacity_optimum(
            SPECTRUM, 3, capacity=capacity, gamma=gamma, likelihood_scale=NOISE
        )
        assert optimum.rate.item() == pytest.approx(rate, abs=1e-6)
        if distortion:
            assert optimum.distortion.item() == pytest.approx(distortion, abs=1e-6)


def at_the_optimum(beta):
    """A linear VAE at the exact optimum of this β, and its data."""
    x, covariance = data_and_covariance(60)
    decoder = theory.optimal_decoder(covariance, 3, beta=beta, likelihood_scale=NOISE)
    guide = theory.diagonal_guide(decoder, beta=beta, likelihood_scale=NOISE)
    vae = linear_vae(3, posterior=BalancedPosterior)
    with torch.no_grad():
        vae.likelihood.decoder.net[0].weight.copy_(decoder)
        vae.likelihood.decoder.net[0].bias.zero_()
        vae.posterior.head.weight.copy_(torch.cat([guide.weight, torch.zeros(3, 5)]))
        log_variances = guide.covariance.diagonal().log()
        vae.posterior.head.bias.copy_(torch.cat([torch.zeros(3), log_variances]))
    return vae, x


def slope(value, vae):
    """The gradient, without that of q's variance with x, which the balanced noise leaves noisy."""
    head = vae.posterior.head
    decoder = list(vae.likelihood.decoder.parameters())
    found = torch.autograd.grad(
        value, [head.weight, head.bias, *decoder], retain_graph=True, materialize_grads=True
    )
    return torch.cat([found[0][:3].reshape(-1), *[g.reshape(-1) for g in found[1:]]])


@pytest.mark.parametrize(
    ("capacity", "distortion", "beta"), [(1.0, 7.969828, 3.468401), (2.0, 5.470732, 1.757314)]
)
def test_the_optimum_is_where_the_rate_is_the_capacity(capacity, distortion, beta):
    """There both slopes of the kink lead up: ∇ loss is (γ − β_C) ∇R above it, −(γ + β_C) ∇R below.

    So it is the optimum for every γ > β_C, and for no smaller one.
    """
    vae, x = at_the_optimum(beta)
    slopes = []
    for gap in (1e-3, -1e-3):
        objective = CapacityELBO(10.0, capacity=capacity - gap)
        estimate = objective.estimate(*tempered(vae, 1.0), x)
        slopes.append(slope(estimate.loss, vae))
    above, below = slopes
    rate = slope(estimate.kl, vae)
    assert estimate.kl.item() / 60 == pytest.approx(capacity, abs=1e-6)
    assert estimate.reconstruction.item() / 60 == pytest.approx(distortion, abs=1e-5)
    assert rate.abs().max() > 1.0
    assert torch.allclose(above, (10 - beta) * rate, atol=1e-3)
    assert torch.allclose(below, -(10 + beta) * rate, atol=1e-3)


def trained(gamma, capacity, rates):
    x, covariance = data_and_covariance(60)
    vae = linear_vae(3, posterior=BalancedPosterior)
    objective = CapacityELBO(gamma, capacity=capacity)
    for rate in rates:
        fit(
            vae,
            x,
            objective=objective,
            steps=600,
            batch_size=len(x),
            optim=partial(torch.optim.Adam, lr=rate),
            compile="recorded",
            progress=False,
        )
    return terms_of(vae, x, covariance, 1.0)


@pytest.mark.parametrize(
    ("gamma", "rate"), [(30.0, 1.0), (3.0, 1.197762)], ids=["held", "too dear"]
)
def test_training_comes_to_the_capacity_or_to_beta_gamma(gamma, rate):
    """C = 1 asks for β = 3.47: for a γ above it R = C, below it R = R(β = γ) = 1.197762.

    Adam's last rate is 1e-3, and on the kink it goes back and forth by as much per weight.
    """
    terms = trained(gamma, 1.0, (3e-2, 5e-3, 1e-3))
    assert terms.rate.item() == pytest.approx(rate, abs=2e-2)


def test_fit_follows_the_schedule_and_recordings_see_it():
    """Of recorded steps the gap is that of a capacity which rises by .1 a step."""
    objective = CapacityELBO(5.0, capacity=schedules.linear(0.0, 2.0, steps=20))
    history = fit(
        small_vae(),
        data(12),
        objective=objective,
        steps=10,
        every=1,
        batch_size=12,
        compile="recorded",
        progress=False,
    ).history
    capacity = 0.1 * torch.arange(10.0).numpy()
    assert history["capacity_gap"] == pytest.approx(abs(history["kl"] - capacity), abs=1e-6)


def test_a_tensor_changed_in_place_is_seen():
    capacity = torch.tensor(0.0)
    objective = CapacityELBO(1.0, capacity=capacity)
    vae, x = small_vae(), data(6)
    sgd = partial(torch.optim.SGD, lr=0.0)
    svi = CompiledSVI(*tempered(vae, 1.0), sgd, objective, mode="recorded")
    kl = objective.estimate(vae.model, vae.guide, x).kl.item()
    for value in (0.0, 0.0, 0.0, 0.0, 0.3, 100.0):
        capacity.fill_(value)
        torch.manual_seed(0)
        loss = svi.step(x)
        torch.manual_seed(0)
        estimate = objective.estimate(vae.model, vae.guide, x)
        assert loss == pytest.approx(estimate.loss.item(), rel=1e-12)
        gap = estimate.terms["capacity_gap"].item()
        assert gap == pytest.approx(abs(kl - 6 * value), rel=1e-9)
    assert svi.fallback is None


def test_refuses_latents_of_different_beta():
    def sites(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
            return a + pyro.sample("b", dist.Normal(0.0, 1.0))

    def model(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
            b = pyro.sample("b", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(a + b, 1.0), obs=x)

    pair = tempered((model, sites), {"a": 1.0, "b": 2.0})
    with pytest.raises(ValueError, match=r"beta: expected one β for the sites \['a', 'b'\]"):
        CapacityELBO(1.0, capacity=1.0).loss(*pair, torch.zeros(3))
