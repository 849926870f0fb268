"""The ELBO objective, held to Pyro's own and to closed forms."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoDelta, AutoNormal
from pyro.optim import Adam
from pyro.poutine.runtime import _PYRO_STACK
from torch import nn

from pyro_bvae import VAE, Pair, tempered
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.objectives import ELBO, Objective
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior

N, D = 5, 3
X = torch.randn(N, D, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
MASK = torch.tensor([True, False, True, True, False])


def linear_vae(scale=1.0, latents=2):
    return VAE(
        NormalPrior(latents, scale=scale),
        NormalLikelihood(nn.Linear(latents, D), scale="learned"),
        MeanFieldPosterior(nn.Identity(), latents, features=D),
    )


class Case:
    """A pair with parameters `self.p`: `draw(name, fn)` samples a latent in guide and model."""

    def __init__(self):
        generator = torch.Generator().manual_seed(1)
        self.p = torch.randn(6, generator=generator, dtype=torch.float64).requires_grad_()

    @property
    def parameters(self):
        return [self.p]


class Vae(Case):
    size = None
    scale = 1.0

    def __init__(self):
        self.vae = linear_vae(self.scale)

    @property
    def parameters(self):
        return [p for _, p in sorted(self.vae.named_parameters())]

    def model(self):
        return self.vae.model(X, size=self.size)

    def guide(self):
        return self.vae.guide(X, size=self.size)


class SubsampledVae(Vae):
    size = 17


class HyperpriorVae(Vae):
    scale = dist.HalfNormal(1.0)
    size = 17


class Nested(Case):
    """Two local sites, a global one, and nested plates with a site of their own."""

    def model(self):
        w = pyro.sample("w", dist.Gamma(2.0, 1.0))
        pixels = pyro.plate("pixels", D, dim=-1)
        with pyro.plate("data", 20, subsample=torch.arange(N), dim=-2):
            a = pyro.sample("a", dist.Normal(0.0, w))
            b = pyro.sample("b", dist.Normal(a, self.p[0].exp()))
            with pixels:
                c = pyro.sample("c", dist.Normal(b, 1.0))
                pyro.sample("x", dist.Normal(c, 1.0), obs=X)

    def guide(self):
        pyro.sample("w", dist.Gamma(self.p[1].exp(), 1.0))
        pixels = pyro.plate("pixels", D, dim=-1)
        with pyro.plate("data", 20, subsample=torch.arange(N), dim=-2):
            a = pyro.sample("a", dist.Normal(self.p[2] * X[:, :1], 0.5))
            pyro.sample("b", dist.Normal(a * self.p[3], self.p[4].exp()))
            with pixels:
                pyro.sample("c", dist.Normal(X * self.p[5], 0.3))


class Masked(Case):
    """A mask over the data on every site, and one over the pixels within the likelihood."""

    def model(self):
        with pyro.plate("data", N), poutine.mask(mask=MASK):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            mean = z @ self.p.reshape(2, 3)
            pyro.sample("x", dist.Normal(mean, 1.0).mask(X > 0).to_event(1), obs=X)

    def guide(self):
        with pyro.plate("data", N), poutine.mask(mask=MASK):
            pyro.sample("z", dist.Normal(X[:, :2] * self.p[:2], self.p[2].exp()).to_event(1))


class Weighted(Masked):
    """A weight for every datum, besides the mask."""

    weights = torch.linspace(0.5, 2.0, N, dtype=torch.float64)

    def model(self):
        with poutine.scale(scale=self.weights):
            super().model()

    def guide(self):
        with poutine.scale(scale=self.weights):
            super().guide()


class WeightedAsManyAsLatents(Case):
    """As many weights as latents, which would fit the wrong dimension too."""

    weights = torch.tensor([0.5, 3.0], dtype=torch.float64)

    def model(self):
        with pyro.plate("data", 2), poutine.scale(scale=self.weights):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.p.reshape(2, 3), 1.0).to_event(1), obs=X[:2])

    def guide(self):
        with pyro.plate("data", 2), poutine.scale(scale=self.weights):
            pyro.sample("z", dist.Normal(X[:2, :2] * self.p[:2], 0.5).to_event(1))


class Matrix(Case):
    """A latent matrix, and a full covariance: closed forms that do not split."""

    def model(self):
        with pyro.plate("data", N):
            m = pyro.sample("m", dist.Normal(torch.zeros(2, 3), 1.0).to_event(2))
            z = pyro.sample("z", dist.MultivariateNormal(torch.zeros(3), torch.eye(3)))
            pyro.sample("x", dist.Normal(m.sum(-2) + z, 1.0).to_event(1), obs=X)

    def guide(self):
        with pyro.plate("data", N):
            loc = X.unsqueeze(-2) * self.p.reshape(2, 3)
            pyro.sample("m", dist.Normal(loc, 0.5).to_event(2))
            pyro.sample("z", dist.MultivariateNormal(X * self.p[:3], 0.3 * torch.eye(3)))


class Sampled(Case):
    """A latent whose KL has no closed form: Normal against StudentT, in two dimensions."""

    def model(self):
        with pyro.plate("data", N):
            z = pyro.sample("z", dist.StudentT(3.0, torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.p.reshape(2, 3), 1.0).to_event(1), obs=X)

    def guide(self):
        with pyro.plate("data", N):
            pyro.sample("z", dist.Normal(X[:, :2] * self.p[:2], self.p[2].exp()).to_event(1))


class SampledMask(Sampled):
    def model(self):
        with poutine.mask(mask=MASK):
            super().model()

    def guide(self):
        with poutine.mask(mask=MASK):
            super().guide()


class OtherOrder(Case):
    """The guide goes a then b, the model b then a: a's prior depends on what q draws from a."""

    def model(self):
        with pyro.plate("data", N):
            b = pyro.sample("b", dist.Normal(0.0, 1.0))
            a = pyro.sample("a", dist.Normal(b, 0.5))
            pyro.sample("x", dist.Normal(a, 1.0), obs=X[:, 0])

    def guide(self):
        with pyro.plate("data", N):
            a = pyro.sample("a", dist.Normal(X[:, 0] * self.p[0], 0.7))
            pyro.sample("b", dist.Normal(self.p[1] * a, self.p[2].exp()))


