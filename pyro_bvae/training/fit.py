"""Train a pair by SVI, in one call."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyro.optim import PyroOptim

from pyro_bvae.beta import Beta, SiteBetas, tempered
from pyro_bvae.checks import check_count
from pyro_bvae.datasets.arrays import as_source
from pyro_bvae.objectives import ELBO, Objective
from pyro_bvae.training.allocator import kept_memory
from pyro_bvae.training.batches import BatchOrder
from pyro_bvae.training.beta_now import BetaNow
from pyro_bvae.training.callbacks import Callback, check_callbacks
from pyro_bvae.training.critic import CriticSVI, critic_adam, trainer
from pyro_bvae.training.distributed import current_group
from pyro_bvae.training.gradients import Gradients
from pyro_bvae.training.loop import Loop
from pyro_bvae.training.moving_average import MovingAverage
from pyro_bvae.training.optimisers import OptimiserFactory
from pyro_bvae.training.precision import prepared
from pyro_bvae.training.rates import Rates, ScheduleFactory, check_unscheduled
from pyro_bvae.training.run import Run
from pyro_bvae.training.session import Session, run_files
from pyro_bvae.training.settings import check_seed, settings_of
from pyro_bvae.training.signals import stop_requests
from pyro_bvae.training.source import device_of, split
from pyro_bvae.training.svi import MODES
from pyro_bvae.types import PairLike, Schedule, as_pair

adam: OptimiserFactory = partial(torch.optim.Adam, lr=1e-3, fused=True)


@dataclass(frozen=True)
class Fit:
    """What `fit` returns.

    Attributes:
        pair: what was trained, as it was given: the probabilistic model, without β. With
            `average`, its weights are the averaged ones.
        history: a row per record as arrays `[rows]`, nats per datum, averaged over the steps
            since the record before: "step", "beta" (of the moment), "loss", "elbo" (at β = 1),
            "reconstruction", "kl", the objective's terms, "kl_per_latent.SITE"
            `[rows, latents]`, and "validation_loss" (at β) and "validation_elbo" (at β = 1) where
            there were validation data.
        steps: how many steps were taken.
        seconds: how long they took, in all processes that worked on the run.
        interrupted: whether Ctrl-C or another signal ended it; resumed, it gives what it would
            have given.
    """

    pair: PairLike
    history: dict[str, np.ndarray] = field(repr=False)
    steps: int
    seconds: float
    interrupted: bool = False


def fit(
    pair: PairLike,
    data: Any,
    *,
    steps: int,
    beta: Beta | SiteBetas | Schedule = 1.0,
    objective: Objective | None = None,
    optim: PyroOptim | OptimiserFactory = adam,
    critic_optim: OptimiserFactory = critic_adam,
    lr_schedule: ScheduleFactory | None = None,
    clip_norm: float | None = None,
    average: float | None = None,
    batch_size: int = 64,
    accumulate: int = 1,
    seed: int = 0,
    validation: Any = None,
    every: int | None = None,
    callbacks: Sequence[Callback] = (),
    run: str | Path | Run | None = None,
    overwrite: bool = False,
    resume: bool = False,
    keep: int = 3,
    compile: str = "auto",
    precision: str = "float32",
    progress: bool = True,
) -> Fit:
    """Train a pair by stochastic variational inference: minimise the objective, per datum.

    The networks are trained in place. The same seed gives the same weights, bit for bit, on the
    same machine (in long runs see `compile`); torch's random state is left as it was. On a CPU
    the C library keeps freed memory meanwhile (see `allocator.kept_memory`). Data come in full
    batches, one permutation after another. Functions that take `size` are told the number of
    data, so that global latents weigh once per data set and not once per batch.

    Ctrl-C ends it after the step it is in, and returns what there is. With `run`, that and
    SIGTERM (which then ends the process) leave a checkpoint; and one is written every few
    seconds, so that after any end, `resume=True` gives the same weights, history and optimiser,
    bit for bit on a CPU, as if nothing had happened.

    Within a process group of torch.distributed, its processes train together, each on its share of
    every batch, with the same result in all (see `Group`).

    Args:
        pair: a `VAE`, a `Pair` or any `(model, guide)`.
        data: what model and guide take: a tensor or array `[data, *shape]`, a data set, or a
            tuple of them for functions of several arguments (see `datasets.as_source`).
        steps: how many optimiser steps, ≥ 1.
        beta: β as `tempered` takes it, or a schedule of the step, such as
            `schedules.linear(0.0, 4.0, steps=1000)`.
        objective: what to minimise; `ELBO()` by default.
        optim: a `pyro.optim` optimiser, or a callable from parameters to a torch one; torch's
            Adam with learning rate 1e-3 by default.
        critic_optim: of the objective's critic, where it has one, which takes a step after each
            step of the pair; by default Adam with learning rate 1e-3 and betas (0.5, 0.9).
        lr_schedule: a callable from the torch optimiser to one of `torch.optim.lr_scheduler`,
            such as `partial(CosineAnnealingLR, T_max=steps)`; it is stepped after every step.
        clip_norm: the largest norm that the gradient of all parameters together keeps.
        average: the decay, in (0, 1), of a moving average of the weights, say 0.999: they are in
            the pair when it is validated, shown to callbacks, saved or returned.
        batch_size: data per step, of all processes together.
        accumulate: in how many equal parts a step runs its batch, one after another, to save
            memory; losses that are means over data have the same gradients (see `Gradients`).
        seed: of the order of the data, the draws of the guide and the validation split.
        validation: data like `data`, or the share of them in (0, 1) to hold out; all of it is
            evaluated at every record.
        every: steps from record to record, ≥ 1; by default a hundredth of all, at most 1000.
        callbacks: called with every `Record`; one that returns True ends the training.
        run: a directory, or a `Run` of it, for settings, weights (the last and the best) and
            history, written at the end, and at records as often as a twentieth of the time allows:
            where these come fast, behind by 20 times what writing takes. And for checkpoints.
        overwrite: replace the run that is in that directory, at the first record or checkpoint:
            what is refused before leaves it as it was.
        resume: go on with the run in that directory, from its newest whole checkpoint; begin it
            if there is none. All settings but `steps` must be the same, and so must callbacks
            that have a state (see `Callback`). NumPy's and Python's global generators, which data
            may draw from, go on as they were there too, and are put back at the end.
        keep: how many checkpoints to keep, ≥ 1.
        compile: how the steps are taken, as `CompiledSVI` explains: "eager" as Pyro takes them,
            "recorded" or "compiled" for a pair of static structure, or "auto", which times the
            first steps and changes to the fastest of the three where enough steps are left. It
            stays silent where a pair cannot be recorded, and compiles only where that may save
            more than 5 s; from then on weights are the same to rounding, and no longer bit for
            bit. "eager" and "recorded" give the same bits on a CPU, so where every bit must be
            reproduced, choose one of these.
        precision: "float32", or "bf16" for networks in bfloat16 with loss, KL and parameters in
            float32 (see `precision.prepared`); evaluation stays in float32.
        progress: show a progress bar.

    Raises:
        ValueError: empty or unfit data, a batch larger than the data, an unsound pair, β < 0, an
            optimiser that would train nothing; a run to go on with that has other settings, or
            only damaged checkpoints.
        TypeError: something else than a pair, an objective, an optimiser, callbacks or data.
        OtherProcessError: one of these in another process only.
        FileExistsError: the directory holds a run already.
        OSError: the disk is full, say; the checkpoints before are intact.
        NonFiniteLossError: the loss or a parameter became NaN or infinite; what was saved
            before stays.

    References:
        Hoffman, Blei, Wang, Paisley (2013), Stochastic Variational Inference.

    >>> from pyro_bvae import VAE
    >>> from pyro_bvae.likelihoods import NormalLikelihood
    >>> from pyro_bvae.networks import mlp_decoder, mlp_encoder
    >>> from pyro_bvae.posteriors import MeanFieldPosterior
    >>> from pyro_bvae.priors import NormalPrior
    >>> vae = VAE(
    ...     prior=NormalPrior(1),
    ...     likelihood=NormalLikelihood(mlp_decoder(1, (3,), hidden=())),
    ...     posterior=MeanFieldPosterior(mlp_encoder((3,), hidden=()), latents=1),
    ... )
    >>> result = fit(vae, torch.randn(100, 3), beta=4.0, steps=50, progress=False)
    >>> result.history["loss"].shape
    (50,)
    """
    group = current_group()
    with group.agreeing():
        steps, seed = check_count(steps, "steps"), check_seed(seed)
        callbacks = check_callbacks(callbacks)
        check_unscheduled(optim)
    files = group.from_first(lambda: run_files(run, overwrite=overwrite, resume=resume, keep=keep))
    state = group.from_first(lambda: files.newest_state() if files and resume else None)
    with group.agreeing():
        if every is None:
            every = min(max(steps // 100, 1), 1000) if state is None else state["settings"]["every"]
        every = check_count(every, "every")
        objective = _checked(pair, ELBO() if objective is None else objective, compile)
        gradients = Gradients(accumulate=accumulate, clip_norm=clip_norm, group=group)
        rates = None if lr_schedule is None else Rates(optim, lr_schedule)
        moving = None if average is None else MovingAverage(average)
        source, held_out = split(as_source(data), validation, seed=seed)
        current = BetaNow(beta)
        svi = trainer(
            *tempered(prepared(pair, precision=precision, device=device_of(pair)), current.value),
            rates or optim,
            objective,
            critic_optim=critic_optim,
            mode=compile,
            steps=steps if state is None else max(steps - state["loop"]["step"], 1),
        )
        svi.gradients = gradients
        if isinstance(svi, CriticSVI):
            svi.critic.gradients = Gradients(group=group)
        order = torch.Generator().manual_seed(seed)
        batches = BatchOrder(len(source), batch_size=batch_size, generator=order)
        group.check_batch(batches.batch_size, accumulate=gradients.accumulate)
        loop = Loop(
            pair,
            source,
            held_out,
            svi=svi,
            objective=objective,
            beta=current,
            batches=batches,
            seed=seed,
            every=every,
            rates=rates,
            average=moving,
            group=group,
        )
        given: dict[str, Any] = {
            "optim": optim,
            "critic_optim": critic_optim,
            "lr_schedule": lr_schedule,
        }
        given |= {"steps": steps, "compile": compile, "precision": precision}
        with loop.moving.as_begun(state and state["loop"]["moving"]):
            settings = settings_of(loop, **given)
    session = Session(loop, callbacks, settings=settings, files=files)
    session.start(state, overwrite=overwrite, resume=resume)
    on_cpu = loop.device is None or loop.device.type == "cpu"
    with kept_memory(enabled=on_cpu), stop_requests(terminate=files is not None) as asked:
        session.follow(steps, asked, progress=progress)
        interrupted = bool(asked) and loop.step < steps and not session.stopped
        if moving is not None:
            moving.put_in_place()
    return Fit(pair, session.history(), loop.step, session.seconds(), interrupted)


def _checked(pair: PairLike, objective: Any, mode: str) -> Objective:
    """Return the objective; raise unless it is one, the mode exists and the pair has no β."""
    if mode not in MODES:
        raise ValueError(f"compile: expected one of {MODES}, got {mode!r}")
    if any(getattr(function, "is_tempered", False) for function in as_pair(pair)):
        raise ValueError("pair: expected the pair itself, got a tempered one; pass its β as beta=")
    if not isinstance(objective, Objective):
        raise TypeError(
            f"objective: expected an Objective such as ELBO(), got {type(objective).__name__}; "
            "use pyro.infer.SVI for Pyro's own losses"
        )
    return objective
