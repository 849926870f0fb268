"""Importance weights against what is known of Gaussian ones, and the draws they come from."""

import math
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import poutine
from torch import nn

from pyro_bvae import VAE, Pair, tempered, theory
from pyro_bvae.diagnostics import calibration, importance
from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.importance import weigh
from pyro_bvae.diagnostics.inference_data import load_arviz
from pyro_bvae.diagnostics.pareto import smooth
from pyro_bvae.diagnostics.target import Target, as_target
from pyro_bvae.diagnostics.weights import log_weights
from pyro_bvae.priors import NormalPrior
from tests.diagnostics.pairs import (
    EXACT,
    X,
    as_functions,
    as_vae,
    diagonal,
    narrowed,
    of_y_given_x,
    orthogonal,
)


@pytest.mark.parametrize(
    ("c", "latents", "expected", "deviation"),
    [
        (0.1, 1, 0.78, 0.12),
        (0.3, 1, 0.63, 0.06),
        (0.5, 1, 0.50, 0.07),
        (0.7, 1, 0.29, 0.07),
        (0.9, 1, 0.12, 0.04),
        (1.5, 1, -1.72, 0.10),
        (0.3, 2, 0.71, 0.09),
        (0.5, 2, 0.53, 0.09),
    ],
)
def test_shape_of_a_guide_of_variance_c(c: float, latents: int, expected: float, deviation: float):
    """The smoothed k̂ of 10⁴ draws: mean and standard deviation over data, as simulated.

    In the limit of many draws 1 − c below 1, −2/d above. Four standard errors of the mean of 40,
    of each of the two simulations, and half of the last digit.
    """
    data = torch.zeros(40, latents)
    found = importance(narrowed(c, latents), data, num_samples=10_000, batch_size=100_000)
    assert found.k.mean().item() == pytest.approx(expected, abs=8 * deviation / 40**0.5 + 0.005)
    assert found.k.std().item() < 2 * deviation
    assert not found.exact.any()


@pytest.mark.parametrize("k", [0.3, 0.6, 0.9])
def test_tail_shape_of_pareto_weights(k: float):
    """Of weights U^−k, whose shape is k: within 4 of (1 + k)/√(tail) and the pull towards ½."""
    draws = 40_000
    smoothed = smooth(-k * torch.rand(draws, 20).log())
    tail = math.ceil(3 * draws**0.5)
    pull = 10 / (tail + 10) * abs(0.5 - k)
    assert smoothed.k.mean() == pytest.approx(k, abs=4 * (1 + k) / (20 * tail) ** 0.5 + pull)


