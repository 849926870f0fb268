"""Gaps of pairs of Pyro functions, known exactly: offsets close them, or cannot."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import kl_divergence

from pyro_bvae import Pair
from pyro_bvae.diagnostics import amortization_gap
from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.refinement import Refined
from pyro_bvae.diagnostics.target import Target
from pyro_bvae.models.one_hot import StraightThroughClass
from tests.diagnostics.gaps import MANY, POINTS, check_gap
from tests.diagnostics.test_classes import LABELS, data, semi


class Chain:
    """b ~ N(0, 1), a ~ N(b, 1), x ~ N(a, 1): a|x ~ N(⅔x, ⅔), b|a ~ N(½a, ½), x ~ N(0, 3)."""

    @staticmethod
    def evidence():
        return dist.Normal(0.0, 3**0.5).log_prob(POINTS)

    @staticmethod
    def model(x):
        with pyro.plate("data", len(x)):
            b = pyro.sample("b", dist.Normal(0.0, 1.0))
            a = pyro.sample("a", dist.Normal(b, 1.0))
            pyro.sample("x", dist.Normal(a, 1.0), obs=x)


def test_an_upper_layer_keeps_its_network_and_is_refined_around_it():
    """Two shifts and a scale: KL of a's, and of b's given a, which is the same for every a."""

    def guide(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(2 / 3 * x + 0.4, (2 / 3) ** 0.5))
            pyro.sample("b", dist.Normal(a / 2 - 0.3, 1.0))

    lower = 0.4**2 / 2 * 3 / 2
    upper = kl_divergence(dist.Normal(0.3, 1.0), dist.Normal(0.0, 0.5**0.5))
    gap = amortization_gap(Pair(Chain.model, guide), POINTS, **MANY)
    check_gap(gap, lower + upper, Chain.evidence())


def chain_guide(x):
    with pyro.plate("data", len(x)):
        a = pyro.sample("a", dist.Normal(2 / 3 * x, (2 / 3) ** 0.5))
        pyro.sample("b", dist.Normal(a / 2, 0.5**0.5))


EXACT = {
    "unknown classes": lambda: (semi(), data()),
    "some classes": lambda: (semi(), (data(), LABELS)),
    "layers": lambda: ((Chain.model, chain_guide), POINTS),
}


@pytest.mark.parametrize("name", EXACT)
def test_an_exact_guide_of_dependent_draws_stays_where_it_is(name):
    """Every draw's gradient is 0: log q keeps what depends on other draws, classes a baseline."""
    pair, given = EXACT[name]()
    sampler = Sampler(pair, given)
    with sampler.running(0):
        refined = Refined(sampler, torch.arange(len(sampler)), 3, Target())
        offsets = [t.requires_grad_() for t in refined.start]
        for gradient in torch.autograd.grad(refined.objective(offsets), offsets):
            assert gradient.abs().max() < 1e-9


def test_an_upper_layer_that_ignores_the_lower_one_has_a_gap_that_offsets_cannot_close():
    """The best q(a) q(b) has the precisions 2 and 2 of the joint posterior, correlated by ½.

    Its KL is ½ [Σ ln P_jj − ln det P] = ½ ln 4/3.
    """

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("a", dist.Normal(x, 1.0))
            pyro.sample("b", dist.Normal(x, 1.0))

    gap = amortization_gap(Pair(Chain.model, guide), POINTS, steps=1000, **MANY)
    value, error = gap.mean("approximation")
    assert value == pytest.approx(math.log(4 / 3) / 2, abs=4 * error + 0.005)


