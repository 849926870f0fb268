"""log p(x) by importance sampling and by annealing against its exact value."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_bvae import tempered, theory
from pyro_bvae.diagnostics import evidence_sandwich, log_evidence
from pyro_bvae.diagnostics.annealing import ladder
from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.joint import LogJoint
from pyro_bvae.selection import importance_bound
from tests.diagnostics.pairs import EXACT, X, as_functions, as_vae, diagonal, orthogonal
from tests.truths import NOISE

FAST = {"temperatures": 60, "leapfrogs": 5}


@pytest.mark.parametrize("draws", [1, 10])
@pytest.mark.parametrize("as_pair", [as_vae, as_functions, lambda s: tempered(as_vae(s), 4.0)])
def test_with_the_exact_posterior_every_bound_is_log_p(as_pair, draws: int):
    found = log_evidence(as_pair(orthogonal()), X.repeat(2, 1), num_samples=draws)
    assert found.values == pytest.approx(torch.full((2,), EXACT), abs=1e-12)


def test_the_bound_rises_with_its_draws_by_half_chi_squared_over_k():
    """χ² of the posterior's guide tempered at 4 is .7978426; errors of the means, three of them."""
    pair, data = as_functions(orthogonal(beta=4.0)), X.repeat(3000, 1)
    gaps, errors = [], []
    for draws in (1, 5, 50):
        found = log_evidence(pair, data, num_samples=draws, batch_size=30_000)
        gaps.append(EXACT - found.mean)
        errors.append(3 * found.values.std().item() / 3000**0.5)
    assert gaps[0] == pytest.approx(0.8981231236, abs=errors[0])
    assert gaps[2] == pytest.approx(0.7978426 / 100, abs=errors[2] + 1e-3)
    assert gaps[0] > gaps[1] + errors[1] > gaps[2] + errors[2]


def test_the_older_bound_is_the_same():
    pair = as_functions(diagonal())
    found = log_evidence(pair, X.repeat(4, 1), num_samples=7, seed=3)
    bound = importance_bound(pair, X.repeat(4, 1), num_particles=7, seed=3)
    assert bound == pytest.approx(found.values, abs=1e-12)


@pytest.mark.parametrize("as_pair", [as_vae, lambda s: tempered(as_functions(s), 4.0)])
def test_annealing_finds_log_p_whatever_the_guide(as_pair):
    """A guide far off plays no part. Three standard errors, and the bias of log-mean weights."""
    pair = as_pair(orthogonal(beta=4.0))
    found = log_evidence(pair, X.repeat(20, 1), method="annealed", **FAST, batch_size=1000)
    assert found.values.shape == (20,)
    assert found.mean == pytest.approx(EXACT, abs=3 * found.mean_error + 0.02)
    assert found.mean_error < 0.1


def test_annealing_to_a_tempered_target():
    """∫ p(z) p(x|z)^½ dz, which the guide tempered at 2 gives exactly by importance weights."""
    pair = as_functions(orthogonal(beta=2.0))
    target = {"target": "tempered", "beta": 2.0}
    exact = log_evidence(pair, X, num_samples=2, **target)
    found = log_evidence(
        pair, X.repeat(20, 1), method="annealed", **FAST, **target, batch_size=1000
    )
    assert found.mean == pytest.approx(exact.mean, abs=3 * found.mean_error + 0.02)
    assert exact.mean != pytest.approx(EXACT, abs=0.5)


def test_annealing_errors_are_right_and_fall_with_temperatures():
    """The spread of repetitions is what the errors say, within a third; more steps, less of it."""
    pair, data = as_functions(diagonal()), X.repeat(60, 1)
    spreads = []
    for temperatures in (15, 60):
        found = log_evidence(
            pair,
            data,
            method="annealed",
            num_samples=8,
            temperatures=temperatures,
            leapfrogs=5,
            batch_size=1000,
        )
        spreads.append(found.values.std().item())
    assert spreads[1] < spreads[0]
    assert found.errors.mean().item() == pytest.approx(spreads[1], rel=1 / 3)


def test_the_sandwich_brackets_the_exact_value():
    """Simulated data, whose exact log p(x) is known: below and above on average, at 3 errors."""
    found = evidence_sandwich(as_functions(diagonal()), X.repeat(60, 1), **FAST, batch_size=1000)
    exact = theory.log_likelihood(found.x[0], diagonal().weight, likelihood_scale=NOISE)
    for below in (exact - found.lower, found.upper - exact):
        assert below.mean().item() > -3 * below.std().item() / 60**0.5
    assert abs(found.gap) < 0.1
    assert str(found).startswith("log p(x) of 60 simulated data: -")
    coarse = evidence_sandwich(
        as_functions(diagonal()), X.repeat(60, 1), temperatures=6, leapfrogs=2, batch_size=1000
    )
    assert coarse.gap > 5 * abs(found.gap)
    assert coarse.gap > 0.2


def test_no_more_rows_than_asked_for_go_through_the_model():
    """Two chains of 40 data, 8 rows at a time; step sizes are tuned with four chains."""
    (model, guide), most = as_functions(diagonal()), []

    def watched(x):
        most.append(len(x))
        model(x)

    log_evidence(
        (watched, guide), X.repeat(40, 1), method="annealed", num_samples=2, batch_size=8, **FAST
    )
    assert max(most) == 8


