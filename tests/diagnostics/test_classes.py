"""Models with classes whose p(x), p(x, y) and posteriors are known exactly, under diagnostics."""

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pyro_bvae import tempered
from pyro_bvae.diagnostics import (
    calibration,
    elbo_surgery,
    evidence_sandwich,
    importance,
    log_evidence,
    reference_posterior,
    to_inference_data,
)
from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.joint import LogJoint
from pyro_bvae.diagnostics.weights import log_weights
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.models import Classifier, JointVAE, SemiSupervisedVAE
from pyro_bvae.networks import ContextEncoder, NoContext, mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from tests.diagnostics.pairs import orthogonal
from tests.truths import NOISE

CENTRES = torch.tensor(
    [[1.0, -1.0, 0.0], [0.5, 0.0, -1.5], [0.0, 1.0, 0.0], [0.0, 0.5, 1.0], [-1.0, 0.0, 0.5]],
    dtype=torch.float64,
)
"""The columns B_y of x = W z + B_y + noise."""

LABELS = torch.tensor([0, -1, 2, -1, 1, -1])
FAST = {"num_samples": 16, "temperatures": 50, "leapfrogs": 5, "batch_size": 1000}


def data() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(6, 5, dtype=torch.float64, generator=generator)


def log_joints(x: Tensor) -> Tensor:
    """log p(x, y) = log N(x; B_y, W Wᵀ + σ² I) − log 3 of every class, `[data, classes]`."""
    weight = orthogonal().weight
    covariance = weight @ weight.mT + NOISE**2 * torch.eye(5)
    fn = dist.MultivariateNormal(CENTRES.mT, covariance)
    return fn.log_prob(x[:, None]) - torch.tensor(3.0).log()


def exact_evidence(x: Tensor, labels: Tensor | None) -> Tensor:
    joint = log_joints(x)
    if labels is None:
        return joint.logsumexp(1)
    told = joint.gather(1, labels.clamp(min=0)[:, None])[:, 0]
    return torch.where(labels >= 0, told, joint.logsumexp(1))


def semi(*, off: float = 0.0, alpha: float = 7.0) -> SemiSupervisedVAE:
    """The model with its exact guide: q(z|x,y) = N(V(x − B_y), S), and q(y|x) = p(y|x).

    log p(y|x) is linear in x, as the covariance is that of all classes. `off` moves both.
    """
    weight, (slope, covariance) = orthogonal()
    vae = SemiSupervisedVAE(
        NormalPrior(2),
        NormalLikelihood(mlp_decoder(2 + 3, (5,), hidden=()), scale=NOISE),
        MeanFieldPosterior(ContextEncoder(mlp_encoder((5 + 3,), hidden=())), latents=2),
        Classifier(mlp_encoder((5,), hidden=()), classes=3),
        alpha=alpha,
    )
    total = weight @ weight.mT + NOISE**2 * torch.eye(5)
    direction = torch.linalg.solve(total, CENTRES)
    bias = torch.cat([torch.full((2,), off), covariance.diagonal().log()])
    mean = torch.cat([slope, -slope @ CENTRES], 1)
    _set(vae.likelihood.decoder.net[0], torch.cat([weight, CENTRES], 1), torch.zeros(5))
    _set(vae.posterior.head, torch.cat([mean, torch.zeros(2, 8)]), bias)
    offset = -(CENTRES * direction).sum(0) / 2 + off * torch.arange(3.0)
    _set(vae.classifier.head, direction.mT, offset)
    return vae


def joint() -> JointVAE:
    """The same model with a guide of independent y and z."""
    parts, (slope, covariance) = semi(), orthogonal().guide
    vae = JointVAE(
        parts.prior,
        parts.likelihood,
        MeanFieldPosterior(mlp_encoder((5,), hidden=()), latents=2),
        parts.classifier,
    )
    bias = torch.cat([torch.zeros(2), (4 * covariance.diagonal()).log()])
    _set(vae.posterior.head, torch.cat([slope, torch.zeros(2, 5)]), bias)
    return vae


def _set(layer: torch.nn.Linear, weight: Tensor, bias: Tensor) -> None:
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)


