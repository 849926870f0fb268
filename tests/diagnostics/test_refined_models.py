"""Gaps of models and posteriors of the package, known exactly, which offsets close."""

import math

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_bvae import VAE
from pyro_bvae.diagnostics import amortization_gap
from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.weights import log_weights
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.models import PartialFactorsVAE
from pyro_bvae.networks import NoContext, mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import (
    AmortisedPosterior,
    FlowPosterior,
    MeanFieldPosterior,
    MixturePosterior,
    RefinedPosterior,
)
from pyro_bvae.priors import NormalPrior
from pyro_bvae.theory import log_likelihood
from tests.diagnostics.gaps import MANY, check_gap
from tests.diagnostics.pairs import as_vae, diagonal, orthogonal
from tests.diagnostics.test_classes import LABELS, data, exact_evidence, log_joints, semi
from tests.models.cases import FACTORS, KNOWN
from tests.truths import NOISE


@pytest.mark.parametrize("labels", [None, LABELS], ids=["unknown", "some"])
def test_a_class_and_a_code_given_it_are_refined_to_their_posterior(labels):
    """KL of the classes where they are not known, and ½ off² Σ P_jj of the codes, for any class."""
    off, x = 0.5, data()
    gap = amortization_gap(semi(off=off), x if labels is None else (x, labels), **MANY)
    joint = log_joints(x)
    q = dist.Categorical(logits=joint + off * torch.arange(3.0))
    classes = kl_divergence(q, dist.Categorical(logits=joint))
    if labels is not None:
        classes = torch.where(labels < 0, classes, 0.0)
    codes = off**2 / 2 * (1 / orthogonal().guide.covariance.diagonal()).sum()
    check_gap(gap, classes + codes, exact_evidence(x, labels), left=0.01)


@pytest.mark.parametrize("known", [None, KNOWN], ids=["unknown", "some"])
def test_factors_that_are_not_known_are_refined_and_those_that_are_stay(known):
    """Orthogonal columns leave y and z independent: ½ off² P_j of each that is not known."""
    weight = torch.linalg.qr(torch.tensor([[1.5, 0.2, 0.5], [0.0, 1.0, -1.0], [0.3, -0.4, 1]])).Q
    variance, off = 1 / (1 + 1 / NOISE**2), 0.5
    vae = PartialFactorsVAE(
        NormalPrior(1),
        NormalLikelihood(mlp_decoder(3, (3,), hidden=()), scale=NOISE),
        MeanFieldPosterior(NoContext(mlp_encoder((3,), hidden=())), latents=1),
        MeanFieldPosterior(mlp_encoder((3,), hidden=()), latents=2),
        alpha=3.0,
    )
    with torch.no_grad():
        vae.likelihood.decoder.net[0].weight.copy_(weight)
        vae.likelihood.decoder.net[0].bias.zero_()
        for head, some in (
            (vae.posterior.head, weight[:, :1]),
            (vae.regressor.head, weight[:, 1:]),
        ):
            number = some.shape[1]
            mean = some.mT * variance / NOISE**2
            head.weight.copy_(torch.cat([mean, torch.zeros_like(mean)]))
            logs = torch.full((number,), math.log(variance))
            head.bias.copy_(torch.cat([torch.full((number,), off), logs]))
    x = torch.randn(5, 3)
    told = torch.zeros(5, 2).bool() if known is None else known
    given = x if known is None else (x, FACTORS, known)
    gap = amortization_gap(vae, given, **MANY)
    kl = off**2 / 2 / variance * (1 + (~told).sum(1))
    rest = x - torch.where(told, FACTORS, 0.0) @ weight[:, 1:].mT
    evidence = torch.where(told, dist.Normal(0.0, 1.0).log_prob(FACTORS), 0.0).sum(1)
    for i, row in enumerate(rest):
        free = torch.cat([weight[:, :1], weight[:, 1:][:, ~told[i]]], 1)
        covariance = free @ free.mT + NOISE**2 * torch.eye(3)
        evidence[i] += dist.MultivariateNormal(torch.zeros(3), covariance).log_prob(row)
    check_gap(gap, kl, evidence)


def evidence() -> Tensor:
    return log_likelihood(data(), orthogonal().weight, likelihood_scale=NOISE)


def exact_vae(posterior, vae) -> VAE:
    return VAE(vae.prior, vae.likelihood, posterior)


