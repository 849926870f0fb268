"""The evidence lower bound, weighted by β where the pair is tempered."""

from collections.abc import Mapping

from torch import Tensor

from pyro_bvae.beta import Beta
from pyro_bvae.objectives.base import Objective, Terms
from pyro_bvae.objectives.sites import Site


class ELBO(Objective):
    """loss = −E_q[log p(x|z)] + Σ_sites β KL(q‖p): the β-VAE, at β = 1 the VAE.

    The terms are "reconstruction", −log p(x|z), and "kl_SITE" for every latent site, such as
    "kl_z", weighted by the β that `tempered` noted on it. The KL is exact where torch has a
    closed form, else a sample average. Everything in nats, summed over the data the plates stand
    for (the batch, or `size` data where the plate is subsampled). Value and gradients are those
    of `pyro.infer.TraceMeanField_ELBO` on the tempered pair.

    Raises (when run):
        ValueError: the guide lacks a latent site, is not reparameterised, or carries another β.

    References:
        Kingma, Welling (2014), Auto-Encoding Variational Bayes.
        Higgins et al. (2017), β-VAE: Learning Basic Visual Concepts with a Constrained
        Variational Framework.

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

    def weigh(
        self, reconstruction: Tensor, sites: Mapping[str, Site]
    ) -> tuple[Terms, dict[str, Beta]]:
        """Return the reconstruction, and the KL of every site weighted by its β."""
        terms = {"reconstruction": reconstruction}
        weights: dict[str, Beta] = {"reconstruction": 1.0}
        for name, site in sites.items():
            terms[f"kl_{name}"] = site.kl.sum()
            weights[f"kl_{name}"] = site.beta
        return terms, weights