class Factor(Case):
    """A guide that states log q by pyro.factor: z = e^u, −log|dz/du| = −u."""

    def model(self):
        with pyro.plate("data", N):
            z = pyro.sample("z", dist.LogNormal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=X[:, 0])

    def guide(self):
        with pyro.plate("data", N):
            q = dist.Normal(X[:, 0] * self.p[0], self.p[1].exp())
            u = pyro.sample("u", q, infer={"is_auxiliary": True})
            pyro.sample("z", dist.Delta(u.exp()))
            pyro.factor("jacobian", -u, has_rsample=True)


class Auto(Case):
    """AutoNormal, whose latents are auxiliary sites, here with constrained latents."""

    def __init__(self):
        super().__init__()
        self.guide = AutoNormal(self.model)
        self.guide()

    def model(self):
        s = pyro.sample("s", dist.HalfNormal(1.0))
        with pyro.plate("data", N):
            z = pyro.sample("z", dist.LogNormal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.p.reshape(2, 3), s).to_event(1), obs=X)

    @property
    def parameters(self):
        return [self.p, *self.guide.parameters()]


EXACT = [
    Vae,
    SubsampledVae,
    HyperpriorVae,
    Nested,
    Masked,
    Weighted,
    WeightedAsManyAsLatents,
    Matrix,
]
SAMPLED = [Sampled, SampledMask, OtherOrder, Factor, Auto]
BETAS = [None, 4.0, 0.3]


def pair_of(case, beta):
    return Pair(case.model, case.guide) if beta is None else tempered(case, beta)


