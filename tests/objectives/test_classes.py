"""Codes of every class, weighted within their datum."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import Normal
from torch.nn.functional import one_hot, softplus

from pyro_bvae.models.weighted import Weighted
from pyro_bvae.networks import mlp_critic
from pyro_bvae.objectives import (
    AdversarialELBO,
    FactorELBO,
    TotalCorrelationELBO,
)
from pyro_bvae.objectives.mmd import mmd
from pyro_bvae.objectives.moment import covariance_of
from tests.models.cases import (
    BATCH,
    CLASS,
    CLASSES,
    LATENTS,
    X,
    noise,
    semi_supervised,
)
from tests.objectives.examples import DATA, OF_CODES, assert_same, data_of, estimate_of, read

NOISE, PRIOR_NOISE = noise(CLASSES, BATCH, LATENTS, seed=5), noise(CLASSES, BATCH, LATENTS, seed=6)


@pytest.fixture
def fixed(monkeypatch):
    """Set the standard normal numbers that guide and prior draw from."""

    def fix(of_guide, of_prior):
        monkeypatch.setattr(
            "torch.distributions.normal._standard_normal", lambda shape, dtype, device: of_guide
        )
        monkeypatch.setattr("torch.normal", lambda mean, std: mean + std * of_prior)

    return fix


def classes(loc, scale, weights):
    """A pair with z ~ N(loc, scale) `[classes, batch, latents]` for every class and datum."""

    def plates():
        return data_of(loc[0]), pyro.plate("classes", len(loc), dim=-2), Weighted(weights)

    def model():
        data, inner, weighted = plates()
        with data, inner, weighted:
            z = pyro.sample("z", dist.Normal(torch.zeros(loc.shape[-1]), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=torch.ones(loc.shape[1]))

    def guide():
        data, inner, weighted = plates()
        with data, inner, weighted:
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))

    return model, guide


def one_class(loc, scale):
    """The same with one code for each datum, `[batch, latents]`."""

    def model():
        with data_of(loc):
            z = pyro.sample("z", dist.Normal(torch.zeros(loc.shape[-1]), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=torch.ones(len(loc)))

    def guide():
        with data_of(loc):
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))

    return model, guide


def random_classes(c=CLASSES, b=BATCH):
    loc, scale = noise(c, b, LATENTS, seed=1), 0.3 + noise(c, b, LATENTS, seed=2).abs()
    return loc, scale, noise(c, b, seed=3).softmax(0)


def known_class(vae):
    """The pair of a semi-supervised VAE for data of known classes, with no class drawn."""

    def model(x, labels):
        y = one_hot(labels, CLASSES).double()
        with data_of(x):
            z = pyro.sample("z", vae.prior())
            pyro.sample("x", vae.likelihood(torch.cat([z, y], -1)), obs=x)

    def guide(x, labels):
        y = one_hot(labels, CLASSES).double()
        with data_of(x):
            pyro.sample("z", vae.posterior(x, y))

    return model, guide


@pytest.mark.parametrize("name", OF_CODES)
def test_known_classes_are_as_if_there_were_no_others(name, fixed):
    """Terms, measures, what the critic is shown, and the gradient of the posterior."""
    vae = semi_supervised(alpha=0.0).model
    fixed(NOISE, PRIOR_NOISE)
    mine = estimate_of(name, (vae.model, vae.guide), X, CLASS, size=DATA)
    own = CLASS, torch.arange(BATCH)
    fixed(NOISE[own], PRIOR_NOISE[own])
    other = estimate_of(name, known_class(vae), X, CLASS)
    assert_same(read(mine), read(other))
    assert set(mine.terms) - set(other.terms) == {"kl_y"}
    found = [torch.autograd.grad(e.loss, vae.posterior.head.weight)[0] for e in (mine, other)]
    assert torch.allclose(*found, rtol=1e-10)
    if name == "adversarial":
        assert all(torch.allclose(a, b) for a, b in zip(mine.draws, other.draws, strict=True))


@pytest.mark.parametrize("name", OF_CODES)
def test_one_class_is_none(name, fixed):
    loc, scale, _ = random_classes(1)
    fixed(NOISE[:1], PRIOR_NOISE[:1])
    mine = estimate_of(name, classes(loc, scale, torch.ones(1, BATCH)))
    fixed(NOISE[0], PRIOR_NOISE[0])
    assert_same(read(mine), read(estimate_of(name, one_class(loc[0], scale[0]))), rtol=1e-12)


@pytest.mark.parametrize("name", OF_CODES)
def test_neither_the_order_of_classes_nor_splitting_one_changes_anything(name, fixed):
    """Split into two of the same codes, of .3 and .7 of its weight; the prior's draws are alike."""
    loc, scale, weights = random_classes()
    found = []
    for order, shares in (
        ([0, 1, 2], [1, 1, 1]),
        ([2, 0, 1], [1, 1, 1]),
        ([0, 1, 2, 2], [1, 1, 0.3, 0.7]),
    ):
        fixed(NOISE[order], PRIOR_NOISE[[0] * len(order)])
        parts = weights[order] * torch.tensor(shares)[:, None]
        found.append(read(estimate_of(name, classes(loc[order], scale[order], parts))))
    for other in found[1:]:
        assert_same(found[0], other)


