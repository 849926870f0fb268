"""The parts of the KL equal the closed forms of Gaussian aggregates, within bracket and error."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_bvae import VAE, tempered, theory
from pyro_bvae.diagnostics import elbo_surgery
from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.encoded import encoded_batches, marginals
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.objectives.decomposition import bracket
from pyro_bvae.posteriors import FlowPosterior, MeanFieldPosterior, MixturePosterior
from pyro_bvae.priors import NormalPrior
from pyro_bvae.theory import LinearGuide
from tests.diagnostics.linear_pairs import linear_pair, optimum_pair

SIGMA = torch.tensor([[1.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
CASES = {
    1: ([[0.9, 0.0], [0.0, 0.8]], [0.19, 0.36], 1.0, 1.3411912272),
    2: ([[1.2, -0.3], [0.4, 0.7]], [0.1, 0.5], 0.5, 2.4887189562),
}
SPECTRUM = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.25], dtype=torch.float64)
NOISE = 0.3**0.5


def case(number):
    """The guide, the prior's variance and the exact sum of the parts."""
    weight, variances, r, total = CASES[number]
    return LinearGuide(torch.tensor(weight), torch.diag(torch.tensor(variances))), r, total


def draws(n, covariance):
    return torch.randn(n, len(covariance)) @ torch.linalg.cholesky(covariance).mT


def holds(found, truth, slack=0.0):
    """Whether the truth is in the bracket, widened by 4.5 standard errors."""
    edge = 4.5 * found.error + slack
    return bool(((found.low - edge <= truth) & (truth <= found.high + edge)).all())


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("correlation", [0.0, 0.1])
def test_parts_are_the_closed_forms_of_a_gaussian_aggregate(number, correlation):
    guide, r, total = case(number)
    guide.covariance[0, 1] = guide.covariance[1, 0] = correlation
    exact = theory.kl_decomposition(guide, SIGMA, prior_scale=r**0.5)
    pair = linear_pair(torch.eye(2), guide, likelihood_scale=1.0, prior_scale=r**0.5)
    found = elbo_surgery(pair, draws(12_000, SIGMA))
    assert found.exact
    # The bias of a mixture over B data is about 3/B here: −.051 and +.054 nats at 64 (measured).
    # Of a latent by itself both ends can be off to one side, by less than that.
    slack = 3.5 / found.batch_size
    assert holds(found.mutual_information, exact.mutual_information)
    assert holds(found.total_correlation, exact.total_correlation, slack)
    assert holds(found.dimension_wise_kl, exact.dimension_wise_kl, slack)
    for part in (found.mutual_information, found.total_correlation):
        assert part.high - part.low < 4 * slack
        assert part.error < 0.03
    if not correlation:
        parts = exact.mutual_information + exact.total_correlation + exact.dimension_wise_kl.sum()
        assert parts.item() == pytest.approx(total, abs=1e-9)
        assert holds(found.kl, total)


