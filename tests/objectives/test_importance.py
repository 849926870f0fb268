"""The importance-weighted bound and its gradients, on a model whose log p(x) is known."""

import copy
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO
from torch import nn

from pyro_bvae import tempered, theory
from pyro_bvae.objectives import ELBO, ImportanceELBO
from tests.objectives.examples import data, small_vae

W = torch.tensor([[1.5, 0.2], [0, 1], [0.3, -0.4], [0, 0], [0.1, 0.1]], dtype=torch.float64)
X = torch.tensor([[1, -0.5, 0.3, 0.2, -0.1]], dtype=torch.float64)
NOISE = 0.3
EVIDENCE = -3.8953950495300598


class Linear(nn.Module):
    """p(x|z) = N(Wz, .3 I), and q the posterior tempered at β, or off it by `shift`."""

    def __init__(self, beta=1.0, shift=0.0):
        super().__init__()
        guide = theory.tempered_posterior(W, beta=beta, likelihood_scale=NOISE**0.5)
        self.mean = nn.Parameter(X @ guide.weight.mT + shift)
        self.scale_tril = nn.Parameter(torch.linalg.cholesky(guide.covariance))
        self.decoder = nn.Parameter(W.clone())

    def model(self, x, size=None):
        pyro.module("linear", self)
        with pyro.plate("data", size or len(x), subsample=torch.arange(len(x))):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.decoder.mT, NOISE**0.5).to_event(1), obs=x)

    def guide(self, x, size=None):
        pyro.module("linear", self)
        q = dist.MultivariateNormal(self.mean, scale_tril=self.scale_tril.tril())
        with pyro.plate("data", size or len(x), subsample=torch.arange(len(x))):
            pyro.sample("z", q.expand([len(x)]))


def log_weights(pair, k, x):
    """Draws of log p(x, z)/q(z|x) `[k, len(x)]`."""
    objective = ImportanceELBO(k)
    ((model, guide),) = objective._get_traces(pair.model, pair.guide, (x,), {})
    return objective._log_weights(model, guide)[0].reshape(k, len(x))


@torch.no_grad()
def bounds(pair, k, copies=4000, repeats=1):
    """Draws of L_K `[copies · repeats]`: each copy of the datum draws for itself."""
    drawn = [log_weights(pair, k, X.expand(copies, 5)) for _ in range(repeats)]
    return torch.cat([weights.logsumexp(0) - math.log(k) for weights in drawn])


def grads(objective, pair, names, x=X):
    loss = objective.differentiable_loss(pair.model, pair.guide, x)
    found = torch.autograd.grad(loss, [getattr(pair, name) for name in names])
    return torch.cat([g.reshape(-1) for g in found])


def test_the_evidence_is_the_closed_form():
    exact = theory.log_likelihood(X, W, likelihood_scale=NOISE**0.5)
    assert exact.item() == pytest.approx(EVIDENCE, abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 7])
@pytest.mark.parametrize("gradient", ["reparameterised", "doubly"])
def test_an_exact_guide_gives_the_evidence_at_every_draw(k, gradient):
    pair = Linear()
    for size in (None, 4):
        loss = ImportanceELBO(k, gradient=gradient).loss(pair.model, pair.guide, X, size=size)
        assert loss == pytest.approx(-(size or 1) * EVIDENCE, abs=1e-11)


def test_the_bound_rises_to_the_evidence():
    """β = 4: KL .8981231236 at K = 1, χ² .7978426, so a gap of .0080 at K = 50; 5 standard errors.

    At K = 50 the next order of the expansion, of 1/K², is allowed .1 of the gap.
    """
    pair = Linear(beta=4.0)
    means, errors = [], []
    for k in (1, 2, 5, 50):
        drawn = bounds(pair, k, repeats=10)
        means.append(drawn.mean().item())
        errors.append(drawn.std().item() / len(drawn) ** 0.5)
    assert means[0] == pytest.approx(EVIDENCE - 0.8981231236, abs=5 * errors[0])
    gap = theory.importance_gap(0.7978426, num_particles=50).item()
    assert gap == pytest.approx(0.0080, abs=5e-5)
    assert EVIDENCE - means[-1] == pytest.approx(gap, abs=5 * errors[-1] + 0.1 * gap)
    for a, b, error in zip(means, means[1:], errors, strict=False):
        assert b > a + 5 * error
    assert means[-1] < EVIDENCE + 5 * errors[-1]


