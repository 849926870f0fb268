"""Ranks of known guides: their exact distributions, coverages, and p-values that are uniform."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, kstest

from pyro_bvae import VAE, tempered, theory
from pyro_bvae.diagnostics import calibration
from pyro_bvae.diagnostics.calibration import summarise
from pyro_bvae.diagnostics.ranks import Uniformity, ranks
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from tests.diagnostics.linear_pairs import linear_pair, tempered_pair

NOISE = 0.3**0.5
W = torch.tensor([[1.5, 0.2], [0, 1], [0.3, -0.4], [0, 0], [0.1, 0.1]], dtype=torch.float64)
EXAMPLES = torch.zeros(3, 5, dtype=torch.float64)
ONE = torch.tensor([[2**0.5]], dtype=torch.float64)


def scaled_pair(c):
    """The exact posterior of W with every scale multiplied by c."""
    guide = theory.tempered_posterior(W, likelihood_scale=NOISE)
    return linear_pair(
        W, guide._replace(covariance=c**2 * guide.covariance), likelihood_scale=NOISE
    )


def within(count, number, probability, z=4.5):
    """Whether a binomial count is within z standard errors (a false alarm in 10⁵)."""
    spread = (number * probability * (1 - probability)) ** 0.5
    return abs(count - number * probability) <= z * spread


@pytest.mark.parametrize(("c", "coverage"), [(0.5, 0.58917), (2.0, None)])
def test_ranks_of_too_narrow_and_too_wide_guides_have_their_exact_distribution(c, coverage):
    found = calibration(scaled_pair(c), EXAMPLES, num_simulations=20_000, num_samples=9)
    expected = theory.rank_probabilities(9, c)
    if coverage:
        assert theory.interval_coverage(0.9, c).item() == pytest.approx(coverage, abs=1e-5)
        assert expected[0].item() == pytest.approx(0.238606, abs=1e-6)
    for column in found.ranks.T:
        for rank, probability in enumerate(expected.tolist()):
            assert within((column == rank).sum().item(), 20_000, probability)
    assert found.shapes() == ["too narrow" if c < 1 else "too wide"] * 2
    assert found.p_value <= 2e-4


@pytest.mark.parametrize(
    ("beta", "c", "coverage"),
    [(0.25, 0.506918, 0.595610), (1.0, 1, 0.9), (4.0, 1.371989, 0.975974)],
)
def test_coverage_of_a_linear_beta_vae_on_its_own_data(beta, c, coverage):
    ratio = theory.effective_scale_ratio(ONE.item(), beta=beta, likelihood_scale=NOISE)
    assert ratio.item() == pytest.approx(c, abs=1e-6)
    assert theory.interval_coverage(0.9, ratio).item() == pytest.approx(coverage, abs=1e-6)
    pair = tempered_pair(ONE, beta=beta, likelihood_scale=NOISE)
    found = calibration(pair, torch.zeros(3, 1), num_simulations=20_000, num_samples=999)
    row = found.coverage([0.9]).iloc[0]
    assert row["level"] == 0.9
    # The ends of an interval of 999 draws are ranks, which moves its coverage by some 1/1000.
    inside = theory.rank_probabilities(999, ratio)[50:950].sum().item()
    assert inside == pytest.approx(coverage, abs=1e-3)
    assert within(row["coverage"] * 20_000, 20_000, inside)
    assert row["low"] < row["coverage"] < row["high"]
    assert found.shapes() == [{0.25: "too narrow", 1.0: "calibrated", 4.0: "too wide"}[beta]]


def test_p_values_of_an_exact_guide_are_uniform():
    # 64 independent latents in 4 runs. Kolmogorov's distance of n uniform values exceeds
    # 1.95/√n once in a thousand times.
    eye = torch.eye(64)
    pair = tempered_pair(eye, likelihood_scale=1.0)
    runs = [
        calibration(pair, torch.zeros(3, 64), num_simulations=300, num_samples=49, seed=seed)
        for seed in range(4)
    ]
    values = np.concatenate([run.p_values for run in runs])
    assert kstest(values, "uniform").statistic < 1.95 / len(values) ** 0.5
    assert min(run.p_value for run in runs) > 0.01


def test_p_values_of_uniform_ranks_are_uniform_and_bands_hold_what_they_say():
    n, draws, columns = 200, 99, 2000
    uniformity = Uniformity(n, draws, seed=1)
    drawn = torch.randint(draws + 1, (n, columns))
    values = uniformity.p_values(drawn)
    assert kstest(values, "uniform").statistic < 1.95 / columns**0.5
    low, high = uniformity.band(0.9)
    empirical = uniformity.distribution(drawn)
    held = ((empirical >= low[:, None] - 1e-9) & (empirical <= high[:, None] + 1e-9)).all(0).sum()
    assert within(held, columns, 0.9)


@pytest.mark.parametrize("power", [0.7, 1.0, 1.5])
def test_the_statistic_is_its_definition(power):
    n, draws = 30, 7
    drawn = ((draws + 1) * torch.rand(n) ** power).long()
    counts = [(drawn <= i).sum().item() for i in range(draws)]
    points = [(i + 1) / (draws + 1) for i in range(draws)]
    both = [
        2 * min(binom.cdf(r, n, z), 1 - binom.cdf(r - 1, n, z))
        for r, z in zip(counts, points, strict=True)
    ]
    assert Uniformity(n, draws)._gamma(np.array([counts])) == pytest.approx(min(1, *both))


def test_joint_p_value_is_corrected_for_the_number_of_latents():
    drawn = torch.randint(10, (100, 5))
    found = summarise(drawn, drawn[:, 0], num_samples=9, names="abcde")
    assert found.p_value == pytest.approx(min(1, 5 * found.p_values.min()))
    assert found.distance_p_value == found.p_values[0]


def test_distances_see_a_guide_whose_latents_are_right_only_one_by_one():
    covariance = theory.tempered_posterior(torch.ones(1, 2), likelihood_scale=0.2)
    marginals = covariance._replace(covariance=torch.diag(covariance.covariance.diagonal()))
    pair = linear_pair(torch.ones(1, 2), marginals, likelihood_scale=0.2)
    found = calibration(pair, torch.zeros(3, 1))
    assert found.p_value > 0.01
    assert found.distance_p_value < 1e-3
    exact = linear_pair(torch.ones(1, 2), covariance, likelihood_scale=0.2)
    assert calibration(exact, torch.zeros(3, 1)).distance_p_value > 0.01


def test_distances_have_uniform_ranks_under_an_exact_guide():
    values = [
        calibration(
            tempered_pair(W, likelihood_scale=NOISE),
            EXAMPLES,
            num_simulations=150,
            num_samples=19,
            seed=seed,
        ).distance_p_value
        for seed in range(40)
    ]
    assert kstest(values, "uniform").statistic < 1.95 / 40**0.5


@pytest.mark.parametrize(("shift", "word"), [(0.5, "too high"), (-0.5, "too low")])
def test_a_shifted_guide_is_named(shift, word):
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2 + shift, 0.5**0.5))

    found = calibration((model, guide), torch.zeros(3))
    assert (found.names, found.shapes()) == (("z",), [word])
    assert f"z {word}" in str(found)
    assert found.table().loc["z", "guide"] == word


def vae(*, prior=None, prior_scale=1.0):
    """A VAE whose posterior is exact for a prior of this scale."""
    made = VAE(
        prior=prior or NormalPrior(2),
        likelihood=NormalLikelihood(mlp_decoder(2, (5,), hidden=()), scale=NOISE),
        posterior=MeanFieldPosterior(mlp_encoder((5,), hidden=()), latents=2),
    )
    weight = torch.zeros(5, 2)
    weight[0, 0], weight[1, 1] = 1.5, 0.7
    exact = theory.tempered_posterior(weight, likelihood_scale=NOISE, prior_scale=prior_scale)
    decoder, head = made.likelihood.decoder.net[0], made.posterior.head
    decoder.weight.data[:], head.weight.data[:2], head.weight.data[2:] = weight, exact.weight, 0
    decoder.bias.data[:], head.bias.data[:2] = 0, 0
    head.bias.data[2:] = exact.covariance.diagonal().log()
    return made


def test_a_vae_needs_no_data_and_any_kind_of_it_gives_the_same_ranks():
    made = vae()
    alone = calibration(made, num_simulations=400)
    assert alone.names == ("z[0]", "z[1]")
    assert alone.p_value > 0.01
    for pair, x in (
        (made, torch.zeros(3, 5)),
        (tempered(made, 7.0), torch.zeros(3, 5)),
        ((made.model, made.guide), torch.zeros(3, 5)),
    ):
        assert torch.equal(calibration(pair, x, num_simulations=400).ranks, alone.ranks)


@pytest.mark.parametrize("scale", [2.0, 1.0])
def test_a_hyperprior_is_held_where_the_guide_has_it(scale):
    made = vae(prior=NormalPrior(2, scale=dist.HalfNormal(1.0)), prior_scale=scale)
    made.prior.scale.loc.data.fill_(np.log(2.0))
    made.prior.scale.log_scale.data.fill_(-9.0)
    found = calibration(made, num_simulations=1000)
    assert found.names == ("z[0]", "z[1]")
    assert (found.p_value > 0.01) == (scale == 2)


def test_draws_are_the_seeds_and_random_state_and_modes_are_left():
    made = vae()
    made.train()
    state = torch.get_rng_state()
    first, again, other = (
        calibration(made, num_simulations=50, batch_size=20, seed=s) for s in (3, 3, 4)
    )
    assert torch.equal(first.ranks, again.ranks)
    assert not torch.equal(first.ranks, other.ranks)
    assert torch.equal(torch.get_rng_state(), state)
    assert made.training


@pytest.mark.filterwarnings("error")
def test_ranks_of_distances_do_not_need_large_batches():
    """An exact guide: uniform ranks of distances whatever the batch, p > 0.001 at a fixed seed."""
    found = calibration(
        tempered_pair(W, likelihood_scale=NOISE), EXAMPLES, num_simulations=100, batch_size=1
    )
    assert found.distance_p_value > 0.001


def test_pairs_that_cannot_take_draws_together_are_run_in_turn():
    together = tempered_pair(W, likelihood_scale=NOISE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyro_bvae.diagnostics.draws.Sampler._can_stack", lambda *_: False)
        found = calibration(together, EXAMPLES, num_simulations=300, num_samples=19)
    assert found.p_value > 0.01


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 3))
def test_ranks_with_ties_lie_between_those_below_and_those_not_above(draws, truth):
    values = torch.tensor(draws)[:, None]
    rank = ranks(torch.tensor([truth]), values).item()
    assert (values < truth).sum() <= rank <= (values <= truth).sum()


@pytest.mark.parametrize("copy", [False, True])
def test_arguments_of_the_same_numbers_are_told_apart(copy):
    """The context stays and the data are drawn, though both are zeros in the example."""

    def model(context, x):
        seen = 1 * x if copy else x[:, None]
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample(
                "x",
                dist.Normal((z + context).reshape(seen.shape), 1.0).to_event(seen.dim() - 1),
                obs=seen,
            )

    def guide(context, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal((x - context) / 2, 0.5**0.5))

    zeros = torch.zeros(3)
    if copy:
        with pytest.raises(ValueError, match=r"got the same numbers as arguments \[0, 1\]"):
            calibration((model, guide), (zeros, zeros), num_simulations=9)
        return
    alike, apart = (
        calibration((model, guide), (zeros, x), num_simulations=300, num_samples=19)
        for x in (zeros, torch.ones(3))
    )
    assert torch.equal(alike.ranks, apart.ranks)
    assert alike.p_value > 0.01


def test_bad_input_is_named():
    pair = tempered_pair(W, likelihood_scale=NOISE)
    with pytest.raises(ValueError, match=r"target: calibration needs data.*importance"):
        calibration(pair, EXAMPLES, target="tempered", beta=4.0)
    with pytest.raises(TypeError, match="x: the model of this pair takes its data"):
        calibration(pair)
    with pytest.raises(TypeError, match="x: expected the model to return data"):
        calibration((lambda x=None: None, lambda x: None))
    with pytest.raises(ValueError, match="num_simulations: expected at least 2"):
        calibration(pair, EXAMPLES, num_simulations=1)
    with pytest.raises(ValueError, match="levels: expected numbers between 0 and 1"):
        calibration(pair, EXAMPLES, num_simulations=9).coverage([1.0])

    def broken(x):
        with pyro.plate("data", len(x)):
            pyro.sample(
                "z",
                dist.Normal(
                    x[:, :2] + torch.where(x[:, :2] == 0, 0.0, torch.nan), 1.0, validate_args=False
                ).to_event(1),
            )

    with pytest.raises(ValueError, match="from the guide"):
        calibration((pair[0], broken), EXAMPLES)
