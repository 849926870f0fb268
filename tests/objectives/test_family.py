"""What every objective does: named terms, one true ELBO, any order of the batch, recording."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from torch import nn

from pyro_bvae import tempered
from pyro_bvae.objectives import (
    ELBO,
    MMDELBO,
    AdversarialELBO,
    CapacityELBO,
    FactorELBO,
    ImportanceELBO,
    MomentELBO,
    TotalCorrelationELBO,
)
from pyro_bvae.training import CompiledSVI
from tests.objectives.examples import BATCH, FAMILY, LATENTS, critic, data, small_vae

X = data()


def loss_and_grads(objective, vae, *, beta=1.0, x=X, seed=0, **keywords):
    pyro.set_rng_seed(seed)
    loss = objective.differentiable_loss(*tempered(vae, beta), x, **keywords)
    return [loss.detach(), *torch.autograd.grad(loss, list(vae.parameters()), allow_unused=True)]


def assert_same(mine, others, rtol=1e-11):
    for a, b in zip(mine, others, strict=True):
        a, b = (torch.zeros(()) if t is None else t for t in (a, b))
        assert torch.allclose(a, b, rtol=rtol, atol=rtol * 1e2)


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("size", [None, 30])
def test_the_terms_and_the_true_elbo(name, size):
    """Weighted terms sum to the loss; the ELBO is that of `ELBO`, at β = 1, whatever the loss."""
    vae, objective = small_vae(), FAMILY[name]()
    pyro.set_rng_seed(0)
    estimate = objective.estimate(*tempered(vae, 3.0), X, size=size)
    weighted = sum(estimate.weights[term] * value for term, value in estimate.terms.items())
    assert torch.allclose(estimate.loss, weighted, rtol=1e-12)
    pyro.set_rng_seed(0)
    particles = {"num_particles": objective.num_particles}
    plain = ELBO(**particles, vectorize_particles=objective.vectorize_particles)
    plain.max_plate_nesting = objective.max_plate_nesting
    expected = plain.estimate(vae.model, vae.guide, X, size=size)
    assert torch.allclose(estimate.elbo, expected.elbo, rtol=1e-12)
    assert torch.allclose(estimate.kl_per_latent["z"], expected.kl_per_latent["z"], rtol=1e-12)
    assert estimate.data == (size or BATCH)
    assert all(value.dim() == 0 for value in [*estimate.terms.values(), estimate.loss])
    assert all(value.dim() == 0 and not value.requires_grad for value in estimate.measures.values())


EXACT = {
    "free bits of 0": lambda: ELBO(free_bits=0.0),
    "γ = 1, C = 0": lambda: CapacityELBO(1.0, capacity=0.0),
    "factor, γ = 0": lambda: FactorELBO(critic(), gamma=0.0),
    "mmd, γ = 0": lambda: MMDELBO(0.0),
    "moment, λ = 0": lambda: MomentELBO(off_diagonal=0.0, diagonal=0.0),
}
SAMPLED = {
    "α = β = γ = 1": lambda: TotalCorrelationELBO(beta=1.0),
    "weighted": lambda: TotalCorrelationELBO(beta=1.0, sampling="weighted"),
    "K = 1": lambda: ImportanceELBO(1),
}


@pytest.mark.parametrize("beta", [1.0, 4.0, 0.3])
@pytest.mark.parametrize("name", EXACT)
def test_reduces_to_the_beta_elbo(name, beta):
    vae = small_vae()
    mine = loss_and_grads(EXACT[name](), vae, beta=beta, size=30)
    assert_same(mine, loss_and_grads(ELBO(), vae, beta=beta, size=30))


@pytest.mark.parametrize("beta", [1.0, 4.0, 0.3])
@pytest.mark.parametrize("name", SAMPLED)
def test_reduces_to_the_beta_elbo_whose_kl_is_sampled(name, beta):
    vae = small_vae()
    mine = loss_and_grads(SAMPLED[name](), vae, beta=beta, size=30)
    assert_same(mine, loss_and_grads(Trace_ELBO(), vae, beta=beta, size=30))


@pytest.mark.parametrize("sampling", ["stratified", "weighted"])
def test_equal_prices_of_the_parts_are_a_beta(sampling):
    vae = small_vae()
    equal = TotalCorrelationELBO(alpha=4.0, beta=4.0, gamma=4.0, sampling=sampling)
    assert_same(loss_and_grads(equal, vae), loss_and_grads(Trace_ELBO(), vae, beta=4.0))


def test_beta_multiplies_what_stands_for_the_kl():
    vae = small_vae()
    for cold, hot in (
        (
            TotalCorrelationELBO(alpha=2.0, beta=8.0, gamma=6.0),
            TotalCorrelationELBO(alpha=1.0, beta=4.0, gamma=3.0),
        ),
        (CapacityELBO(20.0, capacity=0.3), CapacityELBO(10.0, capacity=0.3)),
    ):
        assert_same(loss_and_grads(cold, vae), loss_and_grads(hot, vae, beta=2.0))
    judge = critic()
    cold, hot = (AdversarialELBO(judge, gamma=gamma) for gamma in (6.0, 3.0))
    assert_same(loss_and_grads(cold, vae), loss_and_grads(hot, vae, beta=2.0))


def test_an_adversarial_objective_of_weight_zero_is_an_autoencoder():
    vae = small_vae()
    mine = loss_and_grads(AdversarialELBO(critic(), gamma=0.0), vae)
    assert_same(mine, loss_and_grads(ELBO(), vae, beta=0.0))


@settings(deadline=None, max_examples=10)
@given(order=st.permutations(range(BATCH)))
@pytest.mark.parametrize("name", FAMILY)
def test_the_order_of_a_batch_does_not_matter(name, order):
    """With each datum's noise moving along, loss and gradients are the same."""
    vae, objective = small_vae(), FAMILY[name]()
    noise = torch.randn(3, BATCH, LATENTS, generator=torch.Generator().manual_seed(0)).double()
    results = []
    for index in (list(range(BATCH)), list(order)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "torch.distributions.normal._standard_normal",
                lambda shape, dtype, device, index=index: (
                    noise[:, index] if len(shape) == 3 else noise[0, index]
                ),
            )
            results.append(loss_and_grads(objective, vae, x=X[index], size=30))
    assert_same(*results)


