"""One β-VAE, trained by hand, by Pyro, by pythae and by `fit`: each takes a block of steps."""

import importlib.util
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pyro
import torch
import torch.nn.functional as F
from pyro.infer import SVI, TraceMeanField_ELBO
from torch import Tensor, nn

from pyro_bvae import VAE, fit, tempered
from pyro_bvae.likelihoods import BernoulliLikelihood
from pyro_bvae.networks import conv_decoder, conv_encoder, mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from pyro_bvae.training import recording

LATENTS = 10
NO_PYTHAE = "pythae is not installed, so it is left out: pip install -e .[bench]"


class Job(NamedTuple):
    """Networks, data `[data, *shape]`, batch, β, learning rate, steps of a timed block, device."""

    encoder: Callable[[], nn.Module]
    decoder: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch: int
    beta: float
    lr: float
    block: int
    device: str = "cpu"


def small() -> Job:
    """MLP 64–128–10–128–64 on binary 8×8 images, batch 128."""
    shape = (1, 8, 8)
    encoder = partial(mlp_encoder, shape, hidden=(128,))
    decoder = partial(mlp_decoder, LATENTS, shape, hidden=(128,))
    return Job(encoder, decoder, shape, batch=128, beta=1.0, lr=1e-3, block=200)


def conv() -> Job:
    """The convolutional net of Locatello et al. (2019) on 64×64 images, batch 64."""
    shape = (1, 64, 64)
    encoder, decoder = partial(conv_encoder, shape), partial(conv_decoder, LATENTS, shape)
    return Job(encoder, decoder, shape, batch=64, beta=4.0, lr=1e-4, block=6)


JOBS = {"small": small, "conv": conv}


def job_of(name: str, device: str) -> Job:
    """Return a job on a device; away from a CPU its blocks are longer, since steps are faster."""
    job = JOBS[name]()
    return job if device == "cpu" else job._replace(device=device, block=max(job.block, 100))


def images(job: Job) -> Tensor:
    """Return binary data, ten batches of them."""
    return (torch.rand(10 * job.batch, *job.shape) < 0.2).float().to(job.device)


def vae_of(job: Job) -> VAE:
    """Return the β-VAE as this package has it."""
    vae = VAE(
        prior=NormalPrior(LATENTS),
        likelihood=BernoulliLikelihood(job.decoder()),
        posterior=MeanFieldPosterior(job.encoder(), latents=LATENTS),
    )
    return vae.to(job.device)


def as_others_write(job: Job) -> Job:
    """Return the job with networks of torch's own layers, in the layout that these give."""

    def plain(network: nn.Module) -> nn.Module:
        layers = list(network.net)
        last = layers[-1]
        if isinstance(last, nn.ConvTranspose2d):
            layers[-1] = nn.ConvTranspose2d(last.in_channels, last.out_channels, 4, 2, 1)
        layers = [
            nn.Unflatten(y.dim, y.unflattened_size) if isinstance(y, nn.Unflatten) else y
            for y in layers
        ]
        network.net = nn.Sequential(*layers)
        return network

    return job._replace(encoder=lambda: plain(job.encoder()), decoder=lambda: plain(job.decoder()))


class ByHand(nn.Module):
    """Such networks and the negative β-ELBO, written by hand."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        job = as_others_write(job)
        self.encoder, self.decoder, self.beta = job.encoder(), job.decoder(), job.beta
        self.head = nn.Linear(self.encoder.features, 2 * LATENTS)

    def loss(self, x: Tensor) -> Tensor:
        """Return the negative β-ELBO, nats per datum."""
        loc, log_scale = self.head(self.encoder(x)).float().chunk(2, -1)
        scale = log_scale.exp()
        logits = self.decoder(loc + scale * torch.randn_like(loc)).float()
        nll = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        kl = 0.5 * (loc**2 + scale**2 - 1 - 2 * log_scale).sum()
        return (nll + self.beta * kl) / len(x)


Block = Callable[[], object]


def steps_of(job: Job, data: Tensor, step: Callable[[Tensor], object]) -> Block:
    """Return a block of steps on random batches."""

    def block() -> None:
        for _ in range(job.block):
            step(data[torch.randint(len(data), (job.batch,), device=data.device)])

    return block


def by_hand(job: Job, data: Tensor, *, how: str, bf16: bool = False) -> Block:
    """Return a loop written by hand.

    Args:
        job: what is trained.
        data: on what.
        how: "eager"; with a "fused" optimiser; with that and the loss "compiled"; or with a
            "compiled step" of the optimiser too.
        bf16: whether the networks run in bfloat16.
    """
    net = ByHand(job).to(job.device)
    fused = how in ("fused", "compiled")
    lr = torch.tensor(job.lr) if how == "compiled step" else job.lr
    optimiser = torch.optim.Adam(net.parameters(), lr=lr, fused=fused)
    loss_of = torch.compile(net.loss) if how.startswith("compiled") else net.loss
    update = torch.compile(optimiser.step) if how == "compiled step" else optimiser.step

    def step(x: Tensor) -> float:
        optimiser.zero_grad()
        with torch.autocast(job.device, torch.bfloat16, enabled=bf16):
            loss = loss_of(x)
        loss.backward()
        update()
        return loss.item()

    return steps_of(job, data, step)


def pyro_svi(job: Job, data: Tensor) -> Block:
    """Return Pyro's trainer."""
    optim = pyro.optim.Adam({"lr": job.lr})
    svi = SVI(*tempered(vae_of(as_others_write(job)), job.beta), optim, TraceMeanField_ELBO())
    return steps_of(job, data, svi.step)


