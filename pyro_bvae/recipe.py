"""A training run in words: what the command line trains, written beside the weights."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyro_bvae.beta import check_beta
from pyro_bvae.checks import check_count, check_number
from pyro_bvae.datasets.arrays import Source, as_source
from pyro_bvae.datasets.digits import digits
from pyro_bvae.datasets.files import DSpritesFile
from pyro_bvae.datasets.images import image_folder
from pyro_bvae.datasets.sprites import Sprites
from pyro_bvae.datasets.vision import celeba, fashion_mnist, mnist
from pyro_bvae.likelihoods import BernoulliLikelihood, Likelihood, NormalLikelihood
from pyro_bvae.models import VAE
from pyro_bvae.networks import conv_decoder, conv_encoder, mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from pyro_bvae.training import Fit, Run, current_group, fit
from pyro_bvae.training.session import run_files
from pyro_bvae.training.settings import check_seed

FILE = "recipe.json"
NETS = ("burgess", "locatello", "mlp")
LIKELIHOODS = ("bernoulli", "normal")
DATASETS: dict[str, Callable[[int | None], Any]] = {
    "wide-sprites": lambda size: Sprites(size or 32).subset(posY=range(8, 24)),
    "sprites": lambda size: Sprites(size or 32),
    "digits": lambda size: _of_size("digits", digits().images, size),
    "mnist": lambda size: mnist("data", size=size or 32, download=True).images,
    "fashion-mnist": lambda size: fashion_mnist("data", size=size or 32, download=True).images,
    "celeba": lambda size: celeba("data", size=size or 64, download=True),
}


@dataclass(frozen=True)
class Recipe:
    """Data, model and training of one run; the defaults are the demo.

    Attributes:
        data: a name in `DATASETS`, or a path: a dSprites npz file, an npy array
            `[data, *shape]`, or a folder of images. "wide-sprites" are the sprites whose height
            is in the middle half: where the two positions vary equally, as in "sprites", every
            rotation of the two is as good a code, and the seed decides which is found.
        size: pixels across; None for the data's own (sprites 32, digits 8, MNIST 32,
            CelebA and folders 64).
        latents: the number of latents.
        beta: β ≥ 0.
        prior_scale: the prior's σ: a number, "learned" or "per_latent".
        likelihood: "bernoulli" or "normal".
        likelihood_scale: the normal likelihood's σ: a number, "learned" or "per_pixel".
        net: "burgess", "locatello" or "mlp".
        steps, batch_size, learning_rate, seed: of the training.

    Raises:
        ValueError: an unknown likelihood or net, a number out of range; the rest is checked where
            it is used.
    """

    data: str = "wide-sprites"
    size: int | None = None
    latents: int = 10
    beta: float = 4.0
    prior_scale: float | str = 1.0
    likelihood: str = "bernoulli"
    likelihood_scale: float | str = 1.0
    net: str = "burgess"
    steps: int = 4000
    batch_size: int = 64
    learning_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (("likelihood", LIKELIHOODS), ("net", NETS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}: expected one of {choices}, got {getattr(self, name)!r}")
        for name in ("latents", "steps", "batch_size"):
            check_count(getattr(self, name), name)
        check_beta(self.beta)
        check_number(self.learning_rate, "learning_rate", positive=True)
        check_seed(self.seed)
        if self.likelihood == "bernoulli" and self.likelihood_scale != 1.0:
            raise ValueError(
                "likelihood_scale: a Bernoulli likelihood has no σ; use it with likelihood normal"
            )

    def load_data(self) -> Source:
        """Load the data; ValueError or FileNotFoundError say what is wrong with them."""
        if self.data in DATASETS:
            return as_source(DATASETS[self.data](self.size))
        path = Path(self.data)
        if path.is_dir():
            return as_source(image_folder(path, size=self.size or 64))
        if path.suffix == ".npz":
            return as_source(_of_size(self.data, DSpritesFile(path), self.size))
        if path.suffix == ".npy" and path.is_file():
            try:
                array = np.load(path, mmap_mode="r", allow_pickle=False)
            except (ValueError, EOFError) as error:
                raise ValueError(
                    f"{path}: expected an array np.save wrote, got a damaged file: {error}"
                ) from error
            return as_source(_of_size(self.data, array, self.size))
        raise ValueError(
            f"data: expected one of {', '.join(DATASETS)}, a dSprites .npz file, an .npy array "
            f"[data, *shape] or a folder of images, got {self.data!r}"
        )

    def build(self, shape: tuple[int, ...]) -> VAE:
        """Build the VAE for data of this shape, with weights drawn from `seed`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            if self.net == "mlp":
                hidden = (512, 256)
                encoder = mlp_encoder(shape, hidden=hidden)
                decoder = mlp_decoder(self.latents, shape, hidden=hidden[::-1])
            else:
                if len(shape) != 3:
                    raise ValueError(
                        f"net: {self.net!r} is for images (channels, size, size), the data have "
                        f"shape {tuple(shape)}; use net 'mlp'"
                    )
                encoder = conv_encoder(shape, net=self.net)
                decoder = conv_decoder(self.latents, shape, net=self.net)
            likelihood: Likelihood = (
                BernoulliLikelihood(decoder)
                if self.likelihood == "bernoulli"
                else NormalLikelihood(decoder, scale=self.likelihood_scale)
            )
            return VAE(
                prior=NormalPrior(self.latents, scale=self.prior_scale),
                likelihood=likelihood,
                posterior=MeanFieldPosterior(encoder, latents=self.latents),
            )

    def train(
        self,
        run: str | Path,
        *,
        overwrite: bool = False,
        resume: bool = False,
        progress: bool = True,
    ) -> Fit:
        """Load the data, build the VAE, train it, and write the run directory.

        With `resume`, go on with the run that is there, if there is one: it must have this
        recipe, but for its steps. Several processes train together as `fit` says.
        """
        group = current_group()
        run_files(run, overwrite=overwrite, resume=resume, keep=1)
        files = Run(run, notes={FILE: asdict(self)})
        data = group.after_first(self.load_data)
        vae = self.build(_shape(data))
        group.from_first(lambda: self._check(files) if resume else None)
        return fit(
            vae,
            data,
            steps=self.steps,
            beta=self.beta,
            optim=partial(torch.optim.Adam, lr=self.learning_rate),
            batch_size=self.batch_size,
            seed=self.seed,
            run=files,
            overwrite=overwrite,
            resume=resume,
            progress=progress,
        )

    def _check(self, files: Run) -> None:
        """Raise unless the run that is to go on has this recipe, or there is none."""
        if (files.path / FILE).is_file():
            _check_same(_read(files), self)
        else:
            files.check_free()