RECORDED_ELSEWHERE = {"elbo", "factor", "adversarial", "weighted", "sticking"}
"""With their critics, in other tests of training, or as "stratified" and "doubly" are."""


@pytest.mark.parametrize("name", [name for name in FAMILY if name not in RECORDED_ELSEWHERE])
def test_records_what_eager_steps_do(name):
    """Recorded and eager steps agree to the last bit, with no fallback."""
    weights = []
    for mode in ("eager", "recorded"):
        pyro.set_rng_seed(1)
        vae, objective = small_vae(), FAMILY[name]()
        svi = CompiledSVI(*tempered(vae, 2.0), torch.optim.Adam, objective, mode=mode)
        losses = [svi.step(x, size=30) for x in data(8 * BATCH).split(BATCH)]
        assert svi.fallback is None
        weights.append([torch.tensor(losses), *vae.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


@pytest.mark.parametrize("name", FAMILY)
def test_trains_under_pyros_svi(name):
    vae, objective = small_vae(), FAMILY[name]()
    judged = None if objective.critic is None else [*objective.critic.parameters()]
    before = None if judged is None else [p.detach().clone() for p in judged]
    svi = SVI(*tempered(vae, 1.0), Adam({"lr": 0.01}), objective)
    losses = [svi.step(X) for _ in range(60)]
    assert sum(losses[-10:]) < sum(losses[:10])
    if judged is not None:
        assert all(p.grad is None for p in judged)
        assert all(torch.equal(p, b) for p, b in zip(judged, before, strict=True))


def test_several_draws_are_averaged():
    """The mean over draws of a loss that is linear in them is that of the single ones."""
    vae = small_vae()
    pyro.set_rng_seed(0)
    single = TotalCorrelationELBO(beta=3.0)
    estimates = [single.estimate(vae.model, vae.guide, X) for _ in range(3)]
    pyro.set_rng_seed(0)
    together = TotalCorrelationELBO(beta=3.0, num_particles=3).estimate(vae.model, vae.guide, X)
    mean = sum(e.loss for e in estimates) / 3
    assert torch.allclose(together.loss, mean, rtol=1e-12)
    measured = sum(e.measures["total_correlation_low"] for e in estimates) / 3
    assert torch.allclose(together.measures["total_correlation_low"], measured, rtol=1e-12)
    draws = FactorELBO(critic(), gamma=1.0, num_particles=3).estimate(vae.model, vae.guide, X).draws
    assert [d.shape for d in draws] == [(3 * BATCH, LATENTS)] * 2


@pytest.mark.parametrize("particles", [{}, {"num_particles": 3, "vectorize_particles": True}])
def test_free_bits_are_the_least_that_a_latent_pays(particles):
    """Σ_j max(λ, KL_j), and no gradient of the KL for a latent below λ."""
    vae = small_vae()
    with torch.no_grad():
        vae.posterior.head.bias.copy_(torch.tensor([3.0, 0.0, 0.0, 0.0]))
        vae.posterior.head.weight.mul_(0.1)
    kl = ELBO().estimate(vae.model, vae.guide, X, size=30).kl_per_latent["z"].detach() / 30
    assert kl[0] > 1.0 > kl[1]
    estimate = ELBO(free_bits=1.0, **particles).estimate(*tempered(vae, 4.0), X, size=30)
    assert estimate.terms["paid_kl_z"].item() == pytest.approx(30 * (kl[0] + 1).item(), rel=1e-12)
    (grad,) = torch.autograd.grad(estimate.terms["paid_kl_z"], vae.posterior.head.weight)
    assert (grad[[1, 3]] == 0).all()
    assert (grad[[0, 2]] != 0).all()
    assert estimate.kl.item() == pytest.approx(30 * kl.sum().item(), rel=1e-12)


def test_a_global_latent_keeps_its_kl():
    vae = small_vae(scale=dist.HalfNormal(1.0))
    for name in ("free bits", "capacity", "stratified", "factor", "adversarial", "mmd", "dip ii"):
        estimate = FAMILY[name]().estimate(*tempered(vae, 3.0), X, size=30)
        assert estimate.weights["kl_prior_scale"] == 1
        kl = estimate.kl_per_latent["prior_scale"].sum()
        assert torch.allclose(estimate.terms["kl_prior_scale"], kl, rtol=1e-12)
        assert torch.isfinite(estimate.loss)


def normal(*shape):
    return dist.Normal(torch.zeros(*shape, dtype=torch.float64), 1.0).to_event(len(shape))


def pair_of(q, p=None, *, mask=True, scale=1.0, names=("z",)):
    """A pair that draws its latents from q and p, all in a plate of a mask and a scale."""

    def model(x):
        with pyro.plate("data", BATCH), poutine.scale(scale=scale):
            with poutine.mask(mask=mask):
                z = [pyro.sample(name, p or normal(LATENTS)) for name in names]
            mean = z[0].reshape(*z[0].shape[: -q.event_dim], -1).sum(-1)
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x[:, 0])

    def guide(x):
        with pyro.plate("data", BATCH), poutine.scale(scale=scale), poutine.mask(mask=mask):
            for name in names:
                pyro.sample(name, q)

    return model, guide


FULL = dist.MultivariateNormal(torch.zeros(LATENTS).double(), torch.eye(LATENTS).double())
PLAIN = normal(LATENTS)
AGGREGATE = ("stratified", "factor", "adversarial", "mmd", "dip ii")


@pytest.mark.parametrize("name", AGGREGATE)
@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (
            pair_of(PLAIN, names=("a", "b")),
            r"site: expected the name of one of .* \['a', 'b'\] .* pass site='a', say",
        ),
        (pair_of(PLAIN, scale=2.0), "guide: expected data of equal weight at site 'z'"),
        (
            pair_of(PLAIN, mask=torch.arange(BATCH) > 2),
            "guide: expected data of equal weight at site 'z'",
        ),
        (
            pair_of(normal(2, 2), normal(2, 2)),
            r"guide: expected site 'z' to draw codes of shape \[batch, latents\]",
        ),
    ],
)
def test_refuses_pairs_without_the_codes_of_a_batch(name, pair, message):
    with pytest.raises(ValueError, match=message):
        FAMILY[name]().loss(*pair, X)


