"""What every prior is: a module whose call returns p(z)."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from pyro_bvae.checks import check_latents
from pyro_bvae.types import Distribution


class Prior(nn.Module, ABC):
    """A prior p(z) over `latents` dimensions.

    Calling it returns a `pyro.distributions` object of event shape `[latents]` and batch shape
    `[]`. The call is a Pyro function of its own: it may sample what the prior itself depends on
    (a σ with a hyperprior), outside the plate "data"; `guide` then samples the same sites.

    Context tensors `[batch, ...]`, such as labels, may be given: a conditional prior p(z|context)
    has batch shape `[batch]`, every other prior is independent of them.
    """

    latents: int

    def __init__(self, latents: int) -> None:
        super().__init__()
        self.latents = check_latents(latents)

    @abstractmethod
    def forward(self, *context: Tensor) -> Distribution:
        """Return p(z), or p(z|context)."""

    def guide(self) -> None:
        """Sample the posterior of the sites that calling the prior samples; here there are none."""

    def check_parts(self, likelihood: nn.Module, posterior: nn.Module) -> None:
        """Raise ValueError if the prior was built for another posterior than this."""
