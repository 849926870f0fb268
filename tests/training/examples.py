"""Pairs of Pyro functions with networks, of every kind that users train, and data for them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.infer import (
    ELBO,
    Trace_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
)
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_bvae import VAE, tempered
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.objectives import ELBO as OurELBO
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior

FEATURES, LATENTS = 6, 2


class Example(NamedTuple):
    """A pair, and the arguments of one step of it."""

    model: Callable[..., Any]
    guide: Callable[..., Any]
    arguments: Callable[[], tuple[Any, ...]]
    loss: Callable[[], ELBO] = Trace_ELBO
    seen: Callable[[], list[Tensor]] = list


def net(inputs: int, outputs: int, *, hidden: int = 5) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs))


def binary(*shape: int) -> Tensor:
    return (torch.rand(*shape) < 0.4).to(torch.get_default_dtype())


def normal(parameters: Tensor) -> dist.TorchDistribution:
    loc, log_scale = parameters.chunk(2, -1)
    return dist.Normal(loc, log_scale.exp()).to_event(1)


def standard(batch: int, size: int = LATENTS) -> dist.TorchDistribution:
    return dist.Normal(torch.zeros(batch, size), 1.0).to_event(1)


def pyro_module_vae() -> Example:
    """A VAE as one PyroModule for the model and one for the guide."""

    class Decoder(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net(LATENTS, FEATURES)

        def forward(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", standard(len(x)))
                pyro.sample("x", dist.Bernoulli(logits=self.net(z)).to_event(1), obs=x)

    class Encoder(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net(FEATURES, 2 * LATENTS)

        def forward(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("z", normal(self.net(x)))

    return Example(Decoder(), Encoder(), lambda: (binary(8, FEATURES),), TraceMeanField_ELBO)


def vae(middle: Callable[[], nn.Module] = nn.Identity) -> Example:
    """A VAE whose networks are registered by name; `middle` is a layer of its encoder."""
    encoder = nn.Sequential(nn.Linear(FEATURES, 5), middle(), nn.Tanh(), nn.Linear(5, 2 * LATENTS))
    decoder = net(LATENTS, FEATURES)

    def model(x: Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", standard(len(x)))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            pyro.sample("z", normal(encoder(x)))

    buffers = list(encoder.buffers())
    return Example(model, guide, lambda: (binary(8, FEATURES),), seen=lambda: buffers)


def vae_with_dropout_and_batch_norm() -> Example:
    return vae(lambda: nn.Sequential(nn.BatchNorm1d(5), nn.Dropout(0.3)))


def conditional_vae() -> Example:
    """The missing part of an image given the rest: p(z|x), q(z|x, y), and a mask on the loss."""
    prior, recognition = net(FEATURES, 2 * LATENTS), net(2 * FEATURES, 2 * LATENTS)
    generation = net(LATENTS + FEATURES, FEATURES)

    def model(x: Tensor, y: Tensor) -> None:
        pyro.module("prior", prior)
        pyro.module("generation", generation)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", normal(prior(x)))
            logits = generation(torch.cat([z, x], -1))
            missing = dist.Bernoulli(logits=logits).mask(x == -1).to_event(1)
            pyro.sample("y", missing, obs=y)

    def guide(x: Tensor, y: Tensor) -> None:
        pyro.module("recognition", recognition)
        with pyro.plate("data", len(x)):
            pyro.sample("z", normal(recognition(torch.cat([x, y], -1))))

    def arguments() -> tuple[Tensor, Tensor]:
        y = binary(8, FEATURES)
        return torch.where(torch.arange(FEATURES) < 3, -1.0, y), y

    return Example(model, guide, arguments)


def semi_supervised_vae(*, labelled: bool = True) -> Example:
    """Digits with a class y and a style z; the class is observed or inferred."""
    classes = 3
    classifier = net(FEATURES, classes)
    encoder, decoder = (
        net(FEATURES + classes, 2 * LATENTS),
        net(LATENTS + classes, FEATURES),
    )

    def model(x: Tensor, y: Tensor | None = None) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", standard(len(x)))
            uniform = torch.ones(len(x), classes) / classes
            y = pyro.sample("y", dist.OneHotCategorical(uniform), obs=y)
            logits = decoder(torch.cat([z, y], -1))
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(x: Tensor, y: Tensor | None = None) -> None:
        pyro.module("classifier", classifier)
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            if y is None:
                y = pyro.sample("y", dist.OneHotCategorical(logits=classifier(x)))
            pyro.sample("z", normal(encoder(torch.cat([x, y], -1))))

    def arguments() -> tuple[Tensor, ...]:
        labels = torch.eye(classes)[torch.randint(classes, (8,))]
        return (binary(8, FEATURES), labels) if labelled else (binary(8, FEATURES),)

    return Example(model, guide, arguments)


def unsupervised_vae() -> Example:
    """The same with the class drawn from the guide, which has no reparameterised gradient."""
    return semi_supervised_vae(labelled=False)


def score_function_vae() -> Example:
    """The class without reparameterised gradient, by the estimator that uses dependencies."""
    return unsupervised_vae()._replace(loss=TraceGraph_ELBO)


def deep_markov_model(
    steps: int = 3,
    recurrent: type[nn.RNNBase] = nn.GRU,
    net: Callable[[int, int], nn.Module] = net,
) -> Example:
    """z_t ~ p(z_t | z_{t-1}), x_t ~ p(x_t | z_t); the guide reads the sequence backwards."""
    emitter, transition = net(LATENTS, FEATURES), net(LATENTS, 2 * LATENTS)
    reader, combiner = (
        recurrent(FEATURES, 4, batch_first=True),
        net(4 + LATENTS, 2 * LATENTS),
    )

    def model(x: Tensor, mask: Tensor, annealing: Tensor) -> None:
        pyro.module("emitter", emitter)
        pyro.module("transition", transition)
        z = pyro.param("z_0", torch.zeros(LATENTS)).expand(len(x), LATENTS)
        with pyro.plate("data", len(x)):
            for t in pyro.markov(range(steps)):
                with poutine.mask(mask=mask[:, t]), poutine.scale(scale=annealing):
                    z = pyro.sample(f"z_{t + 1}", normal(transition(z)))
                with poutine.mask(mask=mask[:, t]):
                    emission = dist.Bernoulli(logits=emitter(z)).to_event(1)
                    pyro.sample(f"x_{t + 1}", emission, obs=x[:, t])

    def guide(x: Tensor, mask: Tensor, annealing: Tensor) -> None:
        pyro.module("reader", reader)
        pyro.module("combiner", combiner)
        read, _ = reader(x.flip(1))
        z = pyro.param("z_q", torch.zeros(LATENTS)).expand(len(x), LATENTS)
        with pyro.plate("data", len(x)):
            for t in pyro.markov(range(steps)):
                with poutine.mask(mask=mask[:, t]), poutine.scale(scale=annealing):
                    posterior = normal(combiner(torch.cat([read[:, steps - 1 - t], z], -1)))
                    z = pyro.sample(f"z_{t + 1}", posterior)

    def arguments() -> tuple[Tensor, ...]:
        lengths = torch.randint(1, steps + 1, (5, 1))
        return (
            binary(5, steps, FEATURES),
            torch.arange(steps) < lengths,
            torch.rand(()) + 0.1,
        )

    return Example(model, guide, arguments)


def our_vae() -> Example:
    """A `VAE` of ours with every scale learned, tempered, with our ELBO."""
    pair = VAE(
        prior=NormalPrior(LATENTS, scale="learned"),
        likelihood=NormalLikelihood(net(LATENTS, FEATURES), scale="learned"),
        posterior=MeanFieldPosterior(net(FEATURES, 5), latents=LATENTS, features=5),
    )
    model, guide = tempered(pair, 4.0)
    weights = list(pair.parameters())
    return Example(model, guide, lambda: (torch.randn(8, FEATURES),), OurELBO, lambda: weights)


def several_particles(number: int = 3) -> Example:
    return vae()._replace(loss=lambda: Trace_ELBO(num_particles=number))


def vectorised_particles() -> Example:
    loss = lambda: TraceMeanField_ELBO(num_particles=3, vectorize_particles=True)  # noqa: E731
    return vae()._replace(loss=loss)


NETWORKS = [
    our_vae,
    pyro_module_vae,
    vae,
    vae_with_dropout_and_batch_norm,
    conditional_vae,
    semi_supervised_vae,
    unsupervised_vae,
    deep_markov_model,
    score_function_vae,
    several_particles,
    vectorised_particles,
]