def test_the_parts_add_up_to_the_kl_and_the_elbo():
    guide, r, _ = case(2)
    pair = linear_pair(torch.eye(2), guide, likelihood_scale=0.7, prior_scale=r**0.5)
    found = elbo_surgery(pair, draws(1000, SIGMA))
    total, kl = found.dimension_wise_total, found.kl.low.item()
    ends = (
        (found.mutual_information.low, found.total_correlation.high, total.high),
        (found.mutual_information.high, found.total_correlation.low, total.low),
    )
    for parts in ends:
        assert sum(parts).item() == pytest.approx(kl, abs=1e-9)
    assert found.elbo == pytest.approx(-found.reconstruction.low.item() - kl)
    knobs = {"beta": 1.0, "likelihood_scale": 0.7, "prior_scale": r**0.5}
    terms = theory.linear_terms(SIGMA, torch.eye(2), guide, **knobs)
    assert holds(found.reconstruction, terms.distortion)
    table = found.table()
    assert list(table.index)[2:] == ["mutual_information", "total_correlation", "dimension_wise_kl"]
    assert table.loc["kl", "low"] == table.loc["kl", "high"] == kl


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_at_the_linear_optimum_all_of_the_kl_is_information(beta):
    optimum = theory.linear_optimum(SPECTRUM, 3, beta=beta, likelihood_scale=NOISE)
    pair = optimum_pair(beta, latents=3, spectrum=SPECTRUM, noise=NOISE)
    found = elbo_surgery(pair, draws(8000, torch.diag(SPECTRUM)), batch_size=1000)
    # The bracket's width is E log(1 + q(z|x)/Σ_k q(z|x_k)) ≲ E [q(z|x)/q(z)]/B, which is e^{2 MI}/B
    # for normals, and the bias of either end, of any part, is no more than it.
    width = (found.mutual_information.high - found.mutual_information.low).item()
    assert 0 < width < float((2 * optimum.rate).exp()) / found.batch_size
    assert holds(found.mutual_information, optimum.rate)
    assert holds(found.information_per_latent, optimum.rates, width)
    assert holds(found.total_correlation, 0.0, width)
    assert holds(found.dimension_wise_kl, torch.zeros(3), width)


def test_more_data_in_a_batch_narrow_the_bracket_as_one_over_their_number():
    guide, _, _ = case(1)
    pair, x = linear_pair(torch.eye(2), guide, likelihood_scale=1.0), draws(8192, SIGMA)
    small, large = (elbo_surgery(pair, x, batch_size=size).mutual_information for size in (64, 512))
    # −.051 and +.054 around the truth at 64.
    assert (small.high - small.low).item() == pytest.approx(0.105, abs=0.01)
    assert ((small.high - small.low) / (large.high - large.low)).item() == pytest.approx(8, rel=0.1)


def test_independent_latents_give_the_objectives_own_bracket():
    guide, _, _ = case(1)
    pair, x = linear_pair(torch.eye(2), guide, likelihood_scale=1.0), draws(64, SIGMA)
    sampler = Sampler(pair, x)
    with sampler.running(0):
        ends = [
            bracket(b.pairs, b.log_prior) for b in encoded_batches(sampler, batch_size=16, seed=0)
        ]
    found = elbo_surgery(pair, x, batch_size=16)
    for side in (0, 1):
        for name in ("mutual_information", "total_correlation"):
            values = torch.stack([getattr(end[side], name) for end in ends])
            assert getattr(found, name)[side] == pytest.approx(values.mean().item(), abs=1e-10)


def vae(posterior):
    return VAE(
        prior=NormalPrior(2),
        likelihood=NormalLikelihood(mlp_decoder(2, (5,), hidden=())),
        posterior=posterior,
    )


@pytest.mark.parametrize("family", [MeanFieldPosterior, MixturePosterior, FlowPosterior])
def test_any_posterior_is_taken_and_says_whether_it_is_exact(family):
    made = vae(family(mlp_encoder((5,), hidden=()), latents=2))
    found = elbo_surgery(made, torch.randn(400, 5))
    assert found.exact == (family is MeanFieldPosterior)
    with torch.no_grad():
        x, z = torch.randn(3, 5), torch.randn(4, 2)
        expected = torch.stack([made.posterior(x[k : k + 1]).log_prob(z) for k in range(3)], 1)
        # Every draw under every datum, as the estimates need it.
        pairs = made.posterior(x).log_prob(z[:, None].expand(-1, 3, -1))
    torch.testing.assert_close(pairs, expected)
    assert found.mutual_information.low <= found.mutual_information.high