def loss_and_grads(elbo, pair, parameters, seed=0):
    pyro.set_rng_seed(seed)
    loss = elbo.differentiable_loss(*pair)
    grads = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [loss.detach(), *[torch.zeros(()) if g is None else g for g in grads]]


def assert_agree(ours, theirs, case, beta):
    pair = pair_of(case, beta)
    mine = loss_and_grads(ours, pair, case.parameters)
    pyros = loss_and_grads(theirs, pair, case.parameters)
    for a, b in zip(mine, pyros, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-9)


PARTICLES = [
    {"num_particles": 1},
    {"num_particles": 3},
    {"num_particles": 3, "vectorize_particles": True},
]


@pytest.mark.parametrize("particles", PARTICLES)
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("case", EXACT)
def test_agrees_with_trace_mean_field_elbo(case, beta, particles):
    assert_agree(ELBO(**particles), TraceMeanField_ELBO(**particles), case(), beta)


@pytest.mark.parametrize("particles", PARTICLES[:2])
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("case", SAMPLED)
def test_agrees_with_trace_elbo_where_the_kl_is_sampled(case, beta, particles):
    assert_agree(ELBO(**particles), Trace_ELBO(**particles), case(), beta)


@pytest.mark.parametrize("case", [Sampled, OtherOrder, Factor])
def test_agrees_with_trace_elbo_vectorised(case):
    assert_agree(ELBO(**PARTICLES[2]), Trace_ELBO(**PARTICLES[2]), case(), 4.0)


@pytest.mark.parametrize("case", [Vae, HyperpriorVae, Nested, Masked])
def test_agrees_with_trace_elbo_in_expectation(case):
    """Over 30 runs of 40 particles the mean difference of losses and gradients is within 5 of its
    standard errors.
    """
    built = case()
    pair = pair_of(built, 2.0)
    particles = {"num_particles": 40, "vectorize_particles": True}
    elbos = ELBO(**particles), Trace_ELBO(**particles)
    runs = []
    for seed in range(30):
        both = [loss_and_grads(elbo, pair, built.parameters, seed) for elbo in elbos]
        runs.append(torch.cat([(a - b).reshape(-1) for a, b in zip(*both, strict=True)]))
    difference = torch.stack(runs)
    error = difference.std(0) / len(runs) ** 0.5
    assert (difference.mean(0).abs() <= 5 * error + 1e-10).all()


@pytest.mark.parametrize("beta", [4.0, {"z": 4.0}, torch.tensor(4.0)])
def test_value_is_the_closed_form(beta):
    """β KL(N(.7, .2) ‖ N(0, 1)) at β = 4 is 2.5988758248682 nats."""

    def model():
        with pyro.plate("data", 3):
            pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor([0.0, 1.0, 2.0]))

    def guide():
        with pyro.plate("data", 3):
            pyro.sample("z", dist.Normal(0.7, math.sqrt(0.2)))

    estimate = ELBO().estimate(*tempered((model, guide), beta))
    nll = 3 * math.log(2 * math.pi) / 2 + 2.5
    assert estimate.reconstruction.item() == pytest.approx(nll, rel=1e-13)
    assert estimate.loss.item() == pytest.approx(nll + 3 * 2.5988758248682, rel=1e-13)
    assert estimate.elbo.item() == pytest.approx(-nll - 3 * 2.5988758248682 / 4, rel=1e-13)
    assert estimate.data == 3
    assert float(estimate.weights["kl_z"]) == 4


