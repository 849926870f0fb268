"""Objectives on models of several latents: the importance bound by hand, and clear refusals."""

import pyro
import pytest
import torch
from torch.distributions import Normal
from torch.nn.functional import one_hot

from pyro_bvae.networks import mlp_critic
from pyro_bvae.objectives import AdversarialELBO, FactorELBO, ImportanceELBO
from tests.models.cases import (
    BATCH,
    CLASSES,
    LATENTS,
    bottleneck,
    conditional,
    hierarchical,
    joint,
    normal,
    semi_supervised,
)

SEVERAL = [hierarchical, joint, semi_supervised]


def log_weight(case, sites):
    """Return log p(x, z)/q(z|x) `[batch]` at one draw, from the model's networks alone."""
    terms, m, x = case.terms(sites), case.model, case.data[0]
    if "z1" in sites:
        return -sum(terms.values())
    log_q = m.classifier(x).log_softmax(-1)
    if len(case.data) == 1:
        q = normal(m.posterior.head(m.posterior.encoder(x)))
        known = -torch.tensor(float(CLASSES)).log() - (sites["y"] * log_q).sum(1)
        return -terms["reconstruction"] + log_ratio(sites["z"], q) + known
    total, labels = -terms["reconstruction"] - terms["kl_y"], case.data[1]
    for c in range(CLASSES):
        hot = one_hot(torch.full((BATCH,), c), CLASSES).double()
        q = normal(m.posterior.head(m.posterior.encoder.encoder(torch.cat([x.flatten(1), hot], 1))))
        weight = torch.where(labels < 0, log_q[:, c].exp(), (labels == c).double())
        total = total + weight * log_ratio(sites["z"][c], q)
    return total


def log_ratio(z, q):
    return (Normal(torch.zeros_like(z), 1.0).log_prob(z) - q.log_prob(z)).sum(1)


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("make", SEVERAL)
def test_the_importance_bound_by_hand(make, k):
    """−Σ_data log (1/K) Σ_k w_k, where K > 1 finds out by itself how many plates there are."""
    case = make()
    pair, objective = case.model_and_guide(1.0), ImportanceELBO(k)
    pyro.set_rng_seed(0)
    loss = objective.loss(*pair, *case.data, size=20)
    pyro.set_rng_seed(0)
    ((_, guide),) = objective._get_traces(*pair, case.data, {"size": 20})
    sites = {n: s["value"] for n, s in guide.nodes.items() if s["type"] == "sample"}
    draws = [{n: v[i] for n, v in sites.items()} for i in range(k)] if k > 1 else [sites]
    weights = torch.stack([log_weight(case, draw) for draw in draws])
    bounds = weights.logsumexp(0) - torch.tensor(float(k)).log()
    assert loss == pytest.approx(-20 / BATCH * bounds.sum().item(), rel=1e-10)


@pytest.mark.parametrize("make", SEVERAL)
def test_the_importance_bound_trains_and_is_above_the_elbo(make):
    """Jensen, draw by draw: log of the mean of weights ≥ mean of their logs, of the same draws."""
    case = make()
    pair, objective = case.model_and_guide(1.0), ImportanceELBO(50)
    estimate = objective.estimate(*pair, *case.data)
    estimate.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in case.model.parameters())
    rows = objective._get_traces(*pair, case.data, {})
    weights = objective._log_weights(*next(iter(rows)))[0].reshape(50, BATCH)
    assert (weights.logsumexp(0) - torch.tensor(50.0).log() > weights.mean(0)).all()


def test_counting_the_plates_changes_no_draws():
    """The first call, which counts them, draws what the second does."""
    case, objective, losses = semi_supervised(), ImportanceELBO(3), []
    for _ in range(2):
        pyro.set_rng_seed(0)
        losses.append(objective.loss(*case.model_and_guide(1.0), *case.data))
    assert losses[0] == losses[1]


@pytest.mark.parametrize("objective", [FactorELBO, AdversarialELBO])
@pytest.mark.parametrize("make", [conditional, bottleneck])
def test_critics_take_one_code_with_a_context(make, objective):
    case = make()
    judged = objective(mlp_critic(LATENTS, hidden=(4,)), gamma=1.0)
    estimate = judged.estimate(*case.model_and_guide(1.0), *case.data)
    estimate.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in case.model.posterior.parameters())
    assert [draws.shape for draws in estimate.draws] == [(BATCH, LATENTS)] * 2
