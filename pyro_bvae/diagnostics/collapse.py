"""Which latents say nothing of the data, and whether the codes of all data fill the prior."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyro_bvae.checks import check_count
from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.encoded import Encoded, code_site, encoded_batches
from pyro_bvae.diagnostics.information import Bracketed, Surgery, parts_of_batch, surgery_of
from pyro_bvae.diagnostics.simulation import names_of
from pyro_bvae.diagnostics.two_sample import TwoSample, energy_test, mmd_test
from pyro_bvae.types import PairLike

ACTIVE_SHARE = 0.01
"""The share of the prior's variance above which the mean of an active latent varies."""

_SIGNIFICANT, _FAR = 0.01, 0.05
_QUARTILES = 1.3489795
"""How far apart the quartiles of a standard normal are."""

_KEPT = ("z", "prior_draws", "mean", "variance", "prior_mean", "prior_variance", "kl")


@dataclass(frozen=True, eq=False)
class Collapse:
    """What each latent carries, and how far the codes of all data are from the prior.

    Attributes:
        names: of the latents: "z[0]", "z[1]", ...
        kl: KL(q(z_j|x)‖p(z_j)), the mean over the data, `[latents]`, nats. Of a site whose prior
            depends on what the guide draws from it, such as z₁ of a hierarchy under p(z₁|z₂), it
            is E log q(z₁|x)/p(z₁|z₂) at the draws, a part of the ELBO that may be negative.
        mean_variance: Var_x E[z_j|x], `[latents]`.
        posterior_variance: E_x Var[z_j|x], `[latents]`.
        prior_variance: Var z_j under the prior, `[latents]`; where it has none, as a Cauchy prior,
            that of a normal whose quartiles are as far apart.
        mmd, energy: two-sample tests of codes of the data against draws of the prior, each latent
            in units of the prior draws' standard deviation.
        compared: how many codes and draws these compare.
        surgery: the parts of the ELBO, among them I(x; z_j) and KL(q(z_j)‖p(z_j)).
        data: how many data were encoded.
    """

    names: tuple[str, ...]
    kl: Tensor
    mean_variance: Tensor
    posterior_variance: Tensor
    prior_variance: Tensor
    mmd: TwoSample
    energy: TwoSample
    compared: int
    surgery: Surgery
    data: int

    @property
    def active(self) -> Tensor:
        """Which latents are active: Var_x E[z_j|x] > 0.01 Var z_j, `[latents]` (Burda 2016)."""
        return self.mean_variance > ACTIVE_SHARE * self.prior_variance

    @property
    def p_value(self) -> float:
        """That codes and draws of the prior are of one distribution, by both tests together."""
        return min(1.0, 2 * min(self.mmd.p_value, self.energy.p_value))

    @property
    def information(self) -> Bracketed:
        """I(x; z_j) of each latent, `[latents]`."""
        return self.surgery.information_per_latent

    @property
    def marginal_kl(self) -> Bracketed:
        """KL(q(z_j)‖p(z_j)) of the codes of all data from the prior, `[latents]`."""
        return self.surgery.dimension_wise_kl

    def table(self) -> pd.DataFrame:
        """Return a row for every latent; nats, but the variances and shares."""
        total = self.kl.sum()
        columns = {
            "kl": self.kl,
            "share": self.kl / total if total > 0 else torch.zeros_like(self.kl),
            "active": self.active,
            "mean_variance": self.mean_variance,
            "posterior_variance": self.posterior_variance,
            "prior_variance": self.prior_variance,
            "information_low": self.information.low,
            "information_high": self.information.high,
            "marginal_kl_low": self.marginal_kl.low,
            "marginal_kl_high": self.marginal_kl.high,
        }
        table = pd.DataFrame({name: column.numpy() for name, column in columns.items()})
        return table.set_index(pd.Index(self.names, name="latent"))

    def verdict(self) -> list[str]:
        """Say in plain words which latents collapsed, and whether the codes fill the prior."""
        return [self._of_latents(), self._of_codes()]

    def __str__(self) -> str:
        return " ".join(self.verdict())

    def _of_latents(self) -> str:
        active, count = int(self.active.sum()), len(self.names)
        if not active:
            return (
                f"All {count} latents collapsed: q(z|x) is the same whatever x is, so that z says "
                "nothing of the data."
            )
        if active == count:
            return f"All {count} latents are active."
        idle = [name for name, on in zip(self.names, self.active.tolist(), strict=True) if not on]
        listed = ", ".join(idle[:8]) + (", …" if len(idle) > 8 else "")
        return (
            f"{active} of {count} latents are active; of the others the mean hardly moves with x: "
            f"{listed}."
        )

    def _of_codes(self) -> str:
        if self.p_value >= _SIGNIFICANT:
            return (
                f"{self.compared} codes of the data cannot be told from as many draws of the prior "
                f"(p = {self.p_value:.2g})."
            )
        far = self.marginal_kl.low
        worst = int(far.argmax())
        where = (
            f"most so {self.names[worst]}, whose codes are {far[worst]:.2f} nats from it"
            if far[worst] > _FAR
            else "though no single latent is by much, so it is how they go together"
        )
        return (
            f"The codes of the data do not fill the prior (p = {self.p_value:.2g}), {where}: "
            "decoding draws of the prior asks the decoder where it was not trained."
        )