@pytest.mark.parametrize("case", EXACT + SAMPLED)
@pytest.mark.parametrize("particles", PARTICLES[1:])
def test_the_parts_sum_to_the_whole(case, particles):
    built = case()
    if case in (Auto, SampledMask) and "vectorize_particles" in particles:
        particles = PARTICLES[1]
    hot = ELBO(**particles).estimate(*pair_of(built, 4.0))
    weighted = sum(hot.weights[name] * term for name, term in hot.terms.items())
    assert torch.allclose(hot.loss, weighted, rtol=1e-12)
    assert torch.allclose(hot.kl, sum(kl.sum() for kl in hot.kl_per_latent.values()), rtol=1e-12)
    assert torch.allclose(hot.elbo, -hot.reconstruction - hot.kl, rtol=1e-12)
    for name, kl in hot.kl_per_latent.items():
        assert torch.allclose(hot.terms[f"kl_{name}"], kl.sum(), rtol=1e-12)
        is_global = name.startswith(("w", "s", "prior"))
        assert hot.weights[f"kl_{name}"] == (1 if is_global else 4)


@pytest.mark.parametrize("case", [Vae, HyperpriorVae, Nested, Sampled])
def test_the_reported_elbo_knows_no_beta(case):
    built = case()
    pyro.set_rng_seed(0)
    cold = ELBO().estimate(built.model, built.guide)
    for beta in (0.0, 0.5, 8.0):
        pyro.set_rng_seed(0)
        hot = ELBO().estimate(*tempered(built, beta))
        assert torch.equal(hot.elbo, cold.elbo)
        assert torch.equal(hot.kl, cold.kl)
    assert torch.allclose(cold.loss, -cold.elbo, rtol=1e-12)


def test_kl_per_latent_is_split():
    vae = linear_vae(0.5, latents=3)
    q = vae.posterior(X)
    variance, mean = q.variance, q.mean
    kl = (variance / 0.25 + mean**2 / 0.25 - 1 - (variance / 0.25).log()) / 2
    for particles in PARTICLES:
        estimate = ELBO(**particles).estimate(vae.model, vae.guide, X, size=20)
        assert torch.allclose(estimate.kl_per_latent["z"], 4 * kl.sum(0), rtol=1e-12)
        assert estimate.data == 20


@settings(deadline=None, max_examples=15)
@given(order=st.permutations(range(N)))
def test_the_order_of_a_batch_does_not_matter(order):
    """With each datum's noise moving along, loss and gradients are the same."""
    noise = torch.randn(N, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    vae = linear_vae(dist.HalfNormal(1.0))
    results = []
    for index in (list(range(N)), list(order)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "torch.distributions.normal._standard_normal",
                lambda shape, dtype, device, index=index: (
                    noise[index] if shape == (N, 2) else torch.zeros(shape)
                ),
            )
            loss = ELBO().differentiable_loss(*tempered(vae, 4.0), X[index])
        trained = [p for n, p in vae.named_parameters() if n != "prior.scale.log_scale"]
        results.append([loss, *torch.autograd.grad(loss, trained)])
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-11)


def test_svi_takes_the_steps_of_trace_mean_field_elbo():
    weights = []
    for loss in (ELBO(), TraceMeanField_ELBO()):
        pyro.set_rng_seed(0)
        vae = linear_vae()
        svi = SVI(*tempered(vae, 3.0), Adam({"lr": 0.01}), loss)
        losses = [svi.step(X) for _ in range(5)]
        assert isinstance(losses[0], float)
        weights.append([torch.tensor(losses), *vae.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-9) for a, b in zip(*weights, strict=True))


def test_loss_has_no_gradients_and_loss_and_grads_adds_them():
    vae = linear_vae()
    pyro.set_rng_seed(0)
    value = ELBO().loss(vae.model, vae.guide, X)
    assert isinstance(value, float)
    assert all(p.grad is None for p in vae.parameters())
    for times in (1, 2):
        pyro.set_rng_seed(0)
        assert ELBO().loss_and_grads(vae.model, vae.guide, X) == value
        expected = loss_and_grads(
            ELBO(), (lambda: vae.model(X), lambda: vae.guide(X)), list(vae.parameters())
        )
        for parameter, grad in zip(vae.parameters(), expected[1:], strict=True):
            assert torch.allclose(parameter.grad, times * grad, rtol=1e-12)


