"""The normal prior: σ a number, a parameter or a latent variable."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI
from pyro.optim import ClippedAdam
from scipy.integrate import quad
from scipy.optimize import minimize

from pyro_bvae import Pair
from pyro_bvae.objectives import ELBO
from pyro_bvae.priors import NormalPrior
from pyro_bvae.priors.hyperprior import SITE, HyperpriorScale
from tests.contracts import PriorContract


class TestNormalPriorWithANumber(PriorContract):
    def make(self, latents=3):
        return NormalPrior(latents, scale=0.7)


class TestNormalPriorLearned(PriorContract):
    def make(self, latents=3):
        return NormalPrior(latents, scale="learned")


class TestNormalPriorPerLatent(PriorContract):
    def make(self, latents=3):
        return NormalPrior(latents, scale="per_latent")


class WithHyperprior(PriorContract):
    def parameters_of_the_guide(self):
        return {"scale.loc", "scale.log_scale"}

    def test_gradients_reach_the_guide(self):
        prior = self.make()
        prior.scale.posterior().rsample((5,)).sum().backward()
        assert all((parameter.grad != 0).all() for parameter in prior.parameters())

    def test_hyperprior_moves_with_the_module(self):
        torch.set_default_dtype(torch.float32)
        prior = self.make().double()
        assert poutine.trace(prior).get_trace().nodes[SITE]["value"].dtype == torch.float64


class TestNormalPriorWithAHyperprior(WithHyperprior):
    def make(self, latents=3):
        return NormalPrior(latents, scale=dist.HalfNormal(2.0))


class TestNormalPriorWithAHyperpriorPerLatent(WithHyperprior):
    def make(self, latents=3):
        shape = [latents] if isinstance(latents, int) and latents > 0 else [1]
        return NormalPrior(latents, scale=dist.LogNormal(0.0, 0.5).expand(shape).to_event(1))


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5])
def test_density_is_the_formula(sigma):
    z = torch.randn(7, 3)
    expected = -(z**2).sum(-1) / (2 * sigma**2) - 3 * math.log(sigma * math.sqrt(2 * math.pi))
    assert torch.allclose(NormalPrior(3, scale=sigma)().log_prob(z), expected, rtol=1e-13)


def given(codes, q_scale, prior):
    """A pair that has q(z|x) = N(codes, q_scale²) fixed, so that only the prior learns."""

    def model():
        p = prior()
        with pyro.plate("data", len(codes)):
            pyro.sample("z", p)
        pyro.factor("data_term", torch.zeros(()))

    def guide():
        prior.guide()
        with pyro.plate("data", len(codes)):
            pyro.sample("z", dist.Normal(codes, q_scale).to_event(1))

    return Pair(model, guide)


@pytest.mark.parametrize("scale", ["learned", "per_latent"])
@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_learned_scale_is_that_of_the_aggregate_posterior(scale, beta):
    """Given q, the best σ_j² is E[μ_j² + s_j²], whatever β; one σ² is the mean over latents."""
    codes = torch.randn(40, 3) * torch.tensor([0.2, 1.0, 3.0])
    q_scale = torch.tensor([0.5, 0.1, 0.7])
    prior = NormalPrior(3, scale=scale)
    pair = given(codes, q_scale, prior)
    optimiser = torch.optim.LBFGS(prior.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        value = beta * ELBO().estimate(*pair).terms["kl_z"]
        value.backward()
        return value

    optimiser.step(loss)
    second_moment = (codes**2).mean(0) + q_scale**2
    expected = second_moment if scale == "per_latent" else second_moment.mean()
    assert torch.allclose(prior.scale() ** 2, expected, rtol=1e-6)


def best_lognormal(n, total):
    """Minimise KL(q‖p) for q = LogNormal(m, s) exactly: everything in it has a closed form.

    z_i ~ N(0, σ²), i = 1…n, Σ z_i² = total, log σ ~ N(0, 1).
    """

    def loss(parameters):
        m, log_s = parameters
        s2 = math.exp(2 * log_s)
        fit = n * m + total / 2 * math.exp(-2 * m + 2 * s2)
        return fit + (m**2 + s2 - 1) / 2 - log_s

    return minimize(loss, [0.0, -2.0], tol=1e-12).x


def exact_moments(n, total):
    """Mean and standard deviation of log σ under the exact posterior, by quadrature."""
    centre = math.log(total / n) / 2

    def density(u):
        log = -n * (u - centre) - total / 2 * (math.exp(-2 * u) - math.exp(-2 * centre))
        return math.exp(log - u**2 / 2)

    def integral(f):
        return quad(f, centre - 1, centre + 1)[0]

    norm = integral(density)
    mean = integral(lambda u: u * density(u)) / norm
    return mean, math.sqrt(integral(lambda u: (u - mean) ** 2 * density(u)) / norm)


@pytest.mark.parametrize("per_latent", [False, True])
def test_posterior_of_sigma_is_recovered(per_latent):
    z = torch.randn(60, 2) * torch.tensor([0.5, 2.0])
    hyperprior = dist.LogNormal(0.0, 1.0)
    prior = NormalPrior(2, scale=hyperprior.expand([2]).to_event(1) if per_latent else hyperprior)

    def model():
        pyro.module("prior", prior)
        p = prior()
        with pyro.plate("data", len(z)):
            pyro.sample("z", p, obs=z)

    def guide():
        pyro.module("prior", prior)
        prior.guide()

    optim = ClippedAdam({"lr": 0.1, "lrd": 0.985})
    svi = SVI(model, guide, optim, ELBO(num_particles=64, vectorize_particles=True))
    for _ in range(400):
        svi.step()
    groups = [z[:, 0], z[:, 1]] if per_latent else [z]
    loc, log_scale = prior.scale.loc.reshape(-1), prior.scale.log_scale.reshape(-1)
    for group, m, log_s in zip(groups, loc, log_scale, strict=True):
        n, total = group.numel(), (group**2).sum().item()
        best_m, best_log_s = best_lognormal(n, total)
        mean, sd = exact_moments(n, total)
        # The last steps average about 100 × 64 draws: a few per cent of a standard deviation.
        assert m.item() == pytest.approx(best_m, abs=0.05 * sd)
        assert log_s.exp().item() == pytest.approx(math.exp(best_log_s), rel=0.05)
        assert m.item() == pytest.approx(mean, abs=0.2 * sd)
        assert log_s.exp().item() == pytest.approx(sd, rel=0.1)


@pytest.mark.parametrize(
    "hyperprior",
    [dist.HalfNormal(1.0), dist.Exponential(2.0), dist.Gamma(2.0, 1.0), dist.Uniform(0.1, 2.0)],
)
def test_guide_of_sigma_is_a_density_on_the_support(hyperprior):
    scale = HyperpriorScale(hyperprior, latents=3)
    with torch.no_grad():
        scale.log_scale.fill_(-0.5)
    q = scale.posterior()
    high = 2.0 if isinstance(hyperprior, dist.Uniform) else math.inf
    low = 0.1 if isinstance(hyperprior, dist.Uniform) else 0.0
    total = quad(lambda s: q.log_prob(torch.tensor(s)).exp().item(), low, high)[0]
    assert total == pytest.approx(1, abs=1e-7)
    assert torch.isfinite(hyperprior.log_prob(q.sample((100,)))).all()


@pytest.mark.parametrize("scale", [0, -1.0, math.nan, math.inf, "per_pixel", None, True])
def test_refuses_sigma(scale):
    with pytest.raises(ValueError, match="scale: expected a finite number > 0 or 'learned' or"):
        NormalPrior(3, scale=scale)


@pytest.mark.parametrize(
    "hyperprior",
    [
        dist.Normal(1.0, 1.0),
        dist.Uniform(-1.0, 1.0),
        dist.Poisson(3.0),
        dist.Dirichlet(torch.ones(3)),
    ],
)
def test_refuses_a_hyperprior_off_the_positive_numbers(hyperprior):
    with pytest.raises(ValueError, match="scale: expected a continuous hyperprior on σ > 0"):
        NormalPrior(3, scale=hyperprior)


@pytest.mark.parametrize("shape", [(3,), (2,)])
def test_refuses_a_hyperprior_of_another_shape(shape):
    batched = dist.HalfNormal(1.0).expand(shape)
    with pytest.raises(ValueError, match=r"scale: .*use \.expand\(\[3\]\)\.to_event\(1\)"):
        NormalPrior(3, scale=batched)
    if shape != (3,):
        with pytest.raises(ValueError, match=r"scale: .*event shape \[2\]"):
            NormalPrior(3, scale=batched.to_event(1))