@torch.no_grad()
def collapse(
    pair: PairLike,
    x: Any,
    *,
    site: str | None = None,
    compared: int = 500,
    batch_size: int = 512,
    seed: int = 0,
) -> Collapse:
    """Measure what each latent carries, and test the codes of all data against the prior.

    A latent is active where the mean of its posterior varies with x by more than 0.01 of the
    prior's variance. KL_j = I(x; z_j) + KL(q(z_j)‖p(z_j)) in every latent: what it says of x, and
    what its codes are off the prior. Neither speaks of a target posterior: a guide may use every
    latent and be wrong, which `calibration` and `importance` see. Of a pair with several latent
    sites one is looked at, its q and p as the pair states them at one draw of the others for each
    datum (see `elbo_surgery`): for z₁ of a hierarchy "the prior" is p(z₁|z₂) at the guide's own z₂.

    Args:
        pair: a `VAE`, a `Pair` or any `(model, guide)`; tempered or not, it is read at β = 1.
        x: at least 8 data, as `datasets.as_source` takes them.
        site: the latent site in the plate of the data: by default the only one, or of several "z".
        compared: the most codes, each of another datum, that the two-sample tests compare.
        batch_size: the most data in a batch (see `elbo_surgery`).
        seed: of the draws; torch's own random state is left as it was.

    Raises:
        ValueError: fewer than 8 data, fewer than 2 in a batch; no latent site of that name, none
            named "z" among several, or one that is discrete or has codes at points.

    References:
        Burda, Grosse, Salakhutdinov (2016), Importance Weighted Autoencoders, for active units.
        Gretton et al. (2012), A Kernel Two-Sample Test. Székely, Rizzo (2004), Testing for Equal
        Distributions in High Dimension.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    ...         pyro.sample("x", dist.Normal(z[:, 0], 1.0), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         loc, scale = torch.stack([x / 2, 0 * x], 1), torch.tensor([0.5**0.5, 1.0])
    ...         pyro.sample("z", dist.Normal(loc, scale).to_event(1))
    >>> _ = torch.manual_seed(1)
    >>> print(collapse((model, guide), 2**0.5 * torch.randn(1000)))
    1 of 2 latents are active; of the others the mean hardly moves with x: z[1]. 500 codes ...
    """
    check_count(compared, "compared")
    sampler = Sampler(pair, x)
    encoded, parts = [], []
    with sampler.running(seed):
        name = code_site(sampler.layout, site)
        for batch in encoded_batches(sampler, batch_size=batch_size, seed=seed, site=name):
            parts.append(parts_of_batch(batch))
            encoded.append(_without_pairs(batch))
    whole = {
        name: torch.cat([getattr(batch, name) for batch in encoded]).double().cpu()
        for name in _KEPT
    }
    z, prior, mean = whole["z"], whole["prior_draws"], whole["mean"]
    _check_finite(z, prior)
    spread = whole["prior_variance"].mean(0) + whole["prior_mean"].var(0)
    unit = prior.var(0)
    if not (finite := spread.isfinite()).all():
        normal = _normal_variance(prior)
        spread, unit = (torch.where(finite, variance, normal) for variance in (spread, unit))
    unit = unit.clamp(min=np.finfo(float).tiny).sqrt()
    codes, draws = z[:compared] / unit, prior[:compared] / unit
    return Collapse(
        names=names_of(sampler, name),
        kl=whole["kl"].mean(0),
        mean_variance=mean.var(0),
        posterior_variance=whole["variance"].mean(0),
        prior_variance=spread,
        mmd=mmd_test(codes, draws, seed=seed),
        energy=energy_test(codes, draws, seed=seed),
        compared=len(codes),
        surgery=surgery_of(parts, names=names_of(sampler, name)),
        data=len(z),
    )


def _normal_variance(draws: Tensor) -> Tensor:
    """Return the variances of normals with the quartiles of draws `[draws, latents]`."""
    low, high = np.quantile(draws.numpy(), [0.25, 0.75], axis=0)
    return torch.as_tensor((high - low) / _QUARTILES).square()


def _without_pairs(batch: Encoded) -> Encoded:
    """Drop what takes batch² memory."""
    nothing = batch.z.new_zeros(0)
    return batch._replace(joint=nothing, pairs=nothing)


def _check_finite(z: Tensor, prior: Tensor) -> None:
    for who, draws in (("guide", z), ("prior", prior)):
        if not torch.isfinite(draws).all():
            raise ValueError(f"pair: expected finite draws, got NaN or infinity from the {who}")
