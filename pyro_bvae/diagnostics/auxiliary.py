"""What a guide draws beyond the model's latents, and whether a density can be told of these."""

from collections.abc import Collection, Mapping
from typing import Any

from pyro.distributions import Delta, Unit
from pyro.poutine import Trace

from pyro_bvae.diagnostics.layout import Layout, samples

INSTEAD = (
    "sample these in the model too, given its latents, or make each a point (`Delta`, with its "
    "`log_density`) of what is drawn, as Pyro's AutoNormal does"
)


def check_auxiliary(guide_trace: Trace, layout: Layout) -> None:
    """Raise ValueError if a guide has a joint density of more than the model's latents."""
    if unmatched := unmatched_draws(samples(guide_trace), {*layout.local, *layout.shared}):
        raise ValueError(
            f"guide: expected a density q(z|x) of the model's latents, got the joint one of these "
            f"and of {unmatched}, which the model lacks, so that p(x, z) / q is no weight; "
            f"{INSTEAD}"
        )


def unmatched_draws(guide: Mapping[str, Any], latents: Collection[str]) -> list[str]:
    """Return what a guide draws beyond the model's latents, if it makes fewer numbers of these.

    A draw that latents are made of, with the density of these, replaces it. A `pyro.factor` may
    as well, so that nothing is told of a guide with one.
    """
    if any(isinstance(site["fn"], Unit) for site in guide.values()):
        return []
    sizes = {
        name: (site["value"].numel(), isinstance(site["fn"], Delta), name in latents)
        for name, site in guide.items()
        if not site["is_observed"]
    }
    drawn = {n: size for n, (size, point, known) in sizes.items() if not point and not known}
    made = sum(size for size, point, known in sizes.values() if point and known)
    return sorted(drawn) if sum(drawn.values()) > made else []