def pythae(job: Job, data: Tensor) -> Block:
    """Return an epoch of pythae's trainer, which is a block long."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import BetaVAE, BetaVAEConfig
    from pythae.models.base.base_utils import ModelOutput as outputs
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    net = ByHand(job)

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(net.encoder, net.head)

        def forward(self, x: Tensor) -> Any:
            loc, log_var = self.net(x).chunk(2, -1)
            return outputs(embedding=loc, log_covariance=log_var)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = net.decoder

        def forward(self, z: Tensor) -> Any:
            return outputs(reconstruction=self.net(z).sigmoid())

    config = BetaVAEConfig(job.shape, LATENTS, reconstruction_loss="bce", beta=job.beta)
    n = job.block * job.batch
    repeated = data.repeat(-(-n // len(data)), 1, 1, 1)[:n]
    settings = BaseTrainerConfig(
        output_dir=tempfile.gettempdir(),
        per_device_train_batch_size=job.batch,
        no_cuda=job.device == "cpu",
        learning_rate=job.lr,
    )
    trainer = BaseTrainer(
        BetaVAE(config, Encoder(), Decoder()),
        BaseDataset(repeated, torch.zeros(n)),
        training_config=settings,
    )
    trainer.prepare_training()
    trainer.callback_handler.callbacks = []
    return lambda: trainer.train_step(1)


Pause = Callable[[], None]


def by_fit(job: Job, data: Tensor, pause: Pause, **options: Any) -> None:
    """Train by `fit`, which calls `pause` after every block of steps."""
    optim = partial(torch.optim.Adam, lr=job.lr, fused=True)
    fit(
        vae_of(job),
        data,
        batch_size=job.batch,
        beta=job.beta,
        optim=optim,
        steps=10**8,
        every=job.block,
        progress=False,
        callbacks=[lambda _: pause()],
        **options,
    )


def with_torchs_convolutions(trainer: Callable[[Pause], None]) -> Callable[[Pause], None]:
    """Return a trainer that leaves convolutions to the compiler, to see what ours gain."""

    def train(pause: Pause) -> None:
        from torch._inductor.decomposition import select_decomp_table

        recording.decompositions = select_decomp_table
        trainer(pause)

    return train


def trainers(name: str, device: str) -> dict[str, Callable[[Pause], None]]:
    """Return every trainer of a job: each trains for ever, and pauses after every block."""
    job = job_of(name, device)
    data = images(job)

    def ours(**options: Any) -> Callable[[Pause], None]:
        return lambda pause: by_fit(job, data, pause, **options)

    def theirs(make: Callable[..., Block], **options: Any) -> Callable[[Pause], None]:
        return lambda pause: forever(make(job, data, **options), pause)

    found = {
        "by hand, eager": theirs(by_hand, how="eager"),
        "by hand, eager, fused Adam": theirs(by_hand, how="fused"),
        "by hand, compiled, fused Adam": theirs(by_hand, how="compiled"),
        "by hand, compiled, compiled Adam": theirs(by_hand, how="compiled step"),
        "Pyro SVI": theirs(pyro_svi),
        **{f"fit, {mode}": ours(compile=mode) for mode in ("eager", "recorded", "compiled")},
    }
    if name == "conv":
        found["fit, compiled, torch's convolutions"] = with_torchs_convolutions(
            found["fit, compiled"]
        )
        found["by hand, compiled, bf16"] = theirs(by_hand, how="compiled", bf16=True)
        for mode in ("eager", "compiled"):
            found[f"fit, {mode}, bf16"] = ours(compile=mode, precision="bf16")
    if importlib.util.find_spec("pythae"):
        found["pythae BetaVAE"] = theirs(pythae)
    return found


def forever(block: Block, pause: Pause) -> None:
    """Run blocks, with a pause after each."""
    while True:
        block()
        pause()