def load(run: str | Path) -> tuple[Recipe, VAE, Source]:
    """Read a run that `Recipe.train` wrote: its recipe, the trained VAE and the data.

    Raises: FileNotFoundError or ValueError if it is incomplete, corrupt or of another version.
    """
    files = Run(run)
    recipe = _read(files)
    data = recipe.load_data()
    vae = recipe.build(_shape(data))
    files.load_into(vae)
    return recipe, vae, data


def resumed(run: str | Path, options: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a run that is to go on, or of a new one if none has begun there.

    Args:
        run: the directory.
        options: what to change of it, or of the defaults.
    """
    files = Run(run)
    begun = (files.path / FILE).is_file()
    return replace(_read(files), **options) if begun else Recipe(**options)


def _read(files: Run) -> Recipe:
    if not (files.path / FILE).is_file():
        raise FileNotFoundError(
            f"run: expected {files.path / FILE}, which `pyro-bvae train` writes; what fit(run=...) "
            "wrote is read in Python, by Run(path).load_into(vae)"
        )
    written = files.read_json(FILE)
    unknown = sorted(set(written) ^ {field.name for field in fields(Recipe)})
    if unknown:
        raise ValueError(f"{files.path / FILE}: expected a recipe, unknown or missing: {unknown}")
    return Recipe(**written)


def _check_same(before: Recipe, now: Recipe) -> None:
    """Raise ValueError, naming it, if anything but the steps is another."""
    for field in fields(Recipe):
        old, new = getattr(before, field.name), getattr(now, field.name)
        if field.name != "steps" and old != new:
            raise ValueError(
                f"{field.name}: the run has {old!r}, got {new!r}; leave it out to go on, or "
                "start another run"
            )


def _shape(data: Source) -> tuple[int, ...]:
    return tuple(data[torch.tensor([0])].shape[1:])  # type: ignore[union-attr]


def _of_size(name: str, data: Any, size: int | None) -> Any:
    """Return the data if `size` is None or their own."""
    own = data.shape[-1]
    if size not in (None, own):
        raise ValueError(f"size: {name} has images of size {own} and no other, got {size}")
    return data
