"""The β-VAE and its family in Pyro: models, guides, β, σ, objectives and SVI."""

from typing import TYPE_CHECKING, Any

from pyro_bvae.beta import tempered, untempered
from pyro_bvae.models import VAE
from pyro_bvae.training import evaluate, fit
from pyro_bvae.types import Pair

if TYPE_CHECKING:
    from pyro_bvae.diagnostics import check_pair

__all__ = ["VAE", "Pair", "check_pair", "evaluate", "fit", "tempered", "untempered"]


def __getattr__(name: str) -> Any:
    """Import what is heavy when it is asked for."""
    if name == "check_pair":
        from pyro_bvae.diagnostics import check_pair

        return check_pair
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
