"""Draws of any pair on any data, scored per datum: what every posterior diagnostic starts from."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor

from pyro_bvae.checks import check_count
from pyro_bvae.datasets.arrays import as_source
from pyro_bvae.diagnostics.auxiliary import check_auxiliary
from pyro_bvae.diagnostics.layout import (
    Values,
    as_sampled,
    check_guide,
    data_plates,
    latent_values,
    layout_of,
    predicted_values,
    shared_values,
)
from pyro_bvae.diagnostics.modes import called_modules_evaluate
from pyro_bvae.diagnostics.scales import check_scales
from pyro_bvae.diagnostics.scored import Draws, concatenated, scored
from pyro_bvae.diagnostics.traces import (
    Traces,
    held,
    plate_of,
    run,
    simulated_arguments,
    unconditioned,
    values_of_draw,
)
from pyro_bvae.training.allocator import kept_memory
from pyro_bvae.training.source import (
    check_arguments,
    checked,
    device_of,
    evaluating,
    own_randomness,
    read,
)
from pyro_bvae.types import PairLike, as_pair, drawn_of

Latents = dict[str, Tensor]

_PROBED = 3
_SHARED_DRAWS = 999


class Sampler:
    """Draws from the guide of any pair on any data, at β = 1 whatever scales its sites.

    All of its methods are to be called within `with sampler.running(seed)`, where modules are in
    evaluation mode, Pyro validates nothing, and torch's random state is put back afterwards.

    Several draws are taken in one run, in a plate around the pair's own, if that gives a pair the
    same log-probabilities as one run for each; else in a loop.

    Args:
        pair: a `VAE`, a `Pair` or any `(model, guide)`, its latents in a plate of the data. Of
            one that offers another pair as `drawn` (see `types.HasDrawn`), that is held.
        data: a tensor, an array, a data set, or a tuple of them (see `datasets.as_source`).
        batch_size: the most draws × data that go through the pair at once.
        hold_shared: keep the latents that are no datum's own, such as a prior's σ, at the medians
            of what the guide draws for them; else they vary with the draws.

    Raises:
        TypeError, ValueError: data that are none or that the likelihood of a `VAE` cannot draw, or
            a pair that does not fit them, has no plate, or weighs its sites one by one.

    >>> import pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))
    >>> sampler = Sampler((model, guide), torch.zeros(2))
    >>> with sampler.running(seed=0):
    ...     draws = sampler.draw(torch.arange(2), 3)
    >>> draws.latents["z"].shape, draws.log_likelihood.shape
    (torch.Size([3, 2]), torch.Size([3, 2]))
    """

    def __init__(
        self, pair: PairLike, data: Any, *, batch_size: int = 256, hold_shared: bool = True
    ) -> None:
        drawn = drawn_of(pair)
        self.source = as_source(data)
        self.batch_size = check_count(batch_size, "batch_size")
        self._given = pair
        check_arguments(drawn, self.source)
        self._check = checked(pair, self.source)
        self._device = _device(pair, self.arguments(torch.tensor([0])))
        self.pair = as_pair(drawn)
        self.shared: Latents = {}
        with self.running(seed=0), torch.no_grad():
            self._probe()
            if hold_shared and self.layout.shared:
                self.shared = self._medians()

    def __len__(self) -> int:
        return len(self.source)

    @contextmanager
    def running(self, seed: int) -> Iterator[None]:
        """Let the pair run: in evaluation mode, without checks, with randomness of its own."""
        with (
            kept_memory(enabled=self._device is None or self._device.type == "cpu"),
            evaluating(self._given),
            called_modules_evaluate(),
            own_randomness(self._device, seed),
            pyro.validation_enabled(False),
        ):
            yield

    def arguments(self, indices: Tensor) -> tuple[Tensor, ...]:
        """Return the data at `indices` as the arguments of model and guide."""
        args = read(self.source, indices, self._given)
        with pyro.validation_enabled(True):
            self._check(*args)
        return args

    def draw(self, indices: Tensor, num_samples: int, *, predict: bool = False) -> Draws:
        """Draw from the guide for the data at `indices`, all at once."""
        args = self.arguments(indices)
        if self.stacks:
            return self._stacked(args, num_samples, predict=predict)
        parts = [self.score(args, predict=predict) for _ in range(num_samples)]
        return concatenated(parts, dim=0)

    def prior(self, indices: Tensor, num_samples: int) -> tuple[Latents, Latents, Latents]:
        """Draw from the model alone, for data like those at `indices`.

        Returns: its latents, `[draws, batch, *shape]`, shared ones `[draws, *shape]`, and what it
            would observe, `[draws, batch, *shape]`.
        """
        args, layout, batch = self.arguments(indices), self.layout, len(indices)
        at_once = num_samples if self.stacks else 1
        model = plate_of(at_once, layout)(self.pair.model) if self.stacks else self.pair.model
        free, found = unconditioned(held(model, self.shared)), []
        for _ in range(num_samples // at_once):
            trace = poutine.trace(free).get_trace(*args)
            latents = latent_values(trace, layout, batch, at_once)
            shared = shared_values(trace, layout, at_once)
            found.append((latents, shared, predicted_values(trace, layout, at_once)))
        one, two, three = (
            {n: torch.cat([values[n] for values in some]) for n in some[0]}
            for some in zip(*found, strict=True)
        )
        return one, two, three

    def parts(self, num_samples: int, *, predict: bool = False) -> Iterator[tuple[Tensor, Draws]]:
        """Yield all data's draws, `batch_size` at a time: first all draws of the first data."""
        draws = min(num_samples, max(1, math.isqrt(self.batch_size)))
        for indices in torch.arange(len(self)).split(max(1, self.batch_size // draws)):
            for some in torch.arange(num_samples).split(draws):
                yield indices, self.draw(indices, len(some), predict=predict)

    def simulate(self, indices: Tensor) -> tuple[Latents, tuple[Tensor, ...]]:
        """Draw latents from the prior and data like those at `indices` from the likelihood.

        Returns: the latents `{site: [batch, *shape]}`, exact draws from p(z|x) of the data, and
            these data in the place of the given ones among the arguments.
        """
        args = self.arguments(indices)
        model = held(unconditioned(self.pair.model), self.shared)
        trace = poutine.trace(model).get_trace(*args)
        latents = latent_values(trace, self.layout, len(indices), 1)
        return {n: v[0] for n, v in latents.items()}, simulated_arguments(trace, self.layout, args)

    def score(
        self, args: tuple[Tensor, ...], values: Values | None = None, *, predict: bool = False
    ) -> Draws:
        """Score one draw for the data in `args`: the guide's, but for sites given in `values`."""
        given = as_sampled({**self.shared, **(values or {})}, self.layout)
        traces = run(self.pair, args, values=given, predict=predict)
        return scored(traces, self.layout, len(args[0]), 1)

    def _stacked(self, args: tuple[Tensor, ...], draws: int, *, predict: bool = False) -> Draws:
        plate = plate_of(draws, self.layout)
        traces = run(self.pair, args, values=self.shared, predict=predict, plate=plate)
        return scored(traces, self.layout, len(args[0]), draws)

    def _probe(self) -> None:
        """Read the layout from a few data, and whether draws can be taken together."""
        args = self.arguments(torch.arange(min(len(self), _PROBED)))
        with pyro.validation_enabled(True):
            guide, model, _ = run(self.pair, args)
            self.layout = layout_of(model, self._plate(model, len(args[0])))
        check_guide(guide, self.layout, len(args[0]))
        check_auxiliary(guide, self.layout)
        check_scales(Traces(guide, model), self.layout, len(args[0]))
        self.stacks = self._can_stack(args)

    def _plate(self, model: Trace, batch: int) -> Any:
        """Return the plate of the data: if others are as large, the first that follows the data."""
        frames = data_plates(model, batch)
        if len({frame.name for frame in frames}) == 1:
            return frames[0]
        other = batch - 1 if batch > 1 else 2
        _, again, _ = run(self.pair, self.arguments(torch.arange(other) % len(self)))
        names = {frame.name for frame in data_plates(again, other)}
        return next(frame for frame in frames if frame.name in names)

    def _can_stack(self, args: tuple[Tensor, ...]) -> bool:
        try:
            plate = plate_of(2, self.layout)
            traces = run(self.pair, args, values=self.shared, plate=plate)
            together = scored(traces, self.layout, len(args[0]), 2)
        except Exception:  # of any kind: a user's model that cannot take more dimensions
            return False
        for draw in range(2):
            values = values_of_draw(traces.guide, draw, self.layout)
            alone = scored(run(self.pair, args, values=values), self.layout, len(args[0]), 1)
            for name in ("log_prior", "log_likelihood", "log_guide"):
                one, two = getattr(alone, name)[0], getattr(together, name)[draw]
                if not torch.allclose(one, two, rtol=1e-3, atol=1e-3, equal_nan=True):
                    return False
        return True

    def _medians(self) -> Latents:
        """Return the medians of the guide's draws of the shared latents."""
        args, at_once = self.arguments(torch.tensor([0])), _SHARED_DRAWS if self.stacks else 1
        guide = self.pair.guide
        guide = plate_of(at_once, self.layout)(guide) if self.stacks else guide
        traces = [poutine.trace(guide).get_trace(*args) for _ in range(_SHARED_DRAWS // at_once)]
        draws = [shared_values(trace, self.layout, at_once) for trace in traces]
        return {name: torch.cat([d[name] for d in draws]).median(0).values for name in draws[0]}


def _device(pair: PairLike, args: tuple[Tensor, ...]) -> torch.device | None:
    """The device of the pair's parameters, else of its data."""
    return device_of(pair) or args[0].device
