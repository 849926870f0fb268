"""Objectives about the codes of one latent site of a pair that has several."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import Normal

from pyro_bvae import theory
from pyro_bvae.networks import mlp_critic
from pyro_bvae.objectives import MMDELBO, MomentELBO, TotalCorrelationELBO
from tests.models.cases import (
    BATCH,
    CLASS,
    X,
    conditional,
    hierarchical,
    joint,
    noise,
    partial_factors,
    semi_supervised,
)
from tests.objectives.examples import DATA, FAMILY, OF_CODES, assert_same, data_of, read


def test_moments_are_held_to_those_of_a_prior_that_depends_on_the_data():
    """Its variance over the data is E Var[z|c] + Var E[z|c], whatever the order of the batch."""
    case = conditional()
    objective = MomentELBO(off_diagonal=0.0, diagonal=1.0)
    prior, q = case.model.prior(CLASS), case.model.posterior(X, CLASS)
    target = prior.variance.mean(0) + prior.mean.var(0)
    gap = torch.cov(q.mean.mT).diagonal() + q.variance.mean(0) - target
    for order in (torch.arange(BATCH), torch.tensor([3, 0, 4, 1, 2])):
        batch = X[order], CLASS[order]
        terms = objective.estimate(case.model.model, case.model.guide, *batch, size=DATA).terms
        assert torch.allclose(terms["diagonal"], DATA * gap.square().sum(), rtol=1e-10)


WEIGHT, UPPER = noise(2, 3, seed=12), noise(3, 2, seed=13)


def layers(x):
    """z₂ ~ N(0, I), z₁ ~ N(z₂ WEIGHT, 1), with the guide z₁ ~ N(x, .6), z₂ ~ N(z₁ UPPER, .8)."""

    def model():
        with data_of(x):
            z2 = pyro.sample("z2", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            z1 = pyro.sample("z1", dist.Normal(z2 @ WEIGHT, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z1, 1.0).to_event(1), obs=x)

    def guide():
        with data_of(x):
            z1 = pyro.sample("z1", dist.Normal(x, 0.6).to_event(1))
            pyro.sample("z2", dist.Normal(z1 @ UPPER, 0.8).to_event(1))

    return model, guide


def layer_alone(name, x, z1, z2):
    """A pair of one layer alone, given the draws of the other, that draws the same numbers."""
    p, q = {
        "z1": (dist.Normal(z2 @ WEIGHT, 1.0), dist.Normal(x, 0.6)),
        "z2": (dist.Normal(torch.zeros(2), 1.0), dist.Normal(z1 @ UPPER, 0.8)),
    }[name]

    def model():
        with data_of(x):
            pyro.sample(name, p.to_event(1))
            pyro.sample("x", dist.Normal(0.0, 1.0).expand([3]).to_event(1), obs=x)

    def guide():
        with data_of(x):
            if name == "z2":
                torch.randn_like(z1)
            pyro.sample(name, q.to_event(1))
            if name == "z1":
                torch.randn_like(z2)

    return model, guide


@pytest.mark.parametrize("site", ["z1", "z2"])
@pytest.mark.parametrize("name", OF_CODES)
def test_one_layer_of_two_is_as_if_it_were_alone(name, site):
    """Its terms are those of the layer given the other's draws; the other has its plain KL.

    But for the layer's own KL, which is exact where it is alone.
    """
    x = noise(BATCH, 3, seed=14)
    torch.manual_seed(0)
    z1 = x + 0.6 * torch.randn(BATCH, 3)
    z2 = z1 @ UPPER + 0.8 * torch.randn(BATCH, 2)
    found = []
    for pair in (layers(x), layer_alone(site, x, z1, z2)):
        objective = FAMILY[name]()
        objective.site = site
        if objective.critic is not None:
            torch.manual_seed(1)
            objective.critic = mlp_critic(3 if site == "z1" else 2, hidden=(7,))
        torch.manual_seed(0)
        found.append(objective.estimate(*pair))
    assert_same(*map(read, found), without={"reconstruction", f"kl_{site}"})
    other = {"z1": "z2", "z2": "z1"}[site]
    assert set(found[0].terms) - set(found[1].terms) == {f"kl_{other}"}
    assert torch.equal(found[0].terms[f"kl_{other}"], found[0].kl_per_latent[other].sum())


def test_the_parts_of_an_upper_layer_are_the_closed_form():
    """Of z₂ = z₁ UPPER + noise, z₁ normal: all of 40 batches of 64 as in the tests of the bracket.

    The mean of either side is within .2 of the truth and 4 standard errors, on its own side.
    """
    exact = theory.kl_decomposition(
        theory.LinearGuide(UPPER.mT, 0.64 * torch.eye(2)), 1.36 * torch.eye(3)
    )
    objective = TotalCorrelationELBO(beta=1.0, site="z2")
    sides = []
    for _ in range(40):
        measures = objective.estimate(*layers(torch.randn(64, 3))).measures
        sides.append([measures[f"mutual_information_{side}"] / 64 for side in ("low", "high")])
    low, high = torch.tensor(sides).T - exact.mutual_information
    assert low.mean() < 4 * low.std() / 40**0.5
    assert high.mean() > -4 * high.std() / 40**0.5
    assert low.mean() > -0.2 - 4 * low.std() / 40**0.5
    assert high.mean() < 0.2 + 4 * high.std() / 40**0.5


@pytest.mark.parametrize("name", OF_CODES)
def test_the_site_must_be_known(name):
    case, objective = hierarchical(), FAMILY[name]()
    message = r"site: expected the name of one of the latent sites \['z1', 'z2'\]"
    with pytest.raises(ValueError, match=message):
        objective.loss(case.model.model, case.model.guide, *case.data)
    objective.site = "z"
    with pytest.raises(ValueError, match=r"site: no latent site .* 'z'; there are \['z1', 'z2'\]"):
        objective.loss(case.model.model, case.model.guide, *case.data)


@pytest.mark.parametrize("make", [joint, partial_factors, semi_supervised])
def test_of_several_the_site_z_is_meant(make):
    case = make()
    found = []
    for site in (None, "z"):
        pyro.set_rng_seed(0)
        objective = TotalCorrelationELBO(beta=2.0, site=site)
        found.append(objective.estimate(*case.model_and_guide(3.0), *case.data))
    assert_same(*map(read, found), rtol=0)
    parts = ("mutual_information", "total_correlation", "dimension_wise_kl")
    assert [found[0].weights[part] for part in parts] == [3.0, 6.0, 3.0]
    assert found[0].weights["kl_y"] == 3.0


@pytest.mark.parametrize("make", [joint, partial_factors, semi_supervised])
def test_the_parts_sum_to_the_kl_of_their_site(make):
    """To log q − log p of the draws, weighted by the classes where there is one for each."""
    pair, data = make().model_and_guide(1.0), make().data
    pyro.set_rng_seed(0)
    terms = TotalCorrelationELBO(beta=1.0).estimate(*pair, *data, size=DATA).terms
    pyro.set_rng_seed(0)
    z = pyro.poutine.trace(pair.guide).get_trace(*data, size=DATA).nodes["z"]
    prior = Normal(0.0, 1.0).log_prob(z["value"]).sum(-1)
    sampled = (z["scale"] * (z["fn"].log_prob(z["value"]) - prior)).sum()
    parts = ("mutual_information", "total_correlation", "dimension_wise_kl")
    assert torch.allclose(sum(terms[part] for part in parts), sampled, rtol=1e-10)


def test_codes_at_points_have_no_densities():
    """Where some factors are known, q(y|x) has none."""
    case = partial_factors()
    pair = case.model.model, case.model.guide
    with pytest.raises(ValueError, match="guide: expected a density at site 'y', got PartlyKnown"):
        TotalCorrelationELBO(beta=1.0, site="y").loss(*pair, *case.data)
    assert math.isfinite(MMDELBO(1.0, site="y").loss(*pair, *case.data))
