"""The VampPrior: the posterior's own image of a few learned pseudo-data."""

from pyro.distributions import Categorical, MixtureSameFamily
from torch import Tensor, nn

from pyro_bvae.checks import check_data, check_finite
from pyro_bvae.priors.base import Prior
from pyro_bvae.types import Distribution


class VampPrior(Prior):
    """p(z) = (1/K) Σ_k q(z|u_k): a mixture of the posterior at learned pseudo-inputs u_k.

    The best prior for a posterior is its average over the data; K pseudo-inputs stand for these.
    Nothing holds them to the data's range. Their KL is estimated from the draws. The posterior
    is the VAE's own, whose parameters belong to the VAE: alone, the prior neither moves nor saves
    them.

    Args:
        posterior: the `Posterior` that goes into the same VAE.
        pseudo_inputs: what the u_k start from, `[K, *shape]`, such as the first data; copied.

    Returns (when called): event shape `[latents]`, batch shape `[]`.

    Raises:
        TypeError: `posterior` is no posterior, or the pseudo-inputs are no floating-point tensor.
        ValueError: no pseudo-inputs; put into a VAE with another posterior.

    References:
        Tomczak, Welling (2018), VAE with a VampPrior.

    >>> import torch
    >>> from pyro_bvae.networks import mlp_encoder
    >>> from pyro_bvae.posteriors import MeanFieldPosterior
    >>> posterior = MeanFieldPosterior(mlp_encoder((1, 8, 8)), latents=10)
    >>> VampPrior(posterior, torch.rand(20, 1, 8, 8))().event_shape
    torch.Size([10])
    """

    def __init__(self, posterior: nn.Module, pseudo_inputs: Tensor) -> None:
        latents = getattr(posterior, "latents", None)
        if not isinstance(posterior, nn.Module) or latents is None:
            raise TypeError(
                f"posterior: expected the VAE's Posterior, got {type(posterior).__name__}"
            )
        super().__init__(latents)
        check_data(pseudo_inputs)
        check_finite(pseudo_inputs, "pseudo_inputs")
        self._posterior = (posterior,)
        self.pseudo_inputs = nn.Parameter(pseudo_inputs.detach().clone())

    def forward(self, *context: Tensor) -> Distribution:
        """Return p(z)."""
        (posterior,) = self._posterior
        weights = Categorical(logits=self.pseudo_inputs.new_zeros(len(self.pseudo_inputs)))
        return MixtureSameFamily(weights, posterior(self.pseudo_inputs))

    def check_parts(self, likelihood: nn.Module, posterior: nn.Module) -> None:
        """Raise ValueError if the VAE's posterior is not the one the prior was built on."""
        if not any(module is self._posterior[0] for module in posterior.modules()):
            raise ValueError(
                "prior: expected a VampPrior built on the VAE's own posterior, got one built on "
                "another; build the posterior first and pass it to both"
            )
