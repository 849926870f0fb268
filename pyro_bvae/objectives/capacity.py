"""The capacity objective: hold the KL at a given number of nats."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from pyro_bvae.beta import Beta, check_beta
from pyro_bvae.objectives.base import Objective, Weighed
from pyro_bvae.objectives.checks import check_weight
from pyro_bvae.objectives.sites import Site, differ
from pyro_bvae.types import Schedule


class CapacityELBO(Objective):
    """loss = −E_q[log p(x|z)] + γ |KL − C|, with KL the mean over data of KL(q(z|x)‖p(z)).

    The terms are "reconstruction" and "capacity_gap", N |KL − C| summed over the N data; KL is
    that of all latent sites in the plate of the data together, and the batch's mean. Global sites
    add "kl_SITE" as in `ELBO`. β multiplies γ, so that it should stay 1, or warm up to it.

    A schedule of C is followed by `fit`. Under `pyro.infer.SVI` call `advance(step)` yourself:
    it sets the 0-dim tensor `capacity` in place, which recorded and compiled steps see. At
    the optimum KL = max(C, what β = γ gives).

    Args:
        gamma: γ ≥ 0, the price of a nat.
        capacity: C ≥ 0, nats per datum: a number, a 0-dim tensor that may be changed in place,
            or a schedule of the step such as `schedules.linear(0.0, 25.0, steps=10_000)`.
        num_particles: draws from the guide per datum.
        vectorize_particles: draw them in one batched run instead of a loop.

    Raises:
        ValueError: γ or C is negative or not finite.
        TypeError: C is none of these.
        ValueError, when run: no latent site in the plate of the data, or several of different β.

    References:
        Burgess et al. (2018), Understanding Disentangling in β-VAE.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
    ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x / 2, 1.0))
    >>> objective = CapacityELBO(100.0, capacity=0.2)
    >>> estimate = objective.estimate(model, guide, torch.tensor([2.0, 0.0]))
    >>> estimate.kl, estimate.terms["capacity_gap"]
    (tensor(0.5000), tensor(0.1000))
    """

    def __init__(
        self,
        gamma: float,
        *,
        capacity: float | Tensor | Schedule,
        num_particles: int = 1,
        vectorize_particles: bool = False,
    ) -> None:
        super().__init__(num_particles=num_particles, vectorize_particles=vectorize_particles)
        self.gamma = check_weight(gamma, "gamma")
        self.schedule: Schedule | None = None
        self.capacity: Any = torch.tensor(0.0)
        if isinstance(capacity, Real | Tensor) and not isinstance(capacity, bool):
            self.capacity = check_beta(capacity, name="capacity")
        elif callable(capacity):
            self.schedule = capacity
            self.advance(0)
        else:
            raise TypeError(
                "capacity: expected a number, a 0-dim tensor or a schedule of the step, got "
                f"{type(capacity).__name__}"
            )

    @property
    def schedules(self) -> dict[str, Schedule]:
        """Return the schedule, under the name of the argument, if there is one."""
        return {} if self.schedule is None else {"capacity": self.schedule}

    def advance(self, step: int) -> None:
        """Set the capacity to its schedule's value; ValueError if negative or not finite."""
        if self.schedule is not None:
            self.capacity.fill_(check_weight(self.schedule(step), f"capacity at step {step}"))

    def weigh(self, reconstruction: Tensor, sites: Mapping[str, Site]) -> Weighed:
        """Return the reconstruction, the distance to the capacity, and the KL of global sites."""
        weighed = Weighed(reconstruction)
        weighed.add_kl({name: site for name, site in sites.items() if not site.data})
        local = {name: site for name, site in sites.items() if site.data}
        if not local:
            raise ValueError(
                f"guide: expected a latent site in the plate of the data, got {sorted(sites)}"
            )
        kl = torch.stack([site.kl.sum() for site in local.values()]).sum()
        data = next(iter(local.values())).data
        weighed.add("capacity_gap", (kl - data * self.capacity).abs(), self.gamma * _beta(local))
        return weighed


def _beta(sites: Mapping[str, Site]) -> Beta:
    """Return the β that the sites share."""
    betas = [site.beta for site in sites.values()]
    if any(differ(beta, betas[0]) for beta in betas):
        raise ValueError(
            f"beta: expected one β for the sites {sorted(sites)}, which share a capacity, got "
            f"{betas}"
        )
    return betas[0]