def test_simulated_data_are_the_models_own():
    """Covariance W Wᵀ + sI; each of its entries within 5 standard errors of 4000 draws."""
    pair = as_functions(diagonal())
    sampler = Sampler(pair, torch.zeros(4000, 5))
    with sampler.running(0):
        latents, (x,) = sampler.simulate(torch.arange(4000))
    weight = diagonal().weight
    covariance = weight @ weight.mT + 0.3 * torch.eye(5)
    diagonals = covariance.diagonal()
    error = ((diagonals[:, None] * diagonals + covariance**2) / 4000).sqrt()
    assert ((x.mT @ x / 4000 - covariance).abs() < 5 * error).all()
    residual = x - latents["z"] @ weight.mT
    assert residual.var().item() == pytest.approx(0.3, abs=5 * 0.3 * (2 / 20_000) ** 0.5)


def positive_pair():
    """A Gamma prior and a LogNormal guide: latents on (0, ∞), one per datum."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Gamma(2.0, 1.0))
            pyro.sample("x", dist.Exponential(z), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.LogNormal(torch.zeros(len(x)), 1.0))

    return model, guide


def test_constrained_latents_are_annealed_on_the_real_line():
    """∫ Ga(z; 2, 1) z e^{−zx} dz = 2/(1 + x)³."""
    x = torch.tensor([0.1, 1.0, 4.0]).repeat_interleave(10)
    found = log_evidence(positive_pair(), x, method="annealed", **FAST, batch_size=1000)
    exact = (2 / (1 + x) ** 3).log()
    assert found.mean == pytest.approx(exact.mean().item(), abs=3 * found.mean_error + 0.02)


def test_the_joint_and_its_gradient_are_those_of_the_density():
    sampler = Sampler(positive_pair(), torch.tensor([0.5, 2.0]))
    with sampler.running(0), torch.no_grad():
        joint = LogJoint(sampler, torch.arange(2), copies=3)
        u = torch.randn(6, 1)
        value = joint(u, 0.5)
        again = joint(u, 0.5)
    z, x = u[:, 0].exp(), torch.tensor([0.5, 2.0]).repeat(3)
    assert value.log_prior[:, 0] == pytest.approx(z.log() - z + u[:, 0])  # Ga(2, 1), and dz/du = z
    assert value.log_likelihood[:, 0] == pytest.approx(z.log() - z * x)
    assert value.gradient[:, 0] == pytest.approx(2 - z + 0.5 * (1 - z * x))
    assert torch.equal(value.gradient, again.gradient)


def test_a_ladder_goes_from_nothing_to_the_power():
    powers = ladder(50, 0.25)
    assert powers[0] == 0
    assert powers[-1] == 0.25
    assert (powers.diff() > 0).all()


def test_the_seed_decides_and_the_random_state_stays():
    pair = as_functions(diagonal())
    state = torch.get_rng_state()
    one, two, other = (
        log_evidence(pair, X, method="annealed", temperatures=5, seed=s).values for s in (1, 1, 2)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "exact"}, "method: expected one of"),
        ({"method": "annealed", "temperatures": 2}, "temperatures: expected at least 3"),
        ({"method": "annealed", "leapfrogs": 0}, "leapfrogs"),
        ({"num_samples": 0}, "num_samples"),
    ],
)
def test_refuses(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        log_evidence(as_functions(diagonal()), X, **arguments)


def test_refuses_to_anneal_a_discrete_latent_alone():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Bernoulli(torch.full((len(x),), 0.5)))

    exact = (dist.Normal(torch.tensor([0.0, 1.0]), 1.0).log_prob(torch.tensor(0.5))).logsumexp(0)
    found = log_evidence((model, guide), torch.tensor([0.5]), num_samples=10)
    assert found.mean == pytest.approx(exact.item() - 2 * 0.34657359028)
    with pytest.raises(ValueError, match=r"expected a continuous latent site.* got \['z'\] alone"):
        log_evidence((model, guide), torch.tensor([0.5]), method="annealed")


def test_a_prior_that_is_a_mixture_can_be_annealed():
    """z from N(±2, ½) in equal parts, x = z + noise: log ½ Σ N(x; ±2, 1.25)."""

    def model(x):
        with pyro.plate("data", len(x)):
            components = dist.Normal(torch.tensor([-2.0, 2.0]), 0.5)
            prior = dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), components)
            pyro.sample("x", dist.Normal(pyro.sample("z", prior), 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(len(x)), 2.0))

    x = torch.tensor([0.3, 2.0]).repeat_interleave(15)
    both = dist.Normal(torch.tensor([[-2.0], [2.0]]), 1.25**0.5).log_prob(x)
    exact = both.logsumexp(0).mean().item() - 0.69314718056
    for method, options in (("importance", {}), ("annealed", FAST)):
        found = log_evidence((model, guide), x, method=method, **options, batch_size=1000)
        assert found.mean == pytest.approx(exact, abs=3 * found.mean_error + 0.02)