def mixture_by_hand(z, loc, scale, weights, of_data):
    """Return ln Σ_k Σ_c of_data[b, k] w_ck q(z_cb|k, c), of all latents and of each, by loops."""
    joint, single = torch.zeros(CLASSES, BATCH), torch.zeros(CLASSES, BATCH)
    for c in range(CLASSES):
        for b in range(BATCH):
            density = Normal(loc, scale).log_prob(z[c, b]).exp()
            shares = weights * of_data[b]
            joint[c, b] = (shares * density.prod(-1)).sum().log()
            single[c, b] = (shares[..., None] * density).sum((0, 1)).log().sum()
    return joint, single


@pytest.mark.parametrize("name", ["stratified", "weighted"])
def test_the_parts_by_hand(name, fixed):
    """Values, and gradients for the weights and the codes."""
    loc, scale, weights = random_classes()
    loc, weights = loc.requires_grad_(), weights.requires_grad_()
    fixed(NOISE, PRIOR_NOISE)
    terms = estimate_of(name, classes(loc, scale, weights)).terms
    z = loc + scale * NOISE
    of_data = torch.full((BATCH, BATCH), 1 / BATCH)
    if name == "stratified":
        of_data.fill_((DATA - 1) / (DATA * (BATCH - 1))).fill_diagonal_(1 / DATA)
    joint, single = mixture_by_hand(z, loc, scale, weights, of_data)
    own, prior = (Normal(*q).log_prob(z).sum(-1) for q in ((loc, scale), (0.0, 1.0)))
    by_hand = {
        "mutual_information": own - joint,
        "total_correlation": joint - single,
        "dimension_wise_kl": single - prior,
    }
    for part, values in by_hand.items():
        expected = DATA * (weights * values).sum() / BATCH
        assert torch.allclose(terms[part], expected, rtol=1e-12)
        gradients = zip(
            torch.autograd.grad(terms[part], (loc, weights), retain_graph=True),
            torch.autograd.grad(expected, (loc, weights), retain_graph=True),
            strict=True,
        )
        assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in gradients)


@pytest.mark.parametrize(("side", "own"), [("low", 1.0), ("high", 0.0)])
def test_the_bracket_by_hand(side, own, fixed):
    """The mixture over the batch with and without a datum, in all of its classes."""
    loc, scale, weights = random_classes()
    fixed(NOISE, PRIOR_NOISE)
    measures = estimate_of("stratified", classes(loc, scale, weights)).measures
    z = loc + scale * NOISE
    of_data = torch.ones(BATCH, BATCH).fill_diagonal_(own)
    joint, _ = mixture_by_hand(z, loc, scale, weights, of_data / of_data.sum(1))
    information = Normal(loc, scale).log_prob(z).sum(-1) - joint
    expected = DATA * (weights * information).sum() / BATCH
    assert torch.allclose(measures[f"mutual_information_{side}"], expected, rtol=1e-12)


def test_what_takes_the_place_of_mutual_information_is_told_of_datum_and_class():
    """N(±9, 1) for two equal classes, the data alike: I(z; x,y) = ln 2, but for 1e-15 nats."""
    loc = torch.tensor([-9.0, 9.0]).reshape(2, 1, 1).expand(2, 8, 1)
    pair = classes(loc, torch.tensor(1.0), torch.full((2, 8), 0.5))
    terms = TotalCorrelationELBO(beta=1.0).estimate(*pair).terms
    assert terms["mutual_information"].item() == pytest.approx(DATA * math.log(2), rel=1e-12)


def test_critics_judge_codes_by_their_weights(fixed):
    loc, scale, weights = random_classes()
    fixed(NOISE, PRIOR_NOISE)
    z = loc + scale * NOISE
    for make, of in ((FactorELBO, lambda c: c), (AdversarialELBO, softplus)):
        pyro.set_rng_seed(0)
        critic = mlp_critic(LATENTS, hidden=(7,))
        terms = make(critic, gamma=1.0).estimate(*classes(loc, scale, weights)).terms
        expected = (
            DATA * (weights * of(critic(z.flatten(0, 1)).reshape(CLASSES, BATCH))).sum() / BATCH
        )
        name = "total_correlation" if make is FactorELBO else "adversarial"
        assert torch.allclose(terms[name], expected, rtol=1e-12)


