"""log p(z) and log p(x|z) as functions of unconstrained latents, with gradients, many at once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch
from pyro import poutine
from pyro.distributions import Independent
from torch import Tensor
from torch.distributions import biject_to

from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.layout import Values, as_sampled, latent_values, log_prob
from pyro_bvae.diagnostics.supports import INSTEAD, combinations, support_of, values_of
from pyro_bvae.diagnostics.traces import held, run, unconditioned
from pyro_bvae.models.partly_known import PartlyKnown
from pyro_bvae.training.recording import record


class Value(NamedTuple):
    """log p(z, y) and log p(x|z, y) `[rows, values]` of every value of what is discrete.

    And the gradient `[rows, dim]` of log Σ_y p(z, y) p(x|z, y)^power.
    """

    log_prior: Tensor
    log_likelihood: Tensor
    gradient: Tensor

    def at(self, power: float | Tensor) -> Tensor:
        """Return log Σ_y p(z, y) p(x|z, y)^power, `[rows]`; a power of 0 is the prior."""
        least = torch.finfo(self.log_likelihood.dtype).min
        total = self.log_prior + power * self.log_likelihood.clamp(min=least)
        return total.logsumexp(1) if total.shape[1] > 1 else total[:, 0]


class LogJoint:
    """The unnormalised posteriors of some data, each `copies` times over, as one function.

    A row u `[rows, dim]` holds all continuous latents z of one datum, mapped to the whole real
    line; row c · data + i is copy c of datum i. The log prior is that of u: it has the
    log-determinant of the map. Discrete latents y are summed over, all of their values run at
    once. The function is recorded as one graph of tensor operations where the pair is static.

    To be made and called within `with sampler.running(seed)`.

    Args:
        sampler: of the pair and its data; shared latents are as it holds them.
        indices: of the data.
        copies: how many rows each datum has.

    Raises: ValueError if no latent is continuous, or a discrete one has too many values.
    """

    def __init__(self, sampler: Sampler, indices: Tensor, copies: int = 1) -> None:
        self.sampler, self.data, self.copies = sampler, len(indices), copies
        self.args = tuple(self.copied(arg) for arg in sampler.arguments(indices))
        nodes = self._nodes()
        self._transforms = {
            n: _transform(nodes[n], s) for n, s in sampler.layout.continuous.items()
        }
        self.values = self._combined(nodes)
        self._evaluate: Callable[..., Sequence[Tensor]] = self._eager
        self._tried = False

    @property
    def is_recorded(self) -> bool:
        """Whether the function runs as a recording."""
        return self._evaluate != self._eager

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.copies * self.data

    @property
    def number(self) -> int:
        """How many values the discrete latents of a datum can take together; 1 where none is."""
        return len(next(iter(self.values.values()))) if self.values else 1

    @property
    def dim(self) -> int:
        """How many unconstrained numbers the continuous latents of one datum are."""
        return sum(size for _, _, size in self._transforms.values())

    def copied(self, values: Tensor) -> Tensor:
        """Repeat values `[data, ...]` for every row, `[rows, ...]`."""
        return values.repeat(self.copies, *[1] * (values.dim() - 1))

    def __call__(self, u: Tensor, power: float | Tensor = 1.0) -> Value:
        """Evaluate all rows u `[rows, dim]`; power weighs the likelihood in the gradient."""
        power = torch.as_tensor(power, dtype=u.dtype, device=u.device)
        if not self._tried:
            self._record(u, power)
        return Value(*self._evaluate([u.detach(), power]))

    def log_probs(self, latents: Values) -> tuple[Tensor, Tensor]:
        """Return log p(z, y) and log p(x|z, y) of latents `{site: [rows, *shape]}`.

        Each `[rows, values]`, a column for every value of the discrete latents together.
        """
        layout, number = self.sampler.layout, self.number
        every = {n: v.repeat(number, *[1] * (v.dim() - 1)) for n, v in latents.items()}
        every |= {n: v.repeat_interleave(self.rows, 0) for n, v in self.values.items()}
        args = tuple(arg.repeat(number, *[1] * (arg.dim() - 1)) for arg in self.args)
        values = as_sampled({**self.sampler.shared, **every}, layout)
        trace = poutine.trace(held(self.sampler.pair.model, values)).get_trace(*args)
        rows = number * self.rows
        prior, likelihood = (
            log_prob(trace, layout, rows, observed=seen, draws=1)[0].reshape(number, -1).T
            for seen in (False, True)
        )
        return prior, likelihood

    def prior(self) -> Tensor:
        """Draw rows from the prior, `[rows, dim]`."""
        return self.flat(self._simulated())

    def flat(self, latents: dict[str, Tensor]) -> Tensor:
        """Map latents `{site: [any, *shape]}` to `[any, dim]`, without discrete ones."""
        parts = [
            transform.inv(latents[name]).reshape(len(latents[name]), -1)
            for name, (transform, _, _) in self._transforms.items()
        ]
        return torch.cat(parts, 1).detach()

    def latents(self, u: Tensor) -> dict[str, Tensor]:
        """Map u `[any, dim]` back to the continuous latents `{site: [any, *shape]}`."""
        return {name: value for name, (value, _) in self._constrained(u).items()}

    def _simulated(self) -> dict[str, Tensor]:
        model = held(unconditioned(self.sampler.pair.model), self.sampler.shared)
        trace = poutine.trace(model).get_trace(*self.args)
        values = latent_values(trace, self.sampler.layout, self.rows, 1)
        return {name: value[0] for name, value in values.items()}

    def _nodes(self) -> dict[str, Any]:
        """Return the model's sites, once the guide is seen to leave none at known points."""
        guide, model, _ = run(self.sampler.pair, self.args, values=self.sampler.shared)
        for name in self.sampler.layout.continuous:
            fn = cast(Any, guide.nodes[name])["fn"]
            base = fn.base_dist if isinstance(fn, Independent) else fn
            if isinstance(base, PartlyKnown) and base.known.any():
                raise ValueError(
                    f"pair: some of latent site {name!r} is known, a point that no gradient may "
                    f"move; {INSTEAD}"
                )
        nodes: dict[str, Any] = model.nodes
        return nodes

    def _combined(self, nodes: dict[str, Any]) -> dict[str, Tensor]:
        """Return the values of the discrete latents, all combinations, `{site: [values, ...]}`."""
        layout = self.sampler.layout
        if not layout.continuous:
            raise ValueError(
                f"pair: expected a continuous latent site, so that gradients can move it, got "
                f"{sorted(layout.discrete)} alone, which are discrete; {INSTEAD}"
            )
        values = {n: values_of(n, nodes[n]["fn"], layout.local[n]) for n in layout.discrete}
        return combinations(values) if values else {}

    def _constrained(self, u: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """The latents, and the log-determinant of the map to each, `[rows]`."""
        result = {}
        sizes = [size for _, _, size in self._transforms.values()]
        for (name, (transform, event, _)), part in zip(
            self._transforms.items(), u.split(sizes, 1), strict=True
        ):
            free = part.reshape(len(u), *event)
            value = transform(free)
            jacobian = transform.log_abs_det_jacobian(free, value)
            result[name] = (value, jacobian.reshape(len(u), -1).sum(1))
        return result

    def _eager(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        u, power = inputs
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            latents = self._constrained(u)
            log_prior, log_likelihood = self.log_probs({n: v for n, (v, _) in latents.items()})
            volume = torch.stack([jacobian for _, jacobian in latents.values()]).sum(0)
            value = Value(log_prior + volume[:, None], log_likelihood, u)
            (gradient,) = torch.autograd.grad(value.at(power).sum(), u)
        return [part.detach() for part in (value.log_prior, log_likelihood, gradient)]

    def _record(self, u: Tensor, power: Tensor) -> None:
        """Replace the function by a recording of it, if it can be recorded."""
        self._tried = True
        inputs = [u.detach(), power]
        try:
            recording = record(lambda *given: self._eager(given), inputs)
        except Exception:  # of any kind: a pair that cannot be recorded runs as it is
            return
        self._evaluate = replace(recording, outputs=[])


def _transform(site: Any, shape: tuple[int, ...]) -> tuple[Any, torch.Size, int]:
    """Return the map from the real line to a latent, the shape it maps from, and its size."""
    transform = biject_to(support_of(site["fn"]))
    event = transform.inverse_shape(torch.Size(shape))
    return transform, event, event.numel()
