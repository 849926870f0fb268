"""The VAE: two plain Pyro functions that every tool of Pyro takes."""

import copy
import math
import pickle

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.mcmc.util import initialize_model
from pyro.optim import Adam
from pyro.poutine.runtime import _PYRO_STACK
from torch import nn

from pyro_bvae import VAE, tempered
from pyro_bvae.likelihoods import BernoulliLikelihood, NormalLikelihood
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.objectives import ELBO
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from pyro_bvae.priors.hyperprior import SITE

SHAPE = (1, 3, 2)
X = torch.rand(6, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LOSSES = [ELBO, Trace_ELBO, TraceMeanField_ELBO, lambda: RenyiELBO(num_particles=2)]


def build(latents=2, *, scale=1.0, likelihood=BernoulliLikelihood, shape=SHAPE):
    return VAE(
        prior=NormalPrior(latents, scale=scale),
        likelihood=likelihood(mlp_decoder(latents, shape, hidden=(5,))),
        posterior=MeanFieldPosterior(mlp_encoder(shape, hidden=(5,)), latents=latents),
    )


def svi_of(vae, loss=ELBO, pair=None):
    model, guide = pair or (vae.model, vae.guide)
    return SVI(model, guide, Adam({"lr": 0.01}), loss())


def train(svi, steps=3, x=X, seed=0):
    losses = []
    for step in range(steps):
        pyro.set_rng_seed(seed + step)
        losses.append(svi.step(x))
    return losses


def weights(vae):
    return [p.detach().clone() for p in vae.parameters()]


def equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize("likelihood", [BernoulliLikelihood, NormalLikelihood])
def test_the_traces_are_the_probabilistic_model(likelihood):
    vae = build(likelihood=likelihood)
    guide = poutine.trace(vae.guide).get_trace(X)
    model = poutine.trace(poutine.replay(vae.model, trace=guide)).get_trace(X)
    z = guide.nodes["z"]["value"]
    assert model.stochastic_nodes == ["data", "z"]
    assert model.observation_nodes == ["x"]
    assert guide.stochastic_nodes == ["data", "z"]
    assert z.shape == (6, 2)
    q = vae.posterior(X).log_prob(z).sum()
    joint = vae.prior().log_prob(z).sum() + vae.likelihood(z).log_prob(X).sum()
    assert torch.allclose(guide.log_prob_sum(), q, rtol=1e-12)
    assert torch.allclose(model.log_prob_sum(), joint, rtol=1e-12)
    for name in ("z", "x"):
        (frame,) = model.nodes[name]["cond_indep_stack"]
        assert (frame.name, frame.size, frame.dim) == ("data", 6, -1)


def test_size_scales_local_sites_alone():
    vae = build(scale=dist.HalfNormal(1.0))

    def sums(size):
        pyro.set_rng_seed(0)
        guide = poutine.trace(vae.guide).get_trace(X, size=size)
        model = poutine.trace(poutine.replay(vae.model, trace=guide)).get_trace(X, size=size)
        for trace in (model, guide):
            trace.compute_log_prob()
        return {
            (i, name): trace.nodes[name]["log_prob_sum"]
            for i, trace in enumerate((model, guide))
            for name in trace.nodes
            if name in ("z", "x", SITE)
        }

    whole, part = sums(None), sums(15)
    assert len(whole) == 5
    for key, value in whole.items():
        factor = 1 if key[1] == SITE else 2.5
        assert torch.allclose(part[key], factor * value, rtol=1e-12)


def test_draws_data_where_none_are_given():
    vae = build()
    assert vae.model().shape == (1, *SHAPE)
    assert vae.model(size=4).shape == (4, *SHAPE)
    assert set(vae.model(size=4).unique().tolist()) <= {0, 1}


def test_condition_is_the_same_as_data():
    vae = build()
    z = torch.randn(6, 2)
    given = poutine.condition(vae.model, {"z": z})
    both = poutine.condition(lambda: vae.model(size=6), {"z": z, "x": X})
    log_probs = [
        poutine.trace(given).get_trace(X).log_prob_sum(),
        poutine.trace(both).get_trace().log_prob_sum(),
    ]
    assert torch.allclose(*log_probs, rtol=1e-14)


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("scale", [1.0, dist.HalfNormal(1.0)])
def test_predictive(parallel, scale):
    vae = build(scale=scale)
    prior = Predictive(vae.model, num_samples=7, parallel=parallel)(size=4)
    assert prior["z"].shape == (7, 4, 2)
    assert prior["x"].shape == (7, 4, *SHAPE)
    posterior = Predictive(vae.guide, num_samples=7, parallel=parallel)(X)
    assert posterior["z"].shape == (7, 6, 2)
    again = Predictive(vae.model, guide=vae.guide, num_samples=7, parallel=parallel)
    assert (again(X)["x"] == X).all()
    replicated = Predictive(vae.model, posterior_samples=posterior, parallel=parallel)(size=6)
    assert replicated["x"].shape == (7, 6, *SHAPE)


def test_initialize_model_takes_it():
    """So NUTS does: the potential is −log p(x, z), latents unconstrained already."""
    vae = build()
    params, potential, _, _ = initialize_model(vae.model, model_args=(X,))
    expected = -vae.prior().log_prob(params["z"]) - vae.likelihood(params["z"]).log_prob(X)
    assert torch.allclose(potential(params), expected.sum(), rtol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("beta", [None, 4.0])
def test_svi_trains_every_parameter(loss, beta):
    vae = build(scale=dist.HalfNormal(1.0))
    before = weights(vae)
    train(svi_of(vae, loss, tempered(vae, beta) if beta else None))
    after = dict(zip([n for n, _ in vae.named_parameters()], weights(vae), strict=True))
    for old, (name, new) in zip(before, after.items(), strict=True):
        assert not torch.equal(old, new), name
    assert len(pyro.get_param_store()) == 0


def test_training_learns():
    """From 6 ln 2 nats a datum towards what two repeated images cost: (ln 2) each, or less."""
    vae, x = build(), (X[:2] > 0.5).double().repeat(8, 1, 1, 1)
    svi = svi_of(vae)
    first = svi.evaluate_loss(x)
    svi.optim = Adam({"lr": 0.05})
    last = np.mean(train(svi, 300, x)[-50:])
    assert last < 16 * 1.5 < first


@pytest.mark.parametrize("loss", [ELBO, Trace_ELBO, TraceMeanField_ELBO])
def test_elbo_modules(loss):
    vae = build()
    pyro.set_rng_seed(0)
    value = loss()(vae.model, vae.guide)(X)
    value.backward()
    pyro.set_rng_seed(0)
    assert value.item() == pytest.approx(loss().loss(vae.model, vae.guide, X), rel=1e-12)
    assert all(p.grad.abs().sum() > 0 for p in vae.parameters())


@pytest.mark.parametrize("loss", [ELBO, Trace_ELBO])
def test_two_in_one_process_train_as_if_alone(loss):
    """Interleaved with another, at another β, the losses and weights are the same to the bit."""
    a, b = build(), build()
    expected = []
    for vae in map(copy.deepcopy, (a, b)):
        expected.append((train(svi_of(vae, loss)), weights(vae)))
    one, two = svi_of(a, loss), svi_of(b, loss)
    losses = [(train(one, 1, seed=s), train(two, 1, seed=s)) for s in range(3)]
    for i, (vae, (alone, trained)) in enumerate(zip((a, b), expected, strict=True)):
        assert [pair[i][0] for pair in losses] == alone
        assert equal(weights(vae), trained)
    assert not equal(weights(a), weights(b))


def test_one_leaves_the_other_alone():
    a, b = build(), build()
    before = weights(b)
    train(svi_of(a))
    assert equal(weights(b), before)
    assert all(p.grad is None for p in b.parameters())


def test_the_model_of_one_and_the_guide_of_another():
    """In one trace the two do not meet under one name: both train."""
    a, b = build(), build()
    before = weights(a.likelihood), weights(b.posterior)
    train(svi_of(a, pair=(a.model, b.guide)))
    assert not any(map(torch.equal, weights(a.likelihood), before[0]))
    assert not any(map(torch.equal, weights(b.posterior), before[1]))


def test_clearing_the_store_changes_nothing():
    a = build()
    b = copy.deepcopy(a)
    one, two = svi_of(a), svi_of(b)
    for seed in range(3):
        train(one, 1, seed=seed)
        pyro.clear_param_store()
        train(two, 1, seed=seed)
    assert equal(weights(a), weights(b))


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("how", [copy.deepcopy, lambda vae: pickle.loads(pickle.dumps(vae))])
def test_copies_are_independent(used, how):
    vae = build()
    if used:
        train(svi_of(vae))
    other = how(vae)
    before = weights(vae)
    assert equal(weights(other), before)
    train(svi_of(other))
    assert equal(weights(vae), before)
    assert not equal(weights(other), before)
    train(svi_of(vae))
    assert equal(weights(vae), weights(other))


def test_load_state_dict_in_the_middle():
    a, b = build(), build()
    one, two = svi_of(a), svi_of(b)
    train(two, 1)
    b.load_state_dict(a.state_dict())
    two.optim = Adam({"lr": 0.01})
    assert train(one, seed=5) == train(two, seed=5)
    assert equal(weights(a), weights(b))


def test_frozen_parameters_stay():
    vae = build()
    for parameter in vae.likelihood.parameters():
        parameter.requires_grad_(False)
    decoder, encoder = weights(vae.likelihood), weights(vae.posterior)
    train(svi_of(vae))
    assert equal(weights(vae.likelihood), decoder)
    assert not equal(weights(vae.posterior), encoder)


def test_encode_decode_reconstruct():
    vae = build()
    codes = vae.encode(X)
    assert torch.equal(codes, vae.posterior(X).mean)
    assert torch.equal(vae.decode(codes), vae.likelihood(codes).mean)
    assert torch.equal(vae.reconstruct(X), vae.decode(codes))
    assert not vae.reconstruct(X).requires_grad
    assert vae.sample(4).shape == (4, *SHAPE)


def test_samples_use_sigma_from_its_posterior():
    """With q(σ) near e³, draws of z, decoded by the identity, have that scale."""
    vae = VAE(
        NormalPrior(2, scale=dist.LogNormal(0.0, 1.0)),
        NormalLikelihood(nn.Identity()),
        MeanFieldPosterior(nn.Identity(), 2, features=2),
    )
    with torch.no_grad():
        vae.prior.scale.loc.fill_(3.0)
        vae.prior.scale.log_scale.fill_(-20.0)
    z = vae.sample(5000)
    # The sd of an estimate from 10⁴ normal draws is 0.7 %.
    assert z.std().item() == pytest.approx(math.exp(3), rel=0.035)


def test_moves_to_float32():
    vae = build(scale=dist.HalfNormal(1.0)).to(torch.float32)
    losses = train(svi_of(vae), x=X.to(torch.float32))
    assert np.isfinite(losses).all()
    assert {p.dtype for p in vae.parameters()} == {torch.float32}


BAD = [
    (
        torch.rand(6, 3, 2),
        ValueError,
        r"x: expected shape \[batch, 1, 3, 2\],.* got \[6, 3, 2\]; re",
    ),
    (
        torch.rand(6, 3, 3, 2),
        ValueError,
        r"x: expected shape \[batch, 1, 3, 2\],.* got \[6, 3, 3, 2",
    ),
    (torch.rand(6, 1, 4, 4), ValueError, r"x: expected shape \[batch, 1, 3, 2\],.* got \[6, 1, 4"),
    (torch.rand(0, *SHAPE), ValueError, "x: expected at least one datum, got an empty batch"),
    (torch.tensor(1.0), ValueError, r"x: expected shape \[batch, ...\], got a 0-dim tensor"),
    (torch.full((6, *SHAPE), math.nan), ValueError, "x: expected finite values, got 36 NaN or inf"),
    (torch.full((6, *SHAPE), math.inf), ValueError, "x: expected finite values, got 36 NaN or inf"),
    (X * 255, ValueError, r"x: expected values in \[0, 1\] for a BernoulliLikelihood.*x / 255"),
    (X - 1, ValueError, r"x: expected values in \[0, 1\]"),
    ((X * 255).byte(), TypeError, r"x: expected floating-point numbers, got torch.uint8.*x / 255"),
    (X.numpy(), TypeError, r"x: expected a tensor, got ndarray; use torch.as_tensor"),
    ([[1.0]], TypeError, r"x: expected a tensor, got list"),
]


@pytest.mark.parametrize(("x", "error", "message"), BAD)
@pytest.mark.parametrize("loss", [ELBO, Trace_ELBO])
def test_refuses_data(x, error, message, loss):
    vae = build()
    if isinstance(x, torch.Tensor) and x.is_floating_point():
        x = x.double()
    with pytest.raises(error, match=message):
        svi_of(vae, loss).step(x)
    for function in (vae.guide, vae.model):
        with pytest.raises(error, match=message):
            function(x)
    assert _PYRO_STACK == []


@pytest.mark.parametrize("size", [5, 0, -1, 10.5, True, "6"])
def test_refuses_size(size):
    vae = build()
    message = "size: expected (at least the batch's 6 data|a whole number >= 1), got"
    for function in (vae.guide, vae.model):
        with pytest.raises(ValueError, match=message):
            function(X, size=size)


def test_refuses_latents_that_differ():
    prior, likelihood = NormalPrior(3), BernoulliLikelihood(mlp_decoder(2, SHAPE))
    posterior = MeanFieldPosterior(mlp_encoder(SHAPE), latents=2)
    with pytest.raises(ValueError, match="posterior: expected the prior's 3 latents, got 2"):
        VAE(prior, likelihood, posterior)
    vae = VAE(NormalPrior(3), likelihood, MeanFieldPosterior(mlp_encoder(SHAPE), latents=3))
    with pytest.raises(ValueError, match=r"z: expected shape \[n, 2\], got \[6, 3\]; give decoder"):
        vae.model(X)


def test_refuses_a_decoder_of_another_shape():
    vae = VAE(
        NormalPrior(2),
        NormalLikelihood(mlp_decoder(2, (1, 4, 4))),
        MeanFieldPosterior(mlp_encoder(SHAPE), latents=2),
    )
    message = (
        r"x: expected shape \[batch, 1, 4, 4\], which is what the likelihood draws, got \[6, 1"
    )
    with pytest.raises(ValueError, match=message):
        vae.model(X)
