"""Reference chains against exact posteriors, and guides against reference chains."""

import dataclasses
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import kstest
from scipy.stats import wasserstein_distance as scipy_wasserstein

from pyro_bvae import tempered, theory
from pyro_bvae.diagnostics import compare_to_reference, reference_posterior
from pyro_bvae.diagnostics.comparison import classify, wasserstein
from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.joint import LogJoint
from pyro_bvae.diagnostics.nuts import nuts
from tests.diagnostics.pairs import Setting, X, as_functions, as_vae, diagonal, orthogonal
from tests.truths import NOISE

DATA = X.repeat(4, 1) * torch.tensor([[1.0], [0.0], [-2.0], [0.5]], dtype=torch.float64)
QUICK = {"num_samples": 150, "warmup": 100, "chains": 2}


@pytest.fixture(scope="module")
def chains():
    """Chains of the model whose posterior is not diagonal, for four data."""
    torch.set_default_dtype(torch.float64)
    return reference_posterior(as_vae(diagonal()), DATA, num_samples=300, warmup=150, chains=2)


def exact_posterior(beta: float = 1.0) -> theory.LinearGuide:
    return theory.tempered_posterior(diagonal().weight, beta=beta, likelihood_scale=NOISE)


def check_moments(found, guide: theory.LinearGuide, data: torch.Tensor) -> None:
    """Means and covariances within 4.5 Monte Carlo errors, by the effective sample size."""
    draws = found.draws.flatten(0, 1)
    variance = guide.covariance.diagonal()
    effective = found.effective.clamp(max=len(draws))
    error = (variance / effective).sqrt()
    assert ((draws.mean(0) - data @ guide.weight.mT).abs() < 4.5 * error).all()
    centred = draws - draws.mean(0)
    covariance = torch.einsum("nij,nik->ijk", centred, centred) / len(draws)
    spread = (variance[:, None] * variance + guide.covariance**2).sqrt()
    # Squares mix about half as fast as what they are squares of.
    errors = spread / (effective.min(1).values[:, None, None] / 2).sqrt()
    assert ((covariance - guide.covariance).abs() < 4.5 * errors).all()


def test_chains_are_from_the_exact_posterior(chains):
    check_moments(chains, exact_posterior(), DATA)
    assert chains.draws.shape == (2, 300, 4, 2)
    assert chains.names == ("z[0]", "z[1]")
    assert chains.r_hat.max() < 1.05
    assert chains.divergences == 0
    assert "2 chains of 300 draws from p(z|x) for 4 data" in str(chains)


def test_chains_of_a_tempered_target():
    pair = tempered(as_functions(diagonal()), 4.0)
    found = reference_posterior(pair, DATA, target="tempered", beta=4.0, **QUICK)
    check_moments(found, exact_posterior(beta=4.0), DATA)


def test_chains_of_constrained_latents():
    """Ga(2, 1) prior, exponential data: the posterior is Ga(3, 1 + x)."""

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Exponential(pyro.sample("z", dist.Gamma(2.0, 1.0))), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.LogNormal(torch.zeros(len(x)), 1.0))

    x = torch.tensor([0.5, 3.0])
    found = reference_posterior((model, guide), x, **QUICK)
    draws = found.draws.flatten(0, 1)[..., 0]
    error = 3**0.5 / (1 + x) / found.effective[:, 0].clamp(max=len(draws)).sqrt()
    assert ((draws.mean(0) - 3 / (1 + x)).abs() < 4.5 * error).all()
    assert found.names == ("z",)