@pytest.mark.parametrize("labels", [None, LABELS], ids=["unknown", "some"])
def test_the_exact_semi_supervised_guide_is_found_exact(labels):
    """All weights are p(x), or p(x, y) where y is known, whatever α is."""
    given = data() if labels is None else (data(), labels)
    found = importance(semi(), given, num_samples=50)
    assert found.verdicts() == ["exact"] * 6
    torch.testing.assert_close(found.log_evidence, exact_evidence(data(), labels))
    without = importance(semi(alpha=0.0), given, num_samples=50)
    assert torch.equal(found.log_evidence, without.log_evidence)


@pytest.mark.parametrize("labels", [None, LABELS], ids=["unknown", "some"])
def test_a_guide_that_is_off_gives_the_same_evidence(labels):
    """Within 4.5 of their own standard errors, which are small: two tails of 6 data, 1e-4."""
    given = data() if labels is None else (data(), labels)
    found = log_evidence(semi(off=0.2), given, num_samples=4000)
    assert found.errors.max() < 0.05
    deviation = found.values - exact_evidence(data(), labels)
    assert (deviation.abs() < 4.5 * found.errors).all()
    assert (importance(semi(off=0.2), given).k < 0.7).all()


@pytest.mark.parametrize("labels", [None, LABELS], ids=["unknown", "some"])
def test_classes_are_summed_over_in_annealing(labels):
    x = data().repeat(4, 1)
    known = None if labels is None else labels.repeat(4)
    given = x if known is None else (x, known)
    exact = exact_evidence(x, known).mean().item()
    found = log_evidence(semi(off=3.0), given, method="annealed", **FAST)
    assert found.mean == pytest.approx(exact, abs=4 * found.mean_error + 0.02)
    if labels is None:
        found = log_evidence(joint(), given, method="annealed", **FAST)
        assert found.mean == pytest.approx(exact, abs=4 * found.mean_error + 0.02)
    gap = evidence_sandwich(semi(), given, **FAST)
    assert abs(gap.gap) < 0.15
    arguments = gap.x if known is not None else (*gap.x, None)
    truth = exact_evidence(*arguments).mean().item()
    assert (gap.lower.mean() + gap.upper.mean()).item() / 2 == pytest.approx(truth, abs=0.1)


def test_the_evidence_of_a_joint_model_is_the_sum_over_its_classes():
    found = log_evidence(joint(), data(), num_samples=20_000)
    deviation = found.values - exact_evidence(data(), None)
    assert (deviation.abs() < 4.5 * found.errors + 0.01).all()
    assert found.errors.max() < 0.1


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("known", [False, True])
def test_the_power_goes_inside_the_sum(power, known):
    """log p_t(z) = log Σ_y p(y) p(z) p(x|z,y)^t and its gradient, by hand; a label is one term."""
    x, labels = data(), LABELS if known else torch.full((6,), -1)
    sampler = Sampler(semi(off=1.0), (x, labels))
    u = torch.randn(12, 2)
    with sampler.running(0), torch.no_grad():
        value = LogJoint(sampler, torch.arange(6), copies=2)(u, power)
    z = u.clone().requires_grad_()
    means = (z @ orthogonal().weight.mT)[:, None] + CENTRES.mT
    likelihood = dist.Normal(means, NOISE).to_event(1).log_prob(x.repeat(2, 1)[:, None])
    told = torch.where(labels < 0, 0.0, -torch.inf)[:, None].repeat(1, 3)
    told[labels >= 0, labels[labels >= 0]] = 0.0
    terms = power * likelihood + (told.repeat(2, 1) if power else 0.0)
    prior = dist.Normal(0.0, 1.0).log_prob(z).sum(1) - torch.tensor(3.0).log()
    expected = prior + terms.logsumexp(1)
    expected.sum().backward()
    torch.testing.assert_close(value.at(power), expected.detach())
    torch.testing.assert_close(value.gradient, z.grad)