def test_point_estimates():
    """A Delta guide gives −log p(x, z): the MAP objective."""
    case = Auto()
    guide = AutoDelta(case.model)
    guide()
    expected = Trace_ELBO().loss(case.model, guide)
    assert ELBO().loss(case.model, guide) == pytest.approx(expected, rel=1e-12)


def z_site(fn, name="z", plate="data"):
    def function():
        with pyro.plate(plate, N):
            pyro.sample(name, fn)

    return function


def with_data(function):
    def model():
        function()
        with pyro.plate("more", N):
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=X[:, 0])

    return model


NORMAL = dist.Normal(0.0, 1.0)
GOOD = Pair(with_data(z_site(NORMAL)), z_site(NORMAL))


def hot(beta):
    return tempered(GOOD, {"z": beta})


UNSOUND = [
    (
        Pair(GOOD.model, lambda: None),
        r"guide: lacks the latent sites \['z'\] .*it has \[\]; sample",
    ),
    (
        Pair(GOOD.model, lambda: (z_site(NORMAL)(), z_site(NORMAL, "y", "more")())),
        r"guide: site 'y' is not a latent site of the model, which has \['z'\]; remove it or mark",
    ),
    (
        Pair(with_data(z_site(dist.Poisson(2.0))), z_site(dist.Poisson(3.0))),
        r"guide: site 'z' draws from Poisson, .*reparameterised draws; train such a pair by Comp",
    ),
    (Pair(z_site(NORMAL), z_site(NORMAL)), "model: expected at least one observed site, got none"),
    (Pair(hot(4.0).model, GOOD.guide), "site 'z': expected the same β .*4.0 and 1.0;"),
    (Pair(GOOD.model, hot(4.0).guide), "site 'z': expected the same β .*1.0 and 4.0;"),
    (Pair(hot(torch.tensor(4.0)).model, GOOD.guide), "'z': expected the same β.*apply tempered"),
    (Pair(hot(torch.tensor(4.0)).model, hot(torch.tensor(3.0)).guide), "'z': expected the same β"),
    (
        Pair(poutine.scale(GOOD.model, 2.0), GOOD.guide),
        "site 'z': expected the same scale.*2.0 and",
    ),
    (
        Pair(with_data(z_site(dist.Normal(torch.zeros(N, 2), 1.0).to_event(1))), GOOD.guide),
        "event_dims disagree at site 'z'",
    ),
    (
        Pair(GOOD.model, z_site(dist.Normal(torch.zeros(N, N), 1.0))),
        "(?s)shapes disagree at site 'z'|invalid log_prob shape",
    ),
]


@pytest.mark.parametrize(("pair", "message"), UNSOUND)
def test_refuses_unsound_pairs(pair, message):
    with pytest.raises(ValueError, match=message):
        ELBO().loss(*pair)
    assert _PYRO_STACK == []


def test_refuses_data_outside_its_plate():
    def model():
        with pyro.plate("data", 1):
            pyro.sample("z", NORMAL)
            pyro.sample("x", NORMAL, obs=X[:, 0])

    def guide():
        with pyro.plate("data", 1):
            pyro.sample("z", NORMAL)

    with pytest.raises(ValueError, match='at site "x", invalid log_prob shape'):
        ELBO().loss(model, guide)


@pytest.mark.parametrize("where", ["model", "guide"])
@pytest.mark.parametrize("particles", PARTICLES)
def test_exceptions_leave_no_handler_behind(where, particles):
    def fail():
        z_site(NORMAL)()
        raise KeyError("of the user's")

    pair = Pair(with_data(fail), GOOD.guide) if where == "model" else Pair(GOOD.model, fail)
    with pytest.raises(KeyError, match="of the user's"):
        ELBO(**particles).loss(*tempered(pair, {"z": 2.0}))
    assert _PYRO_STACK == []


def test_refuses_particles_and_is_abstract():
    with pytest.raises(ValueError, match="num_particles: expected at least 1, got 0"):
        ELBO(num_particles=0)
    with pytest.raises(TypeError, match="abstract"):
        Objective()
