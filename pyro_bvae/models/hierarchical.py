"""A VAE of two layers of latents, with a guide from the bottom up."""

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_bvae.checks import check_count, check_data
from pyro_bvae.likelihoods import Likelihood
from pyro_bvae.models.parameters import register
from pyro_bvae.models.parts import (
    check_observed,
    check_part,
    check_parts,
    check_shape,
    data_plate,
    under_plates,
)
from pyro_bvae.posteriors import Posterior
from pyro_bvae.posteriors.amortised import AmortisedPosterior
from pyro_bvae.priors import ConditionalPrior, Prior


class HierarchicalVAE(nn.Module):
    """z₂ ~ p(z₂), z₁ ~ p(z₁|z₂), x ~ p(x|z₁), with the guide z₁ ~ q(z₁|x), z₂ ~ q(z₂|z₁).

    ELBO = E_q[log p(x|z₁) + log p(z₁|z₂) − log q(z₁|x) + log p(z₂) − log q(z₂|z₁)]. Plate "data",
    sites "z1", "z2" and "x"; each has its β: `beta={"z1": 1.0, "z2": 0.5}`. As the guide draws
    upwards and the model downwards, no KL has a closed form: both are averages over draws, and
    `pyro.infer.TraceMeanField_ELBO`, which would use one, does not apply.

    Args:
        prior: p(z₂).
        layer: p(z₁|z₂), whose network takes z₂ `[batch, latents of z₂]`.
        likelihood: p(x|z₁).
        posterior: q(z₁|x).
        upper: q(z₂|z₁), whose encoder takes z₁ `[batch, latents of z₁]`.

    Raises:
        TypeError: a part is not of its kind.
        ValueError: two parts differ in the number of latents of a layer.

    References:
        Sønderby, Raiko, Maaløe, Sønderby, Winther (2016), Ladder Variational Autoencoders.
        Rezende, Mohamed, Wierstra (2014), Stochastic Backpropagation and Approximate Inference in
        Deep Generative Models.

    >>> from pyro_bvae.likelihoods import BernoulliLikelihood
    >>> from pyro_bvae.networks import mlp_decoder, mlp_encoder
    >>> from pyro_bvae.posteriors import MeanFieldPosterior
    >>> from pyro_bvae.priors import ConditionalPrior, NormalPrior
    >>> vae = HierarchicalVAE(
    ...     prior=NormalPrior(2),
    ...     layer=ConditionalPrior(mlp_encoder((2,)), latents=8),
    ...     likelihood=BernoulliLikelihood(mlp_decoder(8, (1, 8, 8))),
    ...     posterior=MeanFieldPosterior(mlp_encoder((1, 8, 8)), latents=8),
    ...     upper=MeanFieldPosterior(mlp_encoder((8,)), latents=2),
    ... )
    >>> vae.encode(torch.zeros(5, 1, 8, 8)).shape, vae.sample(3).shape
    (torch.Size([5, 8]), torch.Size([3, 1, 8, 8]))
    """

    def __init__(
        self,
        prior: Prior,
        layer: ConditionalPrior,
        likelihood: Likelihood,
        posterior: Posterior,
        upper: AmortisedPosterior,
    ) -> None:
        super().__init__()
        check_part("prior", prior, Prior)
        check_part("layer", layer, ConditionalPrior)
        check_part("upper", upper, AmortisedPosterior)
        check_parts(layer, likelihood, posterior)
        if prior.latents != upper.latents:
            raise ValueError(
                f"upper: expected the prior's {prior.latents} latents, got {upper.latents}"
            )
        self.prior = prior
        self.layer = layer
        self.likelihood = likelihood
        self.posterior = posterior
        self.upper = upper

    def model(self, x: Tensor | None = None, *, size: int | None = None) -> Tensor:
        """Draw z₂, z₁ and x, or observe the given x, as `VAE.model` does."""
        register(self)
        prior = self.prior()
        with self._plate(x, size):
            z2 = pyro.sample("z2", prior)
            z1 = pyro.sample("z1", under_plates(self.layer, z2, batch=z2.shape[:-1]))
            likelihood = self.likelihood(z1)
            if x is not None:
                check_shape(x, likelihood)
            return pyro.sample("x", likelihood, obs=x)

    def guide(self, x: Tensor, *, size: int | None = None) -> Tensor:
        """Draw z₁ from q(z₁|x) and z₂ from q(z₂|z₁); return z₁."""
        register(self)
        self.prior.guide()
        with self._plate(x, size):
            z1 = pyro.sample("z1", self.posterior(x))
            pyro.sample("z2", under_plates(self.upper, z1, batch=z1.shape[:-1]))
            return z1

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Return the codes of the lower layer, `[batch, latents of z₁]`."""
        check_data(x, integers=self.likelihood.integers)
        return self.posterior.code(x)

    @torch.no_grad()
    def encode_upper(self, x: Tensor) -> Tensor:
        """Return the codes of the upper layer, `[batch, latents of z₂]`, given the lower's."""
        return self.upper.code(self.encode(x))

    @torch.no_grad()
    def decode(self, z1: Tensor) -> Tensor:
        """Return what stands for p(x|z₁) `[batch, *shape]`: its mean, as a rule."""
        return self.likelihood.point(z1)

    @torch.no_grad()
    def decode_upper(self, z2: Tensor) -> Tensor:
        """Decode the mean of p(z₁|z₂), for z₂ `[batch, latents of z₂]`."""
        return self.decode(self.layer(z2).mean)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Decode the lower codes of x."""
        return self.decode(self.encode(x))

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Decode `n` ≥ 1 draws of z₂, then z₁, from the priors."""
        check_count(n, "n")
        with poutine.replay(trace=poutine.trace(self.prior.guide).get_trace()):
            z2 = self.prior().sample((n,))
        return self.decode(self.layer(z2).sample())

    def check(self, x: Tensor, *_: Tensor) -> None:
        """Raise ValueError if x holds values that the likelihood cannot draw."""
        self.likelihood.check(x)

    def _plate(self, x: Tensor | None, size: int | None) -> pyro.plate:
        if x is not None:
            check_observed(x, self.likelihood)
        return data_plate(x, size)