def moved(posterior: AmortisedPosterior, places: slice, off: float) -> None:
    with torch.no_grad():
        posterior.head.bias[places] += off


def exact_flow() -> VAE:
    """The exact guide as a flow whose layers are the identity, of whatever context."""
    vae = as_vae(orthogonal())
    flow = FlowPosterior(vae.posterior.encoder, latents=2, hidden=4)
    with torch.no_grad():
        for parameter in flow.flow.parameters():
            parameter.zero_()
        for old, new in zip(vae.posterior.head.parameters(), flow.head.parameters(), strict=True):
            new.zero_()[:4] = old
    return exact_vae(flow, vae)


def exact_mixture() -> VAE:
    """The exact guide as a mixture of two equal normals."""
    vae = as_vae(orthogonal())
    mixture = MixturePosterior(vae.posterior.encoder, latents=2)
    with torch.no_grad():
        for old, new in zip(
            vae.posterior.head.parameters(), mixture.head.parameters(), strict=True
        ):
            new.zero_()[2:6], new[6:] = old, old
    return exact_vae(mixture, vae)


@pytest.mark.parametrize(
    ("build", "places"),
    [
        (lambda: as_vae(orthogonal()), [slice(0, 2)]),
        (exact_flow, [slice(0, 2)]),
        (exact_mixture, [slice(2, 4), slice(6, 8)]),
    ],
    ids=["mean field", "flow", "mixture"],
)
def test_the_numbers_of_an_amortised_posterior_are_refined(build, places):
    """The exact posterior, its means moved by .3: ½ .09 Σ P_jj, whatever the family."""
    vae = build()
    for place in places:
        moved(vae.posterior, place, 0.3)
    kl = 0.5 * 0.09 * (1 / orthogonal().guide.covariance.diagonal()).sum()
    check_gap(amortization_gap(vae, data(), **MANY), kl, evidence())


@pytest.mark.parametrize("kind", [FlowPosterior, MixturePosterior])
def test_what_all_data_have_wrong_alike_is_no_matter_once_refined(kind):
    """The means moved by .5, of a posterior that is not exact: its refined ELBO is the same."""
    torch.manual_seed(0)
    old = as_vae(diagonal())
    vae = exact_vae(kind(old.posterior.encoder, latents=2), old)
    start = amortization_gap(vae, data(), **MANY)
    first = slice(0, 2) if kind is FlowPosterior else slice(2, 4)
    moved(vae.posterior, first, 0.5)
    again = amortization_gap(vae, data(), **MANY)
    errors = math.hypot(start.mean("refined")[1], again.mean("refined")[1])
    found, expected = again.mean("refined")[0], start.mean("refined")[0]
    assert found == pytest.approx(expected, abs=4 * errors + 0.02)
    assert again.mean("guide")[0] < start.mean("guide")[0] - 0.1


def test_a_refined_posterior_is_refined_from_where_its_own_steps_lead():
    """The noise of its steps is the guide's, and no part of the refined guide, which is exact.

    Refined by next to nothing it is still where its steps led, and not where they began.
    """
    vae = as_vae(orthogonal())
    moved(vae.posterior, slice(0, 2), 0.5)
    parts = {"prior": vae.prior, "likelihood": vae.likelihood}
    noisy = RefinedPosterior(vae.posterior, **parts, steps=3, rate=0.05)
    pair, x = exact_vae(noisy, vae), data()
    gap = amortization_gap(pair, x, steps=200, learning_rate=0.05, num_samples=400)
    assert gap.log_evidence.mean().item() == pytest.approx(evidence().mean().item(), abs=0.005)
    assert gap.mean("approximation")[0] == pytest.approx(0, abs=0.005)
    weights = log_weights(Sampler(pair, x), 400).mean(1)
    error = math.hypot(weights.std().item() / 20, gap.mean("guide")[1])
    assert gap.mean("guide")[0] == pytest.approx(weights.mean().item(), abs=4 * error)
    steady = RefinedPosterior(vae.posterior, **parts, steps=3, rate=0.05, num_particles=200)
    pair = exact_vae(steady, vae)
    still = amortization_gap(pair, x, steps=1, learning_rate=1e-9, num_samples=400)
    assert still.mean("amortization")[0] == pytest.approx(0, abs=4 * error)
    begun = amortization_gap(vae, x, steps=1, num_samples=400)
    assert still.mean("refined")[0] > begun.mean("guide")[0] + 8 * error