@settings(deadline=None, max_examples=20)
@given(st.integers(25, 2000), st.floats(0.05, 6.0), st.integers(0, 10**6))
def test_smoothing_is_that_of_arviz(draws: int, spread: float, seed: int):
    """A second implementation, of the installed ArviZ, gives the same k̂ and weights."""
    arviz = load_arviz()
    noise = torch.randn(draws, 3, generator=torch.Generator().manual_seed(seed))
    weights = spread * noise - noise.square() / 3
    mine = smooth(weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, k = arviz.psislw(weights.T.numpy())
    assert mine.k == pytest.approx(torch.as_tensor(k), abs=1e-6)
    assert mine.log_weights == pytest.approx(torch.as_tensor(theirs.T), abs=1e-6)


@pytest.mark.parametrize("as_pair", [as_vae, as_functions, lambda s: tempered(as_vae(s), 4.0)])
def test_constant_weights_are_exact_whatever_the_pair(as_pair):
    found = importance(as_pair(orthogonal()), X.repeat(3, 1), num_samples=50)
    assert found.exact.all()
    assert found.k.isnan().all()
    assert found.log_evidence == pytest.approx(torch.full((3,), EXACT), abs=1e-12)
    assert found.effective == pytest.approx(torch.full((3,), 50.0))
    assert found.error.max() < 1e-9
    assert found.verdicts() == ["exact"] * 3


def test_float32_weights_that_are_constant_are_exact():
    vae = as_vae(orthogonal()).float()
    assert importance(vae, X.float(), num_samples=100).exact.all()


def test_a_tempered_guide_is_exact_for_the_tempered_target_only():
    pair = as_functions(orthogonal(beta=4.0))
    against_model = importance(pair, X, num_samples=400)
    against_own = importance(pair, X, num_samples=400, target="tempered", beta=4.0)
    assert against_own.exact.all()
    assert not against_model.exact.any()
    assert against_model.effective < 300
    # ∫ p(z) p(x|z)^¼ dz is the evidence of noise 4s, but for (2π4s)^(D/2) / (2πs)^(D/8)
    log_p = theory.log_likelihood(X, orthogonal().weight, likelihood_scale=(4 * 0.3) ** 0.5)
    constant = 5 / 2 * math.log(2 * math.pi * 1.2) - 5 / 8 * math.log(2 * math.pi * 0.3)
    assert against_own.log_evidence == pytest.approx(log_p + constant, abs=1e-10)


def test_effective_size_is_that_of_the_chi_squared():
    """1/ESS share = 1 + χ², and log p̂(x) hits the exact value, at three of its errors."""
    exact = theory.tempered_posterior(orthogonal().weight, likelihood_scale=0.3**0.5)
    wide = orthogonal(beta=4.0)
    mean = X[0] @ wide.guide.weight.mT
    chi_squared = theory.gaussian_chi_squared(
        mean, wide.guide.covariance, X[0] @ exact.weight.mT, exact.covariance
    )
    found = importance(as_functions(wide), X.repeat(50, 1), num_samples=2000)
    share = (found.effective / 2000).mean().item()
    assert share == pytest.approx(1 / (1 + chi_squared.item()), rel=0.05)
    error = found.error.square().sum().sqrt().item() / 50
    assert found.log_evidence.mean().item() == pytest.approx(EXACT, abs=3 * error + 1e-3)


def test_numbers_do_not_depend_on_tempering_and_follow_the_seed():
    vae = as_vae(diagonal())
    plain, hot = (importance(p, X, num_samples=60) for p in (vae, tempered(vae, 4.0)))
    assert torch.equal(plain.k, hot.k)
    assert torch.equal(plain.log_evidence, hot.log_evidence)
    assert not torch.equal(plain.k, importance(vae, X, num_samples=60, seed=1).k)


def test_scales_of_the_users_own_are_no_part_of_a_density():
    """β written by hand, `poutine.scale` around the sites, as well as by `tempered`."""
    scaled = Pair(*(poutine.scale(function, scale=4.0) for function in as_functions(orthogonal())))
    found = importance(scaled, X, num_samples=30)
    assert found.exact.all()
    assert found.log_evidence.item() == pytest.approx(EXACT, abs=1e-12)


def test_the_worst_data_are_found():
    """A guide that is right at x = 0 and the worse the farther, with one datum spoilt."""
    model, _ = narrowed(1.0)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 0.5**0.5 / (1 + x.abs())).to_event(1))

    x = torch.tensor([[0.0], [3.0], [0.5], [9.0]])
    found = importance((model, guide), x, num_samples=4000)
    assert found.worst().tolist() == [3, 1, 2, 0]
    assert found.worst(1).tolist() == [3]
    assert found.verdicts()[0] == "exact"
    assert found.verdicts()[3] == "bad"
    assert list(found.table().columns) == ["k", "verdict", "effective", "log_evidence", "error"]
    assert "1 exact" in str(found)


def one_by_one(pair: Pair) -> Pair:
    """The same pair, of a model that refuses a plate of draws around it."""

    def model(x):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))
        if z.dim() != 2:
            raise RuntimeError("expected [batch, latents]")
        weight = diagonal().weight
        pyro.sample("x", dist.Normal(z @ weight.mT, 0.3**0.5).to_event(1), obs=x)

    def plated(x):
        with pyro.plate("rows", len(x)):
            model(x)

    return Pair(plated, pair.guide)


def test_a_model_that_takes_one_draw_at_a_time_gives_the_same():
    pair = as_functions(diagonal())
    alone = one_by_one(pair)
    assert Sampler(pair, X).stacks
    assert not Sampler(alone, X).stacks
    together = importance(pair, X.repeat(40, 1), num_samples=200)
    apart = importance(alone, X.repeat(40, 1), num_samples=200)
    error = (together.error.square().sum() + apart.error.square().sum()).sqrt().item() / 40
    difference = (together.log_evidence - apart.log_evidence).mean().item()
    assert abs(difference) < 4 * error
    assert error < 0.05