def within(x):
    """N(0, 1) cut off further than ½ from the datum."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Uniform(z - 0.5, z + 0.5), obs=x)


@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_chains_start_apart_where_the_likelihood_is_not_zero(
    scale: float, monkeypatch: pytest.MonkeyPatch
):
    """Of 50 wide draws of the guide about 31 are impossible, and others are taken for these."""

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(len(x)), scale))

    starts: list[torch.Tensor] = []
    monkeypatch.setattr(
        "pyro_bvae.diagnostics.reference.nuts",
        lambda density, start, *args, **options: (
            starts.append(start) or nuts(density, start, *args, **options)
        ),
    )
    x = torch.tensor([0.3])
    found = reference_posterior((within, guide), x, num_samples=10, warmup=10, chains=50)
    assert ((starts[0] - x).abs() <= 0.5).all()
    assert len(starts[0].unique()) == 50
    assert ((found.draws - x).abs() <= 0.5).all()


def test_refuses_a_guide_where_the_likelihood_is_zero():
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x + 5, 0.1))

    with pytest.raises(ValueError, match="8 of 8 at which it has none"):
        reference_posterior((within, guide), torch.zeros(2), num_samples=4, warmup=1)


def test_the_potential_is_recorded():
    sampler = Sampler(as_vae(diagonal()), DATA)
    with sampler.running(0), torch.no_grad():
        joint = LogJoint(sampler, torch.arange(4))
        joint(torch.zeros(4, 2))
        assert joint.is_recorded


def test_a_model_that_cannot_be_recorded_runs_all_the_same():
    model, guide = as_functions(diagonal())

    def awkward(x):
        if float(x.sum()) > 1e9:  # reads a value, which no recording can
            raise RuntimeError
        model(x)

    sampler = Sampler((awkward, guide), DATA)
    with sampler.running(0), torch.no_grad():
        joint = LogJoint(sampler, torch.arange(4))
        value = joint(torch.ones(4, 2))
        assert torch.isfinite(value.gradient).all()


def test_the_guide_that_is_the_posterior_compares_as_equal():
    pair = as_vae(orthogonal())
    reference = reference_posterior(pair, DATA, **QUICK)
    found = compare_to_reference(pair, DATA, reference, num_samples=1000)
    # W₁ of two samples of one normal is 1.4 of the error of their means, and beyond that
    # t more of these with a probability under exp(−t²/2).
    error = found.reference_scale * (1 / reference.effective + 1 / 1000).sqrt()
    assert (found.wasserstein < 5.5 * error).all()
    assert found.r_hat.max() < 1.05
    assert found.p_value.min() > 0.01 / 4
    assert found.table().shape == (8, 8)


def test_a_guide_that_is_too_narrow_and_off_is_told(chains):
    """W₁ of two normals a shift apart is at least the shift; the classifier is sure of it."""
    narrow = Setting(diagonal().weight, diagonal().guide._replace(covariance=0.01 * torch.eye(2)))
    found = compare_to_reference(as_functions(narrow, shift=0.5), DATA, chains)
    error = 4 * (found.reference_scale**2 / chains.effective.clamp(max=600)).sqrt()
    assert ((found.mean - found.reference_mean - 0.5).abs() < error + 0.02).all()
    assert (found.wasserstein > 0.5 - error).all()
    assert (found.scale < 0.5 * found.reference_scale).all()
    assert (found.accuracy > 0.7).all()
    assert (found.p_value < 1e-3).all()
    assert (found.r_hat > 1.1).all()
    assert "told apart for 4 of 4 data; largest W₁" in str(found)


def test_the_diagonal_guide_is_too_narrow_by_the_exact_factor(chains):
    found = compare_to_reference(as_vae(diagonal()), DATA, chains, num_samples=2000)
    factor = (
        diagonal().guide.covariance.diagonal() / exact_posterior().covariance.diagonal()
    ) ** 0.5
    ratio = found.scale.mean(0) / found.reference_scale.mean(0)
    assert ratio == pytest.approx(factor, abs=4 / (2 * 4 * 500) ** 0.5)


def test_wasserstein_is_that_of_the_empirical_distributions():
    a, b = torch.randn(40, 3), 2 * torch.randn(75, 3) + 1
    mine = wasserstein(a, b)
    theirs = [scipy_wasserstein(a[:, j].numpy(), b[:, j].numpy()) for j in range(3)]
    assert mine == pytest.approx(torch.tensor(theirs))
    assert wasserstein(a, a + 0.7) == pytest.approx(torch.full((3,), 0.7))


def test_p_values_of_equals_are_uniform_and_of_others_small():
    """Kolmogorov–Smirnov over 200 repetitions; the binomial is discrete, hence its middle."""
    generator = torch.Generator().manual_seed(1)
    p_values = []
    for _ in range(200):
        a, b = (torch.randn(400, 2, generator=generator) for _ in range(2))
        accuracy, p_value = classify(a, b)
        step = math.exp(-400 * 2 * (accuracy - 0.5) ** 2) / (math.pi * 200) ** 0.5
        p_values.append(p_value - step / 2)
    assert kstest(p_values, "uniform").pvalue > 0.01
    assert classify(a, a + torch.tensor([1.0, 0.0]))[1] < 1e-6
    assert classify(a, torch.tensor([2.0, 1.0]) * a)[1] < 1e-3


def test_the_seed_decides_and_the_random_state_stays():
    state = torch.get_rng_state()
    pair, few = as_functions(diagonal()), {"num_samples": 10, "warmup": 5, "chains": 1}
    one, two, other = (reference_posterior(pair, X, seed=s, **few).draws for s in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["num_samples", "chains", "warmup"])
def test_refuses_counts(name: str):
    with pytest.raises(ValueError, match=name):
        reference_posterior(as_functions(diagonal()), X, **{name: 0})


def test_refuses_other_data_than_the_references(chains):
    with pytest.raises(ValueError, match="x: expected the 4 data of the reference, got 1"):
        compare_to_reference(as_functions(diagonal()), X, chains)
    with pytest.raises(ValueError, match="num_samples: expected at least 20"):
        compare_to_reference(as_functions(diagonal()), DATA, chains, num_samples=10)


def test_refuses_chains_that_never_moved(chains):
    stuck = dataclasses.replace(chains, effective=torch.full_like(chains.effective, math.nan))
    with pytest.raises(ValueError, match="chains that move"):
        compare_to_reference(as_functions(diagonal()), DATA, stuck)