def test_ways_to_hand_over_a_pair_agree_and_randomness_is_its_own():
    made, x = vae(MeanFieldPosterior(mlp_encoder((5,), hidden=()), latents=2)), torch.randn(100, 5)
    state = torch.get_rng_state()
    plain = elbo_surgery(made, x).table()
    for pair in (tempered(made, 4.0), (made.model, made.guide)):
        assert elbo_surgery(pair, x).table().equals(plain)
    assert torch.equal(torch.get_rng_state(), state)
    assert not elbo_surgery(made, x, seed=1).table().equals(plain)


@pytest.mark.parametrize("plates", [False, True])
def test_scalars_and_plates_of_latents_are_the_same_code(plates):
    def codes(loc, scale):
        if not plates:
            return pyro.sample("z", dist.Normal(loc, scale).to_event(1))
        with pyro.plate("latents", 2, dim=-1):
            return pyro.sample("z", dist.Normal(loc, scale))

    def model(x):
        with pyro.plate("data", len(x), dim=-2 if plates else -1):
            z = codes(torch.zeros(len(x), 2), 1.0)
            with pyro.plate("pixels", 2, dim=-1) if plates else pyro.poutine.scale(scale=1.0):
                fn = dist.Normal(z, 1.0)
                pyro.sample("x", fn if plates else fn.to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x), dim=-2 if plates else -1):
            codes(x / 2, 0.5**0.5)

    found = elbo_surgery((model, guide), 2**0.5 * torch.randn(4000, 2))
    assert holds(found.information_per_latent, torch.full((2,), 0.3466), 0.02)
    assert found.names == ("z[0]", "z[1]")


@pytest.mark.parametrize(("data", "batch_size", "size"), [(9, 2, 2), (15, 3, 3), (8, 512, 2)])
def test_few_data_in_small_batches_still_give_numbers(data: int, batch_size: int, size: int):
    pair = optimum_pair(1.0, latents=3, spectrum=SPECTRUM, noise=NOISE)
    found = elbo_surgery(pair, torch.randn(data, 5), batch_size=batch_size)
    assert found.batch_size == size
    assert torch.isfinite(torch.tensor(found.table().to_numpy())).all()


def test_marginals_of_mixtures_have_their_moments():
    q = MixturePosterior(mlp_encoder((5,), hidden=()), latents=2)(torch.randn(3, 5))
    normal, exact = marginals(q)
    assert not exact
    sample = q.sample((40_000,))
    torch.testing.assert_close(normal.mean, sample.mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(normal.variance, sample.var(0), atol=0.08, rtol=0.05)


def test_bad_input_is_named():
    pair = optimum_pair(1.0, latents=3, spectrum=SPECTRUM, noise=NOISE)
    with pytest.raises(ValueError, match="x: expected at least 8 data, got 7"):
        elbo_surgery(pair, torch.randn(7, 5))
    for size in (0, 1):
        with pytest.raises(ValueError, match="batch_size: expected"):
            elbo_surgery(pair, torch.randn(9, 5), batch_size=size)

    def two(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0)) + pyro.sample("w", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x, 1.0))
            pyro.sample("w", dist.Normal(x, 1.0))

    with pytest.raises(ValueError, match=r"site: no latent .* named 'y'; there are \['w', 'z'\]"):
        elbo_surgery((two, guide), torch.randn(9), site="y")


def test_the_line_says_what_stands_for_what():
    """A Dirichlet's latents go as normals; the nats of a second site are of the ELBO, too."""

    def model(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
            z = pyro.sample("z", dist.Dirichlet(torch.ones(3)))
            pyro.sample("x", dist.Normal(a + z[..., 0], 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("a", dist.Normal(x / 2, 0.5))
            pyro.sample("z", dist.Dirichlet(torch.ones(len(x), 3)))

    x = torch.randn(40)
    line = str(elbo_surgery((model, guide), x, site="z"))
    assert "the last two with normals for single latents; log q/p of the other latents" in line
    assert line.endswith(str(elbo_surgery((model, guide), x, site="z").others))
    assert "normals" not in str(elbo_surgery((model, guide), x, site="a"))
