"""The evidence lower bound, weighted by β where the pair is tempered."""

from collections.abc import Mapping

from torch import Tensor

from pyro_bvae.objectives.base import Objective, Weighed
from pyro_bvae.objectives.checks import check_weight
from pyro_bvae.objectives.sites import Site


class ELBO(Objective):
    """loss = −E_q[log p(x|z)] + Σ_sites β KL(q‖p): the β-VAE, at β = 1 the VAE.

    The terms are "reconstruction", −log p(x|z), and "kl_SITE" for every latent site, such as
    "kl_z", weighted by the β that `tempered` noted on it. The KL is exact where torch has a
    closed form, else a sample average. Everything in nats, summed over the data the plates stand
    for (the batch, or `size` data where the plate is subsampled). Value and gradients are those
    of `pyro.infer.TraceMeanField_ELBO` on the tempered pair.

    With free bits λ each latent of a site in the plate of the data pays for at least λ nats per
    datum, Σ_j max(λ, KL_j), as "paid_kl_SITE": below λ it has no reason to give up information.
    KL_j is the batch's mean; where the KL does not split into latents it is that of all of them.

    Args:
        free_bits: λ ≥ 0, nats per datum and latent; None for none.
        num_particles: draws from the guide per datum.
        vectorize_particles: draw them in one batched run instead of a loop.

    Raises:
        ValueError: `free_bits` is negative or not finite, or `num_particles` < 1.

    Raises (when run):
        ValueError: the guide lacks a latent site, is not reparameterised, or carries another β.

    References:
        Kingma, Welling (2014), Auto-Encoding Variational Bayes.
        Higgins et al. (2017), β-VAE: Learning Basic Visual Concepts with a Constrained
        Variational Framework.
        Kingma et al. (2016), Improving Variational Inference with Inverse Autoregressive Flow,
        for free bits.

    >>> import torch, pyro, pyro.distributions as dist
    >>> from pyro_bvae.beta import tempered
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
    ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x / 2, 1.0))
    >>> estimate = ELBO().estimate(*tempered((model, guide), 4.0), torch.tensor([2.0]))
    >>> estimate.terms["kl_z"], estimate.weights["kl_z"]
    (tensor(0.5000), 4.0)
    """

    def __init__(
        self,
        *,
        free_bits: float | None = None,
        num_particles: int = 1,
        vectorize_particles: bool = False,
    ) -> None:
        super().__init__(num_particles=num_particles, vectorize_particles=vectorize_particles)
        self.free_bits = None if free_bits is None else check_weight(free_bits, "free_bits")

    def weigh(self, reconstruction: Tensor, sites: Mapping[str, Site]) -> Weighed:
        """Return the reconstruction, and the KL of every site weighted by its β."""
        weighed = Weighed(reconstruction)
        if self.free_bits is None:
            weighed.add_kl(sites)
            return weighed
        weighed.add_kl({name: site for name, site in sites.items() if not site.data})
        for name, site in sites.items():
            if site.data:
                paid = site.kl.clamp(min=self.free_bits * site.data).sum()
                weighed.add(f"paid_kl_{name}", paid, site.beta)
        return weighed