def test_an_auxiliary_draw_is_refined_through_what_is_made_of_it():
    """z = e^u is a point given u, as in Pyro's AutoNormal; ln z|x ~ N(½ ln x, ½)."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.LogNormal(0.0, 1.0))
            pyro.sample("x", dist.LogNormal(z.log(), 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            normal = dist.Normal(x.log() / 2 + 0.5, 0.5**0.5)
            u = pyro.sample("u", normal, infer={"is_auxiliary": True})
            pyro.sample("z", dist.Delta(u.exp(), log_density=-u))

    x = POINTS.exp()
    evidence = dist.LogNormal(0.0, 2**0.5).log_prob(x)
    check_gap(amortization_gap((model, guide), x, **MANY), torch.tensor(0.25), evidence)


@pytest.mark.parametrize("kind", [dist.OneHotCategorical, StraightThroughClass])
def test_a_class_alone_is_refined_to_its_posterior(kind):
    """With logits of their own the guide is exact, so that the baseline leaves no noise.

    The draws' own gradient, where they have one, is of a relaxed class and left out.
    """
    centres, x = torch.tensor([-1.0, 0.0, 1.5]), POINTS[:, None]
    joint = dist.Normal(centres, 1.0).log_prob(x) - math.log(3)
    off = torch.tensor([0.0, 1.5, -1.0])

    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.OneHotCategorical(logits=torch.zeros(3)))
            pyro.sample("x", dist.Normal((y * centres).sum(-1), 1.0), obs=x[:, 0])

    def guide(x):
        with pyro.plate("data", len(x)):
            logits = dist.Normal(centres, 1.0).log_prob(x) + off
            pyro.sample("y", kind(logits=logits))

    kl = kl_divergence(dist.Categorical(logits=joint + off), dist.Categorical(logits=joint))
    check_gap(amortization_gap((model, guide), x, **MANY), kl, joint.logsumexp(1))


def of_normals(q) -> Pair:
    """z ~ N(0, 1), x ~ N(z, 1), whose posterior is N(x/2, ½), with a guide."""

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", q(x))

    return Pair(model, guide)


def test_a_flow_of_the_users_has_its_base_refined():
    """z = x/2 + u/√2 with a base moved by .6 from N(0, 1): KL .18."""
    pair = of_normals(
        lambda x: dist.TransformedDistribution(
            dist.Normal(torch.full_like(x, 0.6), 1.0),
            [dist.transforms.AffineTransform(x / 2, 0.5**0.5)],
        )
    )
    evidence = dist.Normal(0.0, 2**0.5).log_prob(POINTS)
    check_gap(amortization_gap(pair, POINTS, **MANY), torch.tensor(0.18), evidence)


def test_a_masked_distribution_is_refined_inside():
    pair = of_normals(lambda x: dist.Normal(x / 2 + 0.5, 0.5**0.5).mask(torch.tensor(True)))
    evidence = dist.Normal(0.0, 2**0.5).log_prob(POINTS)
    check_gap(amortization_gap(pair, POINTS, **MANY), torch.tensor(0.25), evidence)


def test_a_mixture_without_reparameterised_draws_is_refined():
    """z ~ ½N(−1, ¼) + ½N(1, ¼), x ~ N(z, ¼): of posterior weights, means and variance ⅛.

    The guide's means and weights are off; KL(q‖p) is a sum over a fine grid.
    """
    centres, x = torch.tensor([-1.0, 1.0]), POINTS

    def mixture(logits, means, scale):
        return dist.MixtureSameFamily(dist.Categorical(logits=logits), dist.Normal(means, scale))

    def posterior(x, *, off=0.0):
        logits = dist.Normal(centres, 0.5**0.5).log_prob(x[:, None])
        means = (centres + x[:, None]) / 2 + off
        return mixture(logits + off * torch.tensor([3.0, 0.0]), means, 8**-0.5)

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", mixture(torch.zeros(2), centres, 0.5))
            pyro.sample("x", dist.Normal(z, 0.5), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", posterior(x, off=0.4))

    grid = torch.linspace(-5, 5, 20_001)[:, None]
    log_q, log_p = posterior(x, off=0.4).log_prob(grid), posterior(x).log_prob(grid)
    kl = torch.trapezoid(log_q.exp() * (log_q - log_p), grid, dim=0)
    evidence = mixture(torch.zeros(2), centres, 0.5**0.5).log_prob(x)
    gap = amortization_gap((model, guide), x, steps=1500, **MANY)
    check_gap(gap, kl, evidence, left=0.02)


def test_a_pair_whose_draws_cannot_be_taken_together_is_refined_alike():
    """A model that takes its batch for the whole of the draws' shape: copies are rows then."""
    guide = of_normals(lambda x: dist.Normal(x / 2 + 0.5, 0.5**0.5)).guide

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z.reshape(len(x)), 1.0), obs=x)

    assert not Sampler((model, guide), POINTS).stacks
    evidence = dist.Normal(0.0, 2**0.5).log_prob(POINTS)
    check_gap(amortization_gap((model, guide), POINTS, **MANY), torch.tensor(0.25), evidence)
