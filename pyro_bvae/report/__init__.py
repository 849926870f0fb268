"""One self-contained HTML page about a trained VAE: what it learned, in pictures and words."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyro_bvae.datasets.arrays import as_source
from pyro_bvae.models import VAE
from pyro_bvae.plots import are_images
from pyro_bvae.plots.history import History
from pyro_bvae.report import sections
from pyro_bvae.report.page import page
from pyro_bvae.report.posterior import posterior_section
from pyro_bvae.report.scores import disentanglement
from pyro_bvae.report.summary import Summary, some, summary
from pyro_bvae.training.source import evaluating, read

__all__ = ["Summary", "render", "summary", "write_report"]

_SHOWN = 16


def render(
    vae: VAE,
    data: Any,
    *,
    history: History | None = None,
    settings: Mapping[str, Any] | None = None,
    title: str = "A trained β-VAE",
    measured: Summary | None = None,
    seed: int = 0,
) -> str:
    """Return the report about a VAE as one HTML page that needs no other file and no network.

    Settings; loss, reconstruction and KL over the steps; KL per latent; whether the posterior can
    be believed; reconstructions, samples and traversals where the data are images; what the
    latents tell of the factors, and metrics of disentanglement, where the data are a
    `FactorDataset`; and what each means for this model. The same arguments give the same page.
    Values in nats per datum.

    Args:
        vae: the trained VAE.
        data: what it was trained on, or held-out data (see `datasets.as_source`).
        history: `Fit.history`, or a run's.
        settings: names and values to show, such as a run's settings.
        title: of the page.
        measured: what `summary(vae, data)` gave, if it is there already.
        seed: of the data that are measured and shown, and of the samples.

    Raises:
        ValueError: data that the VAE cannot take, a history without rows.
        TypeError: data whose batches are tuples.
    """
    source = as_source(data)
    measured = measured or summary(vae, source, seed=seed)
    with evaluating(vae):
        x = read(source, some(source, _SHOWN, seed=seed), vae)[0]
        drawn = are_images(x.shape[1:])
        return page(
            title,
            [
                sections.in_short(measured),
                sections.settings_table(vae, settings),
                sections.training(history),
                sections.latents(measured),
                posterior_section(vae, source, seed=seed),
                *(
                    sections.pictures(vae, x, measured, seed=seed)
                    if drawn
                    else [sections.no_pictures(tuple(x.shape[1:]))]
                ),
                sections.factors(measured),
                *disentanglement(vae, source, seed=seed),
            ],
        )


def write_report(
    path: str | Path,
    vae: VAE,
    data: Any,
    *,
    history: History | None = None,
    settings: Mapping[str, Any] | None = None,
    title: str = "A trained β-VAE",
    measured: Summary | None = None,
    seed: int = 0,
) -> Path:
    """Write the page that `render` returns for these arguments to `path`, and return the path.

    >>> import tempfile, torch
    >>> from pyro_bvae.likelihoods import NormalLikelihood
    >>> from pyro_bvae.networks import mlp_decoder, mlp_encoder
    >>> from pyro_bvae.posteriors import MeanFieldPosterior
    >>> from pyro_bvae.priors import NormalPrior
    >>> vae = VAE(
    ...     prior=NormalPrior(2),
    ...     likelihood=NormalLikelihood(mlp_decoder(2, (3,))),
    ...     posterior=MeanFieldPosterior(mlp_encoder((3,)), latents=2),
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_report(f"{folder}/report.html", vae, torch.zeros(10, 3))
    ...     path.name, path.read_text(encoding="utf-8")[:15]
    ('report.html', '<!DOCTYPE html>')
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = render(
        vae, data, history=history, settings=settings, title=title, measured=measured, seed=seed
    )
    path.write_text(text, encoding="utf-8")
    return path
