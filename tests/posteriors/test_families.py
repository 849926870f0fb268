"""Every prior, likelihood and posterior trains in a VAE, recorded as well as eagerly."""

from functools import partial

import pyro
import pytest
import torch
from pyro.infer import SVI

from pyro_bvae import VAE, tempered
from pyro_bvae import likelihoods as p_x
from pyro_bvae import posteriors as q
from pyro_bvae import priors as p_z
from pyro_bvae.networks import (
    mlp_decoder,
    mlp_encoder,
    recurrent_decoder,
    recurrent_encoder,
    residual_decoder,
    residual_encoder,
    spectrogram_encoder,
)
from pyro_bvae.objectives import ELBO
from pyro_bvae.training import CompiledSVI

SHAPE, LATENTS = (6,), 2


def build(prior=None, likelihood=None, posterior=None, encoder=None):
    """A VAE of default parts, but for those given."""
    prior = prior or partial(p_z.NormalPrior, LATENTS)
    decoder = mlp_decoder(LATENTS, SHAPE, hidden=(5,))
    likelihood = (likelihood or p_x.NormalLikelihood)(decoder)
    posterior = posterior or q.MeanFieldPosterior
    encoder = encoder or mlp_encoder(SHAPE, hidden=(5,))
    return VAE(prior(), likelihood, posterior(encoder, latents=LATENTS))


def vamp():
    posterior = q.MeanFieldPosterior(mlp_encoder(SHAPE, hidden=(5,)), latents=LATENTS)
    likelihood = p_x.NormalLikelihood(mlp_decoder(LATENTS, SHAPE, hidden=(5,)))
    return VAE(p_z.VampPrior(posterior, torch.rand(3, *SHAPE)), likelihood, posterior)


def refined():
    prior, start = p_z.NormalPrior(LATENTS), q.MeanFieldPosterior
    likelihood = p_x.NormalLikelihood(mlp_decoder(LATENTS, SHAPE, hidden=(5,)))
    encoder = mlp_encoder(SHAPE, hidden=(5,))
    posterior = q.RefinedPosterior(
        start(encoder, LATENTS), prior=prior, likelihood=likelihood, steps=2
    )
    return VAE(prior, likelihood, posterior)


def flows_on_both_sides():
    return build(
        prior=partial(p_z.FlowPrior, LATENTS), posterior=partial(q.FlowPosterior, kind="spline")
    )


def residual():
    decoder = residual_decoder(LATENTS, (1, 5, 9), channels=2)
    return build(
        likelihood=lambda _: p_x.NormalLikelihood(decoder),
        encoder=residual_encoder((1, 5, 9), features=4, channels=2),
    )


def sound():
    decoder = residual_decoder(LATENTS, (1, 40), channels=2)
    return build(
        likelihood=lambda _: p_x.NormalLikelihood(decoder),
        encoder=spectrogram_encoder((1, 40), window=8, hop=4, features=4, channels=2),
    )


def text():
    decoder = recurrent_decoder(LATENTS, (3, 4), width=3)
    return build(
        likelihood=lambda _: p_x.CategoricalLikelihood(decoder, classes=4),
        encoder=recurrent_encoder((3, 4), embedding=3, width=3),
    )


def numbers_per_pixel(family, numbers):
    """A likelihood that takes several numbers for each pixel."""

    def make(_):
        return family(mlp_decoder(LATENTS, (*SHAPE, numbers), hidden=(5,)))

    return make


LOGISTIC = numbers_per_pixel(partial(p_x.LogisticMixtureLikelihood, components=2), 6)

PRIORS = {
    "Laplace": partial(p_z.LaplacePrior, LATENTS, scale="learned"),
    "Student": partial(p_z.StudentTPrior, LATENTS, scale="per_latent"),
    "mixture": partial(p_z.MixturePrior, LATENTS, components=3),
    "spline flow": partial(p_z.FlowPrior, LATENTS),
    "affine flow": partial(p_z.FlowPrior, LATENTS, kind="affine"),
}
LIKELIHOODS = {
    "continuous Bernoulli": p_x.ContinuousBernoulliLikelihood,
    "Laplace": partial(p_x.LaplaceLikelihood, scale="learned"),
    "optimal": partial(p_x.NormalLikelihood, scale="optimal"),
    "logistic": LOGISTIC,
}
POSTERIORS = {
    "Laplace": partial(q.MeanFieldPosterior, family="laplace"),
    "full rank": q.FullRankPosterior,
    "low rank": q.LowRankPosterior,
    "mixture": q.MixturePosterior,
    "affine flow": q.FlowPosterior,
    "spline flow": partial(q.FlowPosterior, kind="spline"),
}
VAES = {
    **{f"{name} prior": partial(build, prior=make) for name, make in PRIORS.items()},
    **{f"{name} likelihood": partial(build, likelihood=make) for name, make in LIKELIHOODS.items()},
    **{f"{name} posterior": partial(build, posterior=make) for name, make in POSTERIORS.items()},
    "vamp": vamp,
    "refined": refined,
    "flows": flows_on_both_sides,
    "residual networks": residual,
    "spectrograms": sound,
    "text": text,
}


@pytest.fixture
def x(name):
    """What the model itself draws."""
    return VAES[name]().model(size=8).detach()


def run(make, x, svi, steps=4):
    """Return the losses, the parameters and buffers after training, and a random number."""
    pyro.set_rng_seed(0)
    vae = make()
    trainer = svi(*tempered(vae, 2.0), pyro.optim.Adam({"lr": 0.01}), ELBO())
    losses = [trainer.step(x) for _ in range(steps)]
    return [torch.tensor(losses), *vae.state_dict().values(), torch.rand(())]


@pytest.mark.parametrize("name", VAES)
def test_recorded_training_equals_pyros_to_the_last_bit(name, x):
    mine = run(VAES[name], x, partial(CompiledSVI, mode="recorded"))
    pyros = run(VAES[name], x, SVI)
    for a, b in zip(mine, pyros, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", VAES)
def test_objective_is_pyros_own(name, x):
    """Under particles, in a subsampled plate, the value is that of Pyro's ELBO and finite."""
    vae = VAES[name]()
    losses = {}
    for elbo in (ELBO, pyro.infer.TraceMeanField_ELBO):
        pyro.set_rng_seed(0)
        objective = elbo(num_particles=3, vectorize_particles=True)
        losses[elbo] = objective.loss(*tempered(vae, 2.0), x, size=80)
    assert losses[ELBO] == pytest.approx(losses[pyro.infer.TraceMeanField_ELBO], rel=1e-9)


@pytest.mark.parametrize("name", VAES)
def test_a_vae_of_it_encodes_decodes_and_samples(name, x):
    vae = VAES[name]()
    assert vae.encode(x).shape == (8, LATENTS)
    assert vae.reconstruct(x).shape == x.shape
    assert vae.sample(4).shape == (4, *x.shape[1:])
    vae.check(x)