def test_a_model_that_mixes_up_draws_and_data_is_run_one_draw_at_a_time():
    """Batch normalisation takes dimension 1 for channels: stacked, it is silently another model."""
    norm = nn.BatchNorm1d(3)
    norm.weight.data.copy_(torch.tensor([1.0, 2.0, 3.0]))

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(norm(z), 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 1.0).to_event(1))

    x = torch.randn(3, 3)
    assert not Sampler((model, guide), x).stacks
    before = norm.running_mean.clone()
    importance((model, guide), x, num_samples=30)
    assert norm.training
    assert torch.equal(norm.running_mean, before)


def test_dimensions_of_plates_may_lie_elsewhere():
    """Pixels in a plate of their own inside the plate of the data, at dimension −2."""

    def model(x):
        with pyro.plate("data", len(x), dim=-2):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 1), 1.0))
            with pyro.plate("pixels", x.shape[1], dim=-1):
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x), dim=-2):
            pyro.sample("z", dist.Normal(x.mean(1, keepdim=True) * 4 / 5, 5**-0.5))

    x = torch.randn(6, 4)
    found = importance((model, guide), x, num_samples=30)
    covariance = torch.eye(4) + torch.ones(4, 4)
    exact = torch.distributions.MultivariateNormal(torch.zeros(4), covariance).log_prob(x)
    assert found.exact.all()
    assert found.log_evidence == pytest.approx(exact, abs=1e-10)


def test_shared_latents_are_held_at_their_medians():
    """With σ ~ HalfNormal and its guide a LogNormal of median e^m, p(x) is that of σ = e^m."""
    vae = as_vae(orthogonal())
    vae = VAE(NormalPrior(2, scale=dist.HalfNormal(1.0)), vae.likelihood, vae.posterior)
    vae.prior.scale.loc.data.fill_(0.0)
    found = importance(vae, X, num_samples=1000)
    assert found.log_evidence.item() == pytest.approx(EXACT, abs=3 * 0.14 / 999**0.5 * 2)


def test_weights_do_not_depend_on_the_batch_size_but_for_the_draws():
    pair = as_functions(orthogonal())
    for batch_size in (1, 7, 1000):
        weights = log_weights(Sampler(pair, X.repeat(5, 1), batch_size=batch_size), 30)
        assert weights.shape == (30, 5)
        assert weights == pytest.approx(torch.full((30, 5), EXACT), abs=1e-12)


def test_the_random_state_stays():
    vae = as_vae(diagonal())
    state = torch.get_rng_state()
    importance(vae, X, num_samples=30)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 24}, "num_samples: expected at least 25, got 24"),
        ({"num_samples": 0}, "num_samples"),
        ({"batch_size": 0}, "batch_size"),
        ({"target": "posterior"}, "target: expected one of"),
        ({"target": "tempered"}, "beta: target='tempered' needs"),
        ({"beta": 4.0}, "beta: expected none with target='model'"),
        ({"target": "tempered", "beta": 0.0}, "beta: expected β > 0"),
    ],
)
def test_refuses(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        importance(as_functions(diagonal()), X, **arguments)


def test_refuses_pairs_without_a_plate_of_the_data_or_without_a_latent():
    model, _ = as_functions(diagonal())

    def bare(x):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(2))
        pyro.sample("x", dist.Normal(z @ diagonal().weight.mT, 1.0).to_event(2), obs=x)

    def empty(x):
        pass

    def unplated(x):
        pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(2))

    with pytest.raises(ValueError, match="pair: expected a plate of the 1 data"):
        importance((bare, unplated), X)
    with pytest.raises(ValueError, match=r"guide: lacks the latent sites \['z'\]"):
        importance((model, empty), X)
    with pytest.raises(ValueError, match="guide: expected site 'z' in a plate"):
        importance((model, unplated), X)


def test_verdicts_are_counted_from_best_to_worst():
    found = weigh(torch.stack([-2 * torch.rand(500).log(), torch.zeros(500)], 1), Target())
    assert "2 data: 1 exact, 1 bad" in str(found)


def test_what_targets_are_called():
    assert str(as_target("model")) == "p(z|x)"
    assert str(as_target("tempered", 4)) == "∝ p(z) p(x|z)^(1/4)"
    assert Target(0.5).power == 2.0


def test_the_printed_line_names_what_is_observed():
    data = (torch.zeros(30), torch.zeros(30))
    assert "guide against p(z|y)," in str(importance(of_y_given_x(), data, num_samples=25))
    assert "∝ p(z) p(y|z)^(1/2)" in str(
        importance(of_y_given_x(), data, num_samples=25, target="tempered", beta=2.0)
    )
    assert "guide against p(z|y) of" in str(calibration(of_y_given_x(), data, num_samples=19))
