"""log p(z) and log p(x|z) as functions of unconstrained latents, with gradients, many at once."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import MixtureSameFamily, biject_to

from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.layout import Values, as_sampled, latent_values, log_prob
from pyro_bvae.diagnostics.traces import held
from pyro_bvae.training.recording import record


class Value(NamedTuple):
    """`log_prior`, `log_likelihood` `[rows]`; `gradient` `[rows, dim]` of prior + power · lik."""

    log_prior: Tensor
    log_likelihood: Tensor
    gradient: Tensor


class LogJoint:
    """The unnormalised posteriors of some data, each `copies` times over, as one function.

    A row u `[rows, dim]` holds all latents of one datum, mapped to the whole real line; row
    c · data + i is copy c of datum i. The log prior is that of u: it has the log-determinant of
    the map. The function is recorded as one graph of tensor operations where the pair is static.

    To be made and called within `with sampler.running(seed)`.

    Args:
        sampler: of the pair and its data; shared latents are as it holds them.
        indices: of the data.
        copies: how many rows each datum has.

    Raises: ValueError if a latent has no density on a continuous support.
    """

    def __init__(self, sampler: Sampler, indices: Tensor, copies: int = 1) -> None:
        self.sampler, self.data, self.copies = sampler, len(indices), copies
        self.args = tuple(self.copied(arg) for arg in sampler.arguments(indices))
        self._transforms = self._read_transforms()
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
    def dim(self) -> int:
        """How many unconstrained numbers the latents of one datum are."""
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

    def rows_of(self, values: Tensor, name: str) -> Tensor:
        """Turn draws of a site as it is sampled, `[copies, ...]`, to rows `[rows, *shape]`."""
        layout = self.sampler.layout
        place = values.dim() - layout.event_dims[name] + layout.dim
        return values.movedim(place, 1).reshape(self.rows, *layout.local[name])

    def log_probs(self, latents: Values) -> tuple[Tensor, Tensor]:
        """Return log p(z) and log p(x|z) of latents `{site: [rows, *shape]}`, each `[rows]`."""
        layout = self.sampler.layout
        values = as_sampled({**self.sampler.shared, **latents}, layout)
        trace = poutine.trace(held(self.sampler.pair.model, values)).get_trace(*self.args)
        prior, likelihood = (
            log_prob(trace, layout, self.rows, observed=seen, draws=1)[0] for seen in (False, True)
        )
        return prior, likelihood

    def prior(self) -> Tensor:
        """Draw rows from the prior, `[rows, dim]`."""
        return self.flat(self._simulated())

    def flat(self, latents: dict[str, Tensor]) -> Tensor:
        """Map latents `{site: [rows, *shape]}` to rows u `[rows, dim]`."""
        parts = [
            transform.inv(latents[name]).reshape(self.rows, -1)
            for name, (transform, _, _) in self._transforms.items()
        ]
        return torch.cat(parts, 1).detach()

    def latents(self, u: Tensor) -> dict[str, Tensor]:
        """Map rows u `[rows, dim]` back to latents `{site: [rows, *shape]}`."""
        return {name: value for name, (value, _) in self._constrained(u).items()}

    def _simulated(self) -> dict[str, Tensor]:
        model = held(poutine.uncondition(self.sampler.pair.model), self.sampler.shared)
        trace = poutine.trace(model).get_trace(*self.args)
        values = latent_values(trace, self.sampler.layout, self.rows, 1)
        return {name: value[0] for name, value in values.items()}

    def _read_transforms(self) -> dict[str, tuple[Any, torch.Size, int]]:
        """For every latent: the map from the real line, the shape it maps from, and its size."""
        model = held(self.sampler.pair.model, self.sampler.shared)
        nodes: dict[str, Any] = poutine.trace(model).get_trace(*self.args).nodes
        found = {}
        for name, shape in self.sampler.layout.local.items():
            fn = nodes[name]["fn"]
            support = _support(fn)
            if support.is_discrete or fn.has_enumerate_support:
                raise ValueError(
                    f"pair: expected latent site {name!r} to be continuous, so that gradients "
                    f"can move it, got {fn}"
                )
            transform = biject_to(support)
            event = transform.inverse_shape(torch.Size(shape))
            found[name] = (transform, event, event.numel())
        return found

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
            log_prior = log_prior + sum(jacobian for _, jacobian in latents.values())
            (gradient,) = torch.autograd.grad((log_prior + power * log_likelihood).sum(), u)
        return [log_prior.detach(), log_likelihood.detach(), gradient.detach()]

    def _record(self, u: Tensor, power: Tensor) -> None:
        """Replace the function by a recording of it, if it can be recorded."""
        self._tried = True
        inputs = [u.detach(), power]
        try:
            recording = record(lambda *given: self._eager(given), inputs)
        except Exception:  # of any kind: a pair that cannot be recorded runs as it is
            return
        self._evaluate = replace(recording, outputs=[])


def _support(fn: Any) -> Any:
    """Return where a distribution has density; a mixture, where its components have."""
    mixed = isinstance(fn, MixtureSameFamily)
    return _support(fn.component_distribution) if mixed else fn.support