def test_chains_of_a_semi_supervised_model_have_the_mean_of_its_posterior():
    """E[z|x] = Σ_y p(y|x) V (x − B_y), and V (x − B_y) of a known y."""
    x, slope = data()[:3], orthogonal().guide.weight
    found = reference_posterior(semi(), (x, LABELS[:3]), num_samples=120, warmup=80, chains=1)
    assert found.names == ("z[0]", "z[1]")
    shares = log_joints(x).softmax(1)
    shares = torch.where(LABELS[:3, None] < 0, shares, torch.eye(3)[LABELS[:3]])
    expected = torch.einsum("by,lbyx->bl", shares, (x[:, None] - CENTRES.mT) * slope[:, None, None])
    draws = found.draws.flatten(0, 1)
    error = draws.std(0) / found.effective.clamp(max=len(draws)).sqrt()
    assert ((draws.mean(0) - expected).abs() < 4.5 * error).all()


def test_an_exact_guide_is_calibrated_and_one_that_swaps_classes_is_not():
    given = (data(), LABELS)
    found = calibration(semi(), given, num_simulations=300, num_samples=39)
    assert found.names == ("z[0]", "z[1]")
    assert min(found.p_value, found.distance_p_value) > 0.01
    swapped = semi()
    with torch.no_grad():
        swapped.classifier.head.bias.add_(torch.tensor([0.0, 6.0, 0.0]))
    off = calibration(swapped, given, num_simulations=300, num_samples=39)
    assert off.p_value < 0.001


def test_simulated_labels_are_the_classes_that_made_the_data():
    sampler = Sampler(semi(), (data(), LABELS))
    with sampler.running(0), torch.no_grad():
        latents, (_, labels) = sampler.simulate(torch.arange(6).repeat(20))
    known = LABELS.repeat(20) >= 0
    assert torch.equal(labels[known], latents["y"].argmax(1)[known])
    assert (labels[~known] == -1).all()
    assert len(labels[known].unique()) == 3


def test_labels_are_observed_data_and_classes_draws():
    found = to_inference_data(semi(), (data(), LABELS), num_samples=20)
    assert found["observed_data"]["label"].to_numpy().tolist() == LABELS.tolist()
    y = torch.tensor(found["posterior"]["y"].to_numpy()[0].copy())
    assert torch.equal(y.sum(-1), torch.ones(20, 6))
    known = LABELS >= 0
    assert (y.argmax(-1)[:, known] == LABELS[known]).all()
    assert found["posterior_predictive"]["x"].shape == (1, 20, 6, 5)
    weight = torch.tensor(found["sample_stats"]["log_weight"].to_numpy()[0].copy())
    torch.testing.assert_close(weight, exact_evidence(data(), LABELS).expand(20, 6))


@pytest.mark.parametrize("labels", [None, LABELS], ids=["unknown", "some"])
def test_the_parts_of_one_site_and_the_others_are_the_elbo(labels):
    """The mean log weight; within 5 standard errors of one draw for each of 600 data."""
    x = data().repeat(100, 1)
    given = x if labels is None else (x, labels.repeat(100))
    found = elbo_surgery(semi(off=0.3), given)
    weights = log_weights(Sampler(semi(off=0.3), given), 50)
    error = weights.std(0).square().mean().sqrt().item() / 600**0.5
    used = len(x) // found.batch_size * found.batch_size
    assert used == 600
    assert found.elbo == pytest.approx(weights.mean().item(), abs=5 * error)
    assert found.names == ("z[0]", "z[1]")
    assert list(found.table().index)[-1] == "others"


def test_a_tempered_sum_over_classes_is_refused_with_what_to_give_instead():
    with pytest.raises(ValueError, match=r"\['x', 'z'\] are weighed.* SemiSupervisedVAE.*as it is"):
        importance(tempered(semi(), 2.0), (data(), LABELS), num_samples=25)


def test_a_guide_without_the_class_serves_as_well():
    """NoContext: q(z|x) for every class, which is not exact, and weighed right all the same."""
    vae, slope = semi(), orthogonal().guide.weight
    posterior = MeanFieldPosterior(NoContext(mlp_encoder((5,), hidden=())), latents=2)
    _set(posterior.head, torch.cat([slope, torch.zeros(2, 5)]), torch.zeros(4))
    vae = SemiSupervisedVAE(vae.prior, vae.likelihood, posterior, vae.classifier, alpha=1.0)
    found = log_evidence(vae, (data(), LABELS), num_samples=4000)
    deviation = found.values - exact_evidence(data(), LABELS)
    assert (deviation.abs() < 4.5 * found.errors + 0.01).all()