def test_critics_learn_from_codes_of_classes_drawn_by_weight():
    """Of weights .2 and .8, and 0 and 1: 5 standard errors of a frequency of 4000."""
    loc = torch.tensor([-9.0, 9.0]).reshape(2, 1, 1).expand(2, 4000, LATENTS)
    for first in (0.2, 0.0):
        weights = torch.tensor([first, 1 - first])[:, None].expand(2, 4000)
        pair = classes(loc, torch.tensor(1.0), weights)
        z, prior = AdversarialELBO(mlp_critic(LATENTS)).estimate(*pair).draws
        assert z.shape == prior.shape == (4000, LATENTS)
        share = (z[:, 0] < 0).double().mean().item()
        assert share == pytest.approx(first, abs=5 * (first * (1 - first) / 4000) ** 0.5)
        assert prior.mean().abs() < 5 / 8000**0.5


def population(m=4):
    """Codes and weights of m data, and all batches of two of them, drawn one after the other."""
    points, weights = noise(CLASSES, m, LATENTS, seed=8), noise(CLASSES, m, seed=9).softmax(0)
    return points, weights, [[i, k] for i in range(m) for k in range(m)]


def test_the_discrepancy_of_classes_is_unbiased():
    """Averaged over all batches of two data it is that of the mixture they are drawn from."""
    points, weights, batches = population()
    b = noise(6, LATENTS, seed=10)
    found = [mmd(points[:, i].flatten(0, 1), b, shares=weights[:, i]) for i in batches]
    flat, probability = points.flatten(0, 1), weights.flatten() / 4
    between = (b[:, None] - b).square().sum(-1)
    scale = between.sum() / 30

    def kernel(x, y):
        squared = (x[:, None] - y).square().sum(-1)
        scales = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
        return sum(s * scale / (s * scale + squared) for s in scales) / 7

    exact = probability @ kernel(flat, flat) @ probability + (kernel(b, b).sum() - 6) / 30
    exact = exact - 2 * (probability @ kernel(flat, b)).mean()
    assert torch.stack(found).mean().item() == pytest.approx(exact.item(), rel=1e-12)


def test_the_covariance_of_classes_is_unbiased():
    """Averaged over all batches of two data it is that of the mixture they are drawn from."""
    points, weights, batches = population()
    variances = noise(CLASSES, 4, LATENTS, seed=11).square()
    found = [
        covariance_of(
            points[:, i].flatten(0, 1), variances[:, i].flatten(0, 1), shares=weights[:, i]
        )
        for i in batches
    ]
    flat, probability = points.flatten(0, 1), weights.flatten() / 4
    exact = torch.cov(flat.mT, aweights=probability, correction=0)
    exact = exact + torch.diag(probability @ variances.flatten(0, 1))
    assert torch.allclose(torch.stack(found).mean(0), exact, rtol=1e-12)


@pytest.mark.parametrize("name", ["stratified", "factor", "adversarial", "mmd", "dip ii"])
def test_refuses_weights_that_are_no_classes(name):
    loc, scale, weights = random_classes()
    with pytest.raises(ValueError, match="expected data of equal weight at site 'z'"):
        estimate_of(name, classes(loc, scale, 2 * weights))
    masked = [
        pyro.poutine.mask(f, mask=torch.arange(BATCH) > 1) for f in classes(loc, scale, weights)
    ]
    with pytest.raises(ValueError, match="expected data of equal weight at site 'z'"):
        estimate_of(name, masked)
    with pytest.raises(ValueError, match=r"or \[classes, batch, latents\] for classes that are"):
        estimate_of(name, classes(loc, scale, 1.0))


@pytest.mark.parametrize("name", OF_CODES)
def test_a_class_of_no_weight_at_all_is_as_if_it_were_not_there(name, fixed):
    """Where q(y|x) underflows to 0 the classifier's gradient is finite, and 0 there."""
    loc, scale, _ = random_classes()
    logits = noise(CLASSES, BATCH, seed=3)
    logits[2] = -2000.0
    found = []
    for c in (2, 3):
        fixed(NOISE[:c], PRIOR_NOISE[[0] * c])
        some = logits[:c].clone().requires_grad_()
        estimate = estimate_of(name, classes(loc[:c], scale[:c], some.softmax(0)))
        found.append(torch.autograd.grad(estimate.loss, some)[0])
    assert torch.allclose(found[1][:2], found[0], rtol=1e-10)
    assert (found[1][2] == 0).all()