@pytest.mark.parametrize("name", ["stratified", "dip i"])
def test_refuses_dependent_latents(name):
    with pytest.raises(ValueError, match=r"guide: expected independent latents at site 'z'"):
        FAMILY[name]().loss(*pair_of(FULL), X)


@pytest.mark.parametrize("name", ["factor", "adversarial", "mmd", "importance"])
def test_takes_dependent_latents(name):
    assert torch.isfinite(FAMILY[name]().differentiable_loss(*pair_of(FULL), X))


@pytest.mark.parametrize("name", AGGREGATE)
def test_refuses_a_batch_of_one_of_several(name):
    vae = small_vae()
    with pytest.raises(ValueError, match="x: expected at least 2 data in a batch, got 1"):
        FAMILY[name]().loss(vae.model, vae.guide, X[:1], size=9)


@pytest.mark.parametrize("name", FAMILY)
def test_takes_a_scalar_latent(name):
    """A latent without event dimension is a code of one latent, where there is nothing to sum."""

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 0.5))

    objective = FAMILY[name]()
    if objective.critic is not None:
        objective.critic = nn.Linear(1, 1)
    estimate = objective.estimate(model, guide, X[:, 0])
    assert torch.isfinite(estimate.loss)
    if name in ("stratified", "weighted"):
        assert estimate.terms["total_correlation"].abs() < 1e-12


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ELBO(free_bits=-1.0), ValueError, "free_bits: expected a finite number >= 0"),
        (lambda: CapacityELBO(-1.0, capacity=1.0), ValueError, "gamma: expected a finite number"),
        (lambda: CapacityELBO(1.0, capacity=-1.0), ValueError, "capacity: expected a finite"),
        (lambda: CapacityELBO(1.0, capacity="a"), TypeError, "capacity: expected a number, a 0"),
        (
            lambda: CapacityELBO(1.0, capacity=lambda step: -1.0),
            ValueError,
            "capacity at step 0: expected a finite number >= 0, got -1.0",
        ),
        (lambda: TotalCorrelationELBO(beta=float("nan")), ValueError, "beta: expected a finite"),
        (
            lambda: TotalCorrelationELBO(beta=1.0, sampling="strat"),
            ValueError,
            r"sampling: expected one of \('stratified', 'weighted'\), got 'strat'",
        ),
        (lambda: FactorELBO(len, gamma=1.0), TypeError, "critic: expected a module.*got builtin"),
        (lambda: AdversarialELBO(nn.ReLU(), gamma=True), ValueError, "gamma: expected a finite"),
        (lambda: ImportanceELBO(0), ValueError, "num_particles: expected at least 1, got 0"),
        (lambda: ImportanceELBO(2, gradient="x"), ValueError, "gradient: expected one of"),
        (lambda: MMDELBO(float("inf")), ValueError, "gamma: expected a finite number >= 0"),
        (
            lambda: MomentELBO(off_diagonal=1.0, diagonal=1.0, covariance="z"),
            ValueError,
            "covariance: expected one of",
        ),
    ],
)
def test_refuses_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_refuses_a_critic_of_another_shape():
    vae = small_vae()
    objective = FactorELBO(nn.Linear(LATENTS, 3), gamma=1.0)
    with pytest.raises(ValueError, match=rf"critic: expected an output of shape \[{BATCH}\] or"):
        objective.loss(vae.model, vae.guide, X)


def test_refuses_data_without_a_local_latent():
    def model(x):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(w, 1.0), obs=x[:, 0])

    def guide(x):
        pyro.sample("w", dist.Normal(0.0, 1.0))

    for name in ("capacity", *AGGREGATE):
        with pytest.raises(ValueError, match="guide: expected a latent site in the plate"):
            FAMILY[name]().loss(model, guide, X)
    for objective in (ImportanceELBO(2), ImportanceELBO(1)):
        with pytest.raises(ValueError, match="no importance bound for global sites"):
            objective.loss(model, guide, X)
