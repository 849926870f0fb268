"""The importance bound of models of several latents, by hand and exact, and their critics."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import Normal
from torch.nn.functional import one_hot

from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.models import Classifier, SemiSupervisedVAE
from pyro_bvae.networks import mlp_critic
from pyro_bvae.objectives import AdversarialELBO, FactorELBO, ImportanceELBO
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
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


class Beside(nn.Module):
    """An encoder that returns x and its context end to end."""

    features = 5

    def forward(self, x, y):
        return torch.cat([x, y], -1)


def exact_but_for_the_class():
    """x = W z + V y + N(0, I) with z ~ N(0, 1), y one of two classes; q(z|x,y) is exact."""
    w, v = torch.tensor([[1.0], [-0.5], [0.3]]), torch.tensor([[1.0, -1.0], [0.5, 0.2], [0.0, 2.0]])
    decoder = nn.Linear(3, 3, bias=False)
    vae = SemiSupervisedVAE(
        NormalPrior(1),
        NormalLikelihood(decoder, scale=1.0),
        MeanFieldPosterior(Beside(), latents=1),
        Classifier(nn.Identity(), 2, features=3),
        alpha=0.0,
    )
    gain = w.mT / (1 + w.mT @ w)
    with torch.no_grad():
        decoder.weight.copy_(torch.cat([w, v], 1))
        vae.posterior.head.weight.copy_(
            torch.cat([torch.cat([gain, -gain @ v], 1), torch.zeros(1, 5)])
        )
        vae.posterior.head.bias.copy_(torch.tensor([0.0, -(1 + w.mT @ w).log().item()]))
    x = torch.tensor([[1.0, 0.2, -0.5], [0.0, -1.0, 2.0]])
    covariance = w @ w.mT + torch.eye(3)
    log_joint = dist.MultivariateNormal(v.mT, covariance).log_prob(x[:, None]) - math.log(2)
    return vae, x, log_joint


@pytest.mark.parametrize("k", [1, 6])
def test_the_bound_of_classes_is_the_exact_sum_of_them(k):
    """With q(z|x,y) exact it is log p(x) − KL(q(y|x)‖p(y|x)); with the class known, log p(x, y)."""
    vae, x, log_joint = exact_but_for_the_class()
    log_q = vae.classifier(x).log_softmax(-1)
    gap = (log_q.exp() * (log_q - log_joint.log_softmax(-1))).sum(-1)
    assert gap.min() > 1e-3
    loss = ImportanceELBO(k).loss(vae.model, vae.guide, x)
    assert loss == pytest.approx(-(log_joint.logsumexp(-1) - gap).sum().item(), abs=1e-10)
    labels = torch.tensor([1, 0])
    loss = ImportanceELBO(k).loss(vae.model, vae.guide, x, labels)
    assert loss == pytest.approx(-log_joint[torch.arange(2), labels].sum().item(), abs=1e-10)


def test_the_bound_of_classes_holds():
    """Off the exact q(z|x,y) L_50 is below log p(x) − KL of the classes; 5 standard errors."""
    vae, x, log_joint = exact_but_for_the_class()
    log_q = vae.classifier(x).log_softmax(-1)
    with torch.no_grad():
        vae.posterior.head.bias.add_(torch.tensor([0.8, 0.5]))
    best = (log_q.exp() * (log_joint - log_q)).sum().item()
    means = []
    for k in (1, 50):
        with torch.no_grad():
            drawn = torch.tensor(
                [ImportanceELBO(k).loss(vae.model, vae.guide, x) for _ in range(100)]
            )
        means.append(-drawn.mean().item())
        assert means[-1] < best + 5 * drawn.std().item() / 10
    assert means[0] < means[1] - 0.1 < best
