"""Estimators of the KL's parts, held to Gaussians of which every part is known."""

import math
from itertools import combinations

import pytest
import torch
from torch.distributions import Normal

from pyro_bvae import theory
from pyro_bvae.objectives import TotalCorrelationELBO
from pyro_bvae.objectives.decomposition import (
    bracket,
    leave_one_out_weights,
    mixture_weights,
    parts_of,
    stratified_weights,
)
from tests.objectives.examples import data, small_vae


def float64(values):
    return torch.tensor(values, dtype=torch.float64)


COVARIANCE = float64([[1.0, 0.6], [0.6, 1.0]])
CASES = {
    1: (torch.diag(float64([0.9, 0.8])), float64([0.19, 0.36]), 1.0),
    2: (float64([[1.2, -0.3], [0.4, 0.7]]), float64([0.1, 0.5]), 0.5),
}
EXACT = {
    1: (1.2379103313, 0.1032808959, 0.0, 1.3411912272),
    2: (1.6241877981, 0.1620490617, 0.2611002, 2.4887189562),
}


def case(number):
    """Means V, variances S, prior variance r, and the exact parts, the last of them summed."""
    v, s, r = CASES[number]
    exact = theory.kl_decomposition(
        theory.LinearGuide(v, torch.diag(s)), COVARIANCE, prior_scale=r**0.5
    )
    return v, s, r, torch.stack([*exact[:2], exact.dimension_wise_kl.sum()])


def batch_of(v, s, r, n):
    """log q(z_ij | x_k) and log p(z_i) of a batch of new data."""
    means = torch.randn(n, 2) @ torch.linalg.cholesky(COVARIANCE).mT @ v.mT
    q = Normal(means, s.sqrt())
    z = q.sample()
    return q.log_prob(z[:, None]), Normal(0.0, r**0.5).log_prob(z).sum(-1)


def estimates(number, estimate, repeats=800, n=64):
    v, s, r, exact = case(number)
    found = torch.stack([estimate(*batch_of(v, s, r, n)) for _ in range(repeats)])
    return found.mean(0) - exact, found.std(0) / repeats**0.5


@pytest.mark.parametrize("number", [1, 2])
def test_the_exact_parts(number):
    *_, exact = case(number)
    mutual, total, _, whole = EXACT[number]
    assert exact[0].item() == pytest.approx(mutual, abs=1e-10)
    assert exact[1].item() == pytest.approx(total, abs=1e-10)
    assert exact.sum().item() == pytest.approx(whole, abs=1e-9)


def one_side(side, pairs, log_prior):
    return torch.stack(getattr(bracket(pairs, log_prior), side))


@pytest.mark.parametrize("number", [1, 2])
def test_the_bracket_holds_the_truth(number):
    """In expectation, and within 3 / B of it; both by 4 standard errors of the mean."""
    for side, sign in (("low", -1), ("high", 1)):
        bias, error = estimates(
            number, lambda *a, side=side: torch.stack(getattr(bracket(*a), side))
        )
        assert (sign * bias > -4 * error).all()
        assert (sign * bias > 4 * error)[:2].all()
        assert (bias.abs() < 0.2 + 4 * error).all()


def test_the_biases_of_the_two_mixtures():
    """Of case 1 with B = 64: MI −.051, TC +.013 with x_i, MI +.054, TC −.018 without.

    Those were measured as this is: 5 standard errors of the difference of two such means.
    """
    v, s, r, exact = case(1)
    found = []
    for _ in range(1500):
        pairs, log_prior = batch_of(v, s, r, 64)
        low, high = bracket(pairs, log_prior)
        found.append(torch.stack([*low[:2], *high[:2]]))
    found = torch.stack(found)
    bias = found.mean(0) - exact[[0, 1, 0, 1]]
    error = found.std(0) / len(found) ** 0.5
    assert ((bias - torch.tensor([-0.051, -0.018, 0.054, 0.013])).abs() < 5 * 2**0.5 * error).all()


def test_the_mutual_information_is_bracketed_in_many_dimensions():
    """20 latents of MI 10 ln 2 each: ln B with x_i, far above without; TC, which is 0, between."""
    means = torch.randn(64, 20) * 10
    q = Normal(means, 1.0)
    z = q.sample()
    low, high = bracket(q.log_prob(z[:, None]), Normal(0.0, 1.0).log_prob(z).sum(-1))
    exact = 20 * math.log(101) / 2
    assert low.mutual_information <= math.log(64) + 1e-12 < exact < high.mutual_information
    assert low.total_correlation < 0 < high.total_correlation


@pytest.mark.parametrize("sampling", ["stratified", "mixture", "without"])
def test_the_parts_sum_to_the_sampled_kl_whatever_the_weights(sampling):
    v, s, r, _ = case(2)
    pairs, log_prior = batch_of(v, s, r, 16)
    weights = {
        "stratified": stratified_weights(16, 500, like=pairs),
        "mixture": mixture_weights(16, like=pairs),
        "without": leave_one_out_weights(16, like=pairs),
    }[sampling]
    sampled = (pairs.sum(-1).diagonal() - log_prior).mean()
    assert torch.allclose(sum(parts_of(pairs, log_prior, weights)), sampled, rtol=1e-12)


