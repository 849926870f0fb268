"""Whether a pair of Pyro functions is sound, in words."""

import html
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pyro_bvae.diagnostics.evidence import Finding, gather, isolated
from pyro_bvae.diagnostics.structure import structure_findings
from pyro_bvae.diagnostics.trainability import trainability_findings
from pyro_bvae.types import HasPair, Pair, PyroFunction

_MARKS = {"ok": "✓", "warning": "!", "problem": "✗"}
_COLOURS = {"ok": "#2a7a3b", "warning": "#9a6700", "problem": "#b3261e"}
_NEEDED = {"sites", "shapes"}


@dataclass(frozen=True)
class PairCheck:
    """What `check_pair` found, readable when printed and in a notebook.

    Attributes:
        findings: one for each thing that was looked at.
    """

    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether there is no problem; warnings are allowed."""
        return not any(finding.verdict == "problem" for finding in self.findings)

    def __getitem__(self, name: str) -> Finding:
        """Return the finding of this name; KeyError if it was not looked at."""
        found = {finding.name: finding for finding in self.findings}
        return found[name]

    def _verdict(self) -> str:
        worries = sum(finding.verdict == "warning" for finding in self.findings)
        words = "The pair is sound" if self.sound else "The pair is not sound"
        return words + (f", with {worries} warning{'s' * (worries > 1)}." if worries else ".")

    def __str__(self) -> str:
        lines = [self._verdict()]
        for finding in self.findings:
            lines.append(f"{_MARKS[finding.verdict]} {finding.name}: {finding.sentence}")
            lines += [f"    → {finding.advice}"] if finding.advice else []
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><td style="color:{_COLOURS[f.verdict]};text-align:left">'
            f"{_MARKS[f.verdict]}&nbsp;{f.verdict}</td>"
            f'<td style="text-align:left"><b>{html.escape(f.name)}</b></td>'
            f'<td style="text-align:left">{html.escape(f.sentence)}'
            + (f"<br><i>{html.escape(f.advice)}</i>" if f.advice else "")
            + "</td></tr>"
            for f in self.findings
        )
        return f"<p><b>{self._verdict()}</b></p><table>{rows}</table>"


def check_pair(model: PyroFunction, guide: PyroFunction, *args: Any, **kwargs: Any) -> PairCheck:
    """Say in words whether a model and a guide are sound, before they are trained.

    It runs them on the arguments given, a batch, and looks at ten things: whether they run; that
    latent sites, shapes and plates agree; whether the guide's draws are reparameterised; that β
    weighs the same on both sides; that the loss is finite; that Pyro is shown the parameters in
    use, and that a gradient reaches each; what is left in Pyro's global store; that Pyro's
    `Trace_ELBO` and `TraceMeanField_ELBO` and our `ELBO` agree within 5 standard errors over 32
    seeded draws; and whether `CompiledSVI` can record a step.

    Nothing is trained: parameters, gradients, buffers, random states and Pyro's store are put
    back. Only a guide that builds itself on its first run, such as `AutoNormal`, stays built.

    Args:
        model: a Pyro function, tempered or not.
        guide: its guide, which takes the same arguments.
        args: what both take, such as a batch of images.
        kwargs: what both take by name.

    Returns: the findings; `.sound` is False if one of them is a problem.

    Raises: TypeError if model or guide cannot be called.

    >>> import pyro, pyro.distributions as dist, torch
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
    ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
    >>> def guide(x):
    ...     slope = pyro.param("slope", torch.tensor(0.3))
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("w", dist.Normal(slope * x, 0.7))
    >>> print(check_pair(model, guide, torch.tensor([2.0, -1.0])))
    The pair is not sound.
    ✓ run: Model and guide run on these arguments.
    ✗ sites: The guide lacks the latent sites 'z' of the model.
        → Sample every latent site of the model in the guide, under the same name.
    ...
    """
    if not (callable(model) and callable(guide)) or isinstance(model, HasPair):
        raise TypeError(
            f"model, guide: expected two Pyro functions, got {type(model).__name__} and "
            f"{type(guide).__name__}; of a VAE pass vae.model and vae.guide, then the data"
        )
    pair = Pair(model, guide)
    with isolated():
        return PairCheck(tuple(_findings(pair, args, kwargs)))


def _findings(pair: Pair, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Finding]:
    evidence = gather(pair, args, kwargs)
    if isinstance(evidence, Finding):
        yield evidence
        return
    yield Finding("run", "ok", "Model and guide run on these arguments.")
    broken = False
    for finding in structure_findings(evidence):
        broken |= finding.name in _NEEDED and finding.verdict == "problem"
        yield finding
    if not broken:
        yield from trainability_findings(evidence)