def test_agrees_with_pyros_renyi_bound():
    """At α = 0, on one batch of the same draws, value and gradient."""
    vae, x = small_vae(), data(7)
    results = []
    renyi = RenyiELBO(alpha=0, num_particles=5, vectorize_particles=True, max_plate_nesting=1)
    for objective in (ImportanceELBO(5), renyi):
        pyro.set_rng_seed(0)
        vae.zero_grad()
        loss = objective.loss_and_grads(vae.model, vae.guide, x)
        results.append([torch.tensor(loss), *[p.grad.clone() for p in vae.parameters()]])
    assert all(torch.allclose(a, b, rtol=1e-9) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("k", [1, 5])
def test_no_gradient_for_an_exact_guide(k):
    """Sticking the landing, and at K > 1 DReG: every draw's gradient is 0; the plain one's not."""
    pair, names = Linear(), ["mean", "scale_tril"]
    for seed in range(3):
        pyro.set_rng_seed(seed)
        assert grads(ImportanceELBO(k, gradient="doubly"), pair, names).abs().max() < 1e-12
        pyro.set_rng_seed(seed)
        assert grads(ImportanceELBO(k), pair, names).abs().max() > 0.05


@pytest.mark.parametrize("k", [1, 4])
def test_the_closed_form_kl_does_not_stick_the_landing(k):
    pair = Linear()
    plain = ELBO(num_particles=k, vectorize_particles=k > 1)
    assert grads(plain, pair, ["mean", "scale_tril"]).abs().max() > 0.05


@pytest.mark.parametrize("beta", [1.0, 0.4])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_doubly_has_the_mean_of_the_plain_gradient(k, beta):
    """For guide and decoder, at β too: the mean difference is within 5 standard errors of 0."""
    pair = Linear(beta=2.0, shift=0.3)
    hot = tempered((pair.model, pair.guide), beta)
    names = ["mean", "scale_tril", "decoder"]
    x = X.expand(2000, 5)
    runs = []
    for seed in range(30):
        both = []
        for gradient in ("reparameterised", "doubly"):
            pyro.set_rng_seed(seed)
            loss = ImportanceELBO(k, gradient=gradient).differentiable_loss(*hot, x)
            found = torch.autograd.grad(loss / len(x), [getattr(pair, name) for name in names])
            both.append(torch.cat([g.reshape(-1) for g in found]))
        runs.append(torch.stack(both))
    runs = torch.stack(runs)
    difference = runs[:, 0] - runs[:, 1]
    error = difference.std(0) / len(runs) ** 0.5
    assert (difference.mean(0).abs() <= 5 * error + 1e-10).all()
    size = runs[:, 1].mean(0).abs().max()
    assert size > 10 * error.max()


def signal_to_noise(gradient, k, draws):
    """|mean| / sd of the gradient for one mean, over draws for one datum."""
    pair = Linear(beta=2.0, shift=0.3)
    pair.mean = nn.Parameter(pair.mean.detach().repeat(draws, 1))
    objective = ImportanceELBO(k, gradient=gradient)
    found = grads(objective, pair, ["mean"], X.expand(draws, 5)).reshape(draws, 2)[:, 0]
    return (found.mean().abs() / found.std()).item()


def test_the_signal_of_doubly_does_not_drown_as_draws_are_added():
    """The ratio falls as K^−½ for the plain gradient and rises as K^½ for DReG.

    Over a factor 64 of K that is 8; half of it is asked for. The error of a ratio over n draws is
    about 1/√n, .016; measured 1.13 and 7.55, and .26 and .018.
    """
    doubly, plain = (
        [signal_to_noise(gradient, k, draws=4000) for k in (4, 256)]
        for gradient in ("doubly", "reparameterised")
    )
    assert doubly[1] > 4 * doubly[0] > 0.4
    assert plain[1] < plain[0] / 2


def test_mask_leaves_data_out():
    """Masked data add nothing, the others what they would alone."""
    pair = Linear(beta=2.0)
    keep = torch.tensor([True, False])

    def masked(function):
        def wrapped(x):
            with pyro.poutine.mask(mask=keep):
                function(x)

        return wrapped

    pyro.set_rng_seed(0)
    loss = ImportanceELBO(3).loss(masked(pair.model), masked(pair.guide), X.expand(2, 5))
    pyro.set_rng_seed(0)
    weights = log_weights(pair, 3, X.expand(2, 5))
    assert loss == pytest.approx(-(weights[:, 0].logsumexp(0) - math.log(3)).item(), rel=1e-12)


def two_latents():
    def model(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
            b = pyro.sample("b", dist.Normal(a, 1.0))
            pyro.sample("x", dist.Normal(b, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(x / 3, 0.8))
            pyro.sample("b", dist.Normal((a + x) / 2, 0.7))

    return model, guide


def test_several_latents_share_one_bound():
    x = torch.tensor([1.0, -2.0])
    exact = -dist.Normal(0.0, 3**0.5).log_prob(x).sum().item()
    for gradient in ("reparameterised", "doubly"):
        loss = ImportanceELBO(2000, gradient=gradient).loss(*two_latents(), x)
        assert loss == pytest.approx(exact, abs=0.05)


class Chain(nn.Module):
    """a ~ N(0, 1), b ~ N(a, 1), c ~ N(b, 1), x ~ N(c, 1), and a guide that draws one from another.

    q(a|x) = N(x/4, 3/4), q(b|a, x) = N(2a/3 + x/3, 2/3), q(c|a, b, x) = N(b/2 + x/2, 1/2) is the
    posterior, or off it by `shift`.
    """

    def __init__(self, shift=0.0):
        super().__init__()
        rows = [[0, 0, 1 / 4, (3 / 4) ** 0.5], [2 / 3, 0, 1 / 3, (2 / 3) ** 0.5]]
        rows.append([0, 1 / 2, 1 / 2, (1 / 2) ** 0.5])
        moved = torch.tensor([[0, 0, -0.5, 1], [0.5, 0, 1, -0.5], [1, -0.5, 0.5, 1]])
        self.rows = nn.Parameter(torch.tensor(rows) + shift * moved)

    def model(self, x):
        pyro.module("chain", self)
        with pyro.plate("data", len(x)):
            z = 0.0
            for name in "abc":
                z = pyro.sample(name, dist.Normal(z, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(self, x):
        pyro.module("chain", self)
        drawn = []
        with pyro.plate("data", len(x)):
            for name, (*of_drawn, of_x, scale) in zip("abc", self.rows, strict=True):
                mean = of_x * x + sum(w * z for w, z in zip(of_drawn, drawn, strict=False))
                drawn.append(pyro.sample(name, dist.Normal(mean, scale)))


@pytest.mark.parametrize("k", [1, 5])
def test_no_gradient_for_an_exact_guide_of_a_chain(k):
    """Log w is −log p(x) whatever is drawn, so that no draw of a, b or c has a gradient."""
    chain, x = Chain(), torch.tensor([1.0, -2.0, 0.5])
    loss = ImportanceELBO(k, gradient="doubly").differentiable_loss(chain.model, chain.guide, x)
    assert loss.item() == pytest.approx(-dist.Normal(0.0, 2.0).log_prob(x).sum().item(), abs=1e-12)
    assert grads(ImportanceELBO(k, gradient="doubly"), chain, ["rows"], x).abs().max() < 1e-12
    assert grads(ImportanceELBO(k), chain, ["rows"], x).abs().max() > 0.05


@pytest.mark.parametrize("k", [1, 3])
def test_doubly_has_the_mean_of_the_plain_gradient_of_a_chain(k):
    """Off the posterior: the mean difference is within 5 standard errors of 0 in 40 runs."""
    chain, x = Chain(shift=0.2), torch.tensor([1.0]).expand(1000)
    runs = []
    for seed in range(40):
        both = []
        for gradient in ("reparameterised", "doubly"):
            pyro.set_rng_seed(seed)
            both.append(grads(ImportanceELBO(k, gradient=gradient), chain, ["rows"], x) / len(x))
        runs.append(torch.stack(both))
    difference = torch.stack([plain - doubly for plain, doubly in runs])
    error = difference.std(0) / len(runs) ** 0.5
    assert (difference.mean(0).abs() <= 5 * error + 1e-12).all()
    assert torch.stack(runs)[:, 1].mean(0).abs().max() > 10 * error.max()


@pytest.mark.parametrize(
    "make", [lambda: ImportanceELBO(3), lambda: ELBO(num_particles=3, vectorize_particles=True)]
)
def test_plates_are_counted_for_every_pair(make):
    """A pair of two plates after one of one, and after it that of one again."""
    vae, objective = small_vae(), make()

    def model(x):
        with pyro.plate("data", len(x), dim=-1), pyro.plate("parts", 2, dim=-2):
            pyro.sample("y", dist.Normal(pyro.sample("b", dist.Normal(0.0, 1.0)), 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x), dim=-1), pyro.plate("parts", 2, dim=-2):
            pyro.sample("b", dist.Normal(x / 2, 0.5**0.5))

    x = torch.tensor([1.0, -2.0])
    exact = -2 * dist.Normal(0.0, 2**0.5).log_prob(x).sum().item()
    for _ in range(2):
        assert math.isfinite(objective.loss(*tempered(vae, 2.0), data()))
        assert objective.max_plate_nesting == 2
        assert objective.estimate(model, guide, x).data == 2
        assert objective.max_plate_nesting == 3
    assert ImportanceELBO(3).loss(model, guide, x) == pytest.approx(exact, abs=1e-12)
    assert copy.deepcopy(objective)._plates == {}


def test_refuses_weights_of_its_own():
    pair = two_latents()
    weighted = tuple(pyro.poutine.scale(f, 2.0) for f in pair)
    with pytest.raises(ValueError, match=r"expected the scale 1\.0 of the plate of the data"):
        ImportanceELBO(2).loss(*weighted, torch.ones(2))
    mixed = tempered(pair, {"a": 2.0, "b": 1.0})
    with pytest.raises(ValueError, match="beta: expected one β for all latent sites"):
        ImportanceELBO(2).loss(*mixed, torch.ones(2))
    partly = tempered(pair, {"a": 2.0})
    with pytest.raises(ValueError, match=r"got 1\.0 at site 'b' and 2\.0 elsewhere"):
        ImportanceELBO(2).loss(*partly, torch.ones(2))