@pytest.mark.parametrize(("batch", "data"), [(2, 2), (2, 10), (16, 200), (64, 64), (1, 1)])
def test_stratified_weights(batch, data):
    weights = stratified_weights(batch, data, like=torch.zeros(())).exp()
    assert torch.allclose(weights.diagonal(), torch.full((batch,), 1 / data), rtol=1e-12)
    assert torch.allclose(weights.sum(1), torch.ones(batch), rtol=1e-12)
    if batch == data:
        assert torch.allclose(weights, torch.full((batch, batch), 1 / data), rtol=1e-12)


def test_stratified_weights_are_the_average_of_chens():
    """Over which of the others is the one of weight (N − M)/(NM), with M = B − 1."""
    batch, data = 5, 40
    others = batch - 1
    rows = []
    for odd in range(1, batch):
        row = torch.full((batch,), 1 / others)
        row[0], row[odd] = 1 / data, (data - others) / (data * others)
        rows.append(row)
    mine = stratified_weights(batch, data, like=torch.zeros(())).exp()[0]
    assert torch.allclose(torch.stack(rows).mean(0), mine, rtol=1e-12)


def test_the_stratified_density_is_unbiased():
    """Averaged over all batches that hold a datum, Σ_k w_ik q(z_i|x_k) is q(z_i) exactly."""
    means = torch.randn(8, 2)
    z = means[0] + 0.3
    density = Normal(means, 0.5).log_prob(z).sum(-1)
    weights = stratified_weights(4, 8, like=z)[0]
    batches = [[0, *rest] for rest in combinations(range(1, 8), 3)]
    mean = torch.stack([(density[batch] + weights).exp().sum() for batch in batches]).mean()
    assert torch.allclose(mean, density.exp().mean(), rtol=1e-12)


def test_stratified_estimates_do_not_depend_on_the_constant_that_is_off():
    """Case 1, B = 64 of N = 10⁶: between the bracket's sides, not off by ln N = 13.8 nats."""
    bias, error = estimates(
        1,
        lambda pairs, prior: torch.stack(
            parts_of(pairs, prior, stratified_weights(64, 10**6, like=pairs))
        ),
    )
    assert (bias.abs() < 0.1 + 4 * error).all()


def test_the_whole_data_are_exact_and_need_no_bracket():
    """With B = N all samplings are the mixture over all data, whose MI is the estimate's mean."""
    v, s, r, _ = case(1)
    pairs, log_prior = batch_of(v, s, r, 40)
    a = parts_of(pairs, log_prior, stratified_weights(40, 40, like=pairs))
    b = parts_of(pairs, log_prior, mixture_weights(40, like=pairs))
    assert torch.allclose(torch.stack(a), torch.stack(b), rtol=1e-12)


def test_weighted_sampling_has_the_gradient_of_chens():
    """ln 1/(BN) in place of ln 1/B changes the value by a constant and no gradient."""
    vae, x = small_vae(), data(12)
    objective = TotalCorrelationELBO(alpha=2.0, beta=5.0, gamma=3.0, sampling="weighted")
    torch.manual_seed(0)
    loss = objective.differentiable_loss(vae.model, vae.guide, x, size=100)
    mine = torch.autograd.grad(loss, list(vae.parameters()))
    torch.manual_seed(0)
    q = vae.posterior(x).base_dist
    z = q.rsample()
    pairs = q.log_prob(z[:, None])
    chens = mixture_weights(12, like=z) - math.log(100)
    parts = parts_of(pairs, Normal(0.0, 1.0).log_prob(z).sum(-1), chens)
    nll = -vae.likelihood(z).log_prob(x).mean()
    theirs = 100 * (nll + 2 * parts[0] + 5 * parts[1] + 3 * parts[2])
    grads = torch.autograd.grad(theirs, list(vae.parameters()))
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in zip(mine, grads, strict=True))
    offset = 2 * 1 + 5 * (2 - 1) - 3 * 2
    assert (theirs - loss).item() == pytest.approx(100 * offset * math.log(100), rel=1e-9)


@pytest.mark.parametrize(("batch", "data"), [(3, 2), (1, 5), (0, 5)])
def test_refuses_weights_of_impossible_batches(batch, data):
    with pytest.raises(ValueError, match=f"batch: expected from 2 to {data} data, got {batch}"):
        stratified_weights(batch, data, like=torch.zeros(()))


def test_the_sum_of_what_is_reported_is_bracketed_too():
    """Of one batch, MI, TC and dimension-wise KL of the objective are those of `bracket`."""
    vae, x = small_vae(), data(12)
    torch.manual_seed(0)
    estimate = TotalCorrelationELBO(beta=5.0).estimate(vae.model, vae.guide, x, size=36)
    torch.manual_seed(0)
    q = vae.posterior(x).base_dist
    z = q.rsample()
    low, high = bracket(q.log_prob(z[:, None]), Normal(0.0, 1.0).log_prob(z).sum(-1))
    for side, parts in (("low", low), ("high", high)):
        for name, part in parts._asdict().items():
            assert estimate.measures[f"{name}_{side}"].item() == pytest.approx(36 * part.item())
