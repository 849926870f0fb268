"""Stochastic variational inference as Pyro's `SVI`, with the whole step in one compiled graph."""

from typing import Any

import torch
from pyro.infer.util import zero_grads
from pyro.optim import PyroOptim
from pyro.poutine.runtime import am_i_wrapped

from pyro_bvae.checks import check_count
from pyro_bvae.training.choice import Choice, now
from pyro_bvae.training.notices import (
    MANY_KINDS,
    UNLIKE_PYRO,
    FallbackWarning,
    RecompileWarning,
    warn,
)
from pyro_bvae.training.optimisers import OptimiserFactory
from pyro_bvae.training.parameters import check_parameters
from pyro_bvae.training.plans import IN_A_ROW, Plan, Plans
from pyro_bvae.training.recorded_optim import NotReady
from pyro_bvae.training.recorded_step import RecordedStep, Taken
from pyro_bvae.training.recording import reason
from pyro_bvae.training.surroundings import Call, Modules, fresh_gradients
from pyro_bvae.training.terms_svi import TermsSVI
from pyro_bvae.types import PyroFunction

MODES = ("auto", "eager", "recorded", "compiled")
SHORT_LIVED = 32


class CompiledSVI(TermsSVI):
    """`pyro.infer.SVI` that records its step once and compiles it.

    Python runs model, guide, handlers, loss, gradients and the optimiser's update once, and every
    tensor operation they do is kept as one graph; further steps run the graph alone. The numbers
    are those of Pyro's `SVI` under the same seed, with the same random draws: to the last bit if
    recorded on a CPU, to rounding if compiled.

    The structure of model and guide must be static: which sites there are, and their shapes. The
    first step runs as Pyro's, the next two are recorded and compared; then the graph is compiled.
    Where that fails, one `FallbackWarning` says why, and steps run as Pyro's.

    A graph belongs to the kinds of its tensor arguments (shape, dtype) and the values of all
    others. Arguments of another kind than the first, such as an epoch's last, smaller batch, run
    as Pyro's, until they have come three times in a row: then they get a graph too, announced
    by a `RecompileWarning`. What changes between steps is best a tensor that is changed in place
    (a 0-dim β): a Python number, function or object that model, guide, objective or optimiser
    read from elsewhere is part of the graph, and the graph is recorded anew when it changes, as
    far as `PythonState` follows it: not into installed packages, caches, files, what large
    containers hold, or attributes that appear later. So that nothing goes unnoticed for long,
    recorded steps 16, 32, ... 512 and then each 512th are taken both ways: by the recording, which
    is undone, and as Pyro's, which counts. Where they differ a `FallbackWarning` says so, and the
    recording is made anew; gradients that go to an optimiser outside the graph are not compared,
    nor on a GPU what becomes of parameters. In those steps alone are values checked that Pyro
    checks, such as data outside a distribution's support. Parameters may be changed in place,
    loaded or replaced; learning rates, and momenta that torch's schedules move, as usual.

    On CUDA the compiled graph becomes one CUDA graph, for which parameters and data lie on one
    device; only reading the loss, as `step` does, waits for it (see `captured`, which has been
    tested on a CPU by a stand-in only).

    Args:
        model: a Pyro function.
        guide: a Pyro function with the same arguments.
        optim: a `pyro.optim` optimiser, or a callable from a list of parameters to a `torch.optim`
            one. Adam, AdamW, SGD and `ClippedAdam` become part of the graph (then `foreach` is
            without effect, and `fused` away from a CPU); others run after it.
        loss: a `pyro.infer.ELBO`. If it has `differentiable_terms`, which takes what
            `differentiable_loss` takes and returns the loss and a dict of named 0-dim tensors,
            these are available from `step_terms`.
        loss_and_grads: as in Pyro, where `loss` is a plain function.
        mode: "compiled", "recorded" (the graph runs without being compiled), "eager" (Pyro's
            steps) or "auto": Pyro's at first, timed, then recorded or compiled where enough steps
            are left (see `choice.next_mode`), without warnings. It may be changed between steps:
            parameters and optimiser state are shared.
        steps: how many there will be, which "auto" needs to know.

    Attributes:
        fallback: why steps run as Pyro's, None if they need not.
        parameters: what model and guide showed to Pyro when they last ran, by name, unconstrained.
        gradients: what is done to gradients before the update; set it before the first step.

    Raises:
        TypeError: optim is neither of the two.
        ValueError: unknown mode, "auto" without steps; at the first step, if model and guide show
            no parameters to Pyro, or others than are in use.

    References:
        Hoffman et al. (2013), Stochastic Variational Inference.
        Reed et al. (2022), torch.fx: Practical Program Capture and Transformation for Deep
        Learning in Python.

    >>> import pyro, pyro.distributions as dist
    >>> from pyro.infer import Trace_ELBO
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("x", dist.Normal(pyro.param("mean", torch.tensor(0.0)), 1.0), obs=x)
    >>> def guide(x):
    ...     pass
    >>> optim = pyro.optim.SGD({"lr": 0.05})
    >>> svi = CompiledSVI(model, guide, optim, Trace_ELBO(), mode="recorded")
    >>> losses = [svi.step(torch.tensor([1.0, 2.0, 3.0])) for _ in range(50)]
    >>> round(pyro.param("mean").item(), 2)
    2.0
    """

    def __init__(
        self,
        model: PyroFunction,
        guide: PyroFunction,
        optim: PyroOptim | OptimiserFactory,
        loss: Any,
        loss_and_grads: Any = None,
        *,
        mode: str = "compiled",
        steps: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model, guide, optim, loss, loss_and_grads, **kwargs)
        self._steps = steps
        self.mode = mode
        self.fallback: str | None = None
        self._plans = Plans()
        self._unplanned = Plan(first=True)
        self._strikes = self._unlike_pyro = 0
        self._made_of: list[Any] = []
        self._told = False
        self._has_compiled = False

    @property
    def mode(self) -> str:
        """How steps are taken: "auto", "eager", "recorded" or "compiled"."""
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        if mode not in MODES:
            raise ValueError(f"mode: expected one of {MODES}, got {mode!r}")
        self._mode = self._current = mode
        self._choice = None
        if mode == "auto":
            self._choice = Choice(check_count(self._steps, "steps"))
            self._current = self._choice.mode

    def _take(self, args: Any, kwargs: Any) -> Taken:
        choice = self._choice
        if choice is None or choice.settled():
            return self._take_now(args, kwargs)
        start = now()
        taken = self._take_now(args, kwargs)
        if self.fallback is None:
            choice.add(now() - start)
        else:
            choice.give_up()
        self._current = choice.mode
        return taken

    def _take_now(self, args: Any, kwargs: Any) -> Taken:
        if self._current == "eager" or am_i_wrapped() or not torch.is_grad_enabled():
            return self._eager(self._unplanned, args, kwargs)
        if self._is_traced:
            taken = self._eager(self._unplanned, args, kwargs)
            return self._fall_back(taken, "the loss is one that torch.jit has traced already")
        try:
            call = Call.of(args, kwargs)
        except TypeError as error:
            return self._fall_back(self._eager(self._unplanned, args, kwargs), str(error))
        if (parts := self._parts()) != self._made_of:
            self._made_of = parts
            self._plans.clear()
        plan = self._plans.find(call)
        if plan.is_stale():
            return self._start_over(plan, call, args, kwargs)
        if plan.parameters is None or plan.eager or not (plan.recorded or plan.often):
            if not self._told and self._plans.too_many():
                self._told = True
                self._warn(f"{MANY_KINDS}{call}", FallbackWarning)
            return self._eager(plan, args, kwargs)
        if plan.recorded is None or not plan.confirmed:
            return self._record(plan, call, args, kwargs)
        if plan.recorded.is_due():
            return self._try(plan, plan.recorded, call, args, kwargs)
        if self._current == "compiled" and plan.often:
            self._compile(plan, call)
        return plan.recorded(call.tensors, compiled=self._current == "compiled")

    def _try(self, plan: Plan, step: RecordedStep, call: Call, args: Any, kwargs: Any) -> Taken:
        """Take a step as Pyro does, and see whether the recording would have done the same."""
        trial = step.trial(call.tensors)
        taken = self._eager(plan, args, kwargs)
        if isinstance(trial, str):
            warn(f"recorded steps are not held against Pyro's any more: {trial}", FallbackWarning)
            return taken
        if trial.agrees(taken.values()):
            self._unlike_pyro = 0 if step.last_tried() > SHORT_LIVED else self._unlike_pyro
            return taken
        why = f"{UNLIKE_PYRO} within the last {step.last_tried()} steps, which used the old"
        self._plans.clear()
        self._unlike_pyro += 1
        if self._unlike_pyro < IN_A_ROW:
            warn(f"{why}; it is recorded anew", FallbackWarning)
            return taken
        self._plans.find(call).eager = True
        return self._fall_back(taken, why)

    def _eager(self, plan: Plan, args: Any, kwargs: Any) -> Taken:
        """Take a step as Pyro does; if it is the first, see what it depends on."""
        if plan.parameters is None:
            judges = self.loss, self.loss_and_grads, self._differentiable_terms
            plan.modules = Modules(self.model, self.guide, *filter(None, judges))
            with fresh_gradients(), plan.modules.watched():
                parameters, loss, terms = self._evaluate(*args, **kwargs)
                check_parameters(parameters, plan.modules)
            plan.parameters = parameters
        else:
            plan.parameters, loss, terms = self._evaluate(*args, **kwargs)
        taken = Taken.of(loss, terms)
        self._update(list(plan.parameters.values()))
        zero_grads(plan.parameters.values())
        return taken

    def _record(self, plan: Plan, call: Call, args: Any, kwargs: Any) -> Taken:
        """Take a step in Python and record it, or compare it with what was recorded before."""
        try:
            step = RecordedStep(
                self._evaluate,
                self._update if self.gradients.leave_the_graph else self.optim,
                call,
                parameters=plan.parameters or {},
                modules=plan.modules,
                like=plan.recorded,
            )
        except NotReady as error:
            why, taken = str(error), self._eager(plan, args, kwargs)
            plan.delays += 1
            plan.eager = plan.delays >= IN_A_ROW
            return self._fall_back(taken, f"each time, {why}") if plan.eager else taken
        except Exception as error:
            why, taken = reason(error), self._eager(plan, args, kwargs)
            plan.eager = True
            return self._fall_back(taken, why)
        plan.delays = 0
        difference = plan.recorded.difference(step) if plan.recorded else None
        if not step.is_current():
            difference = f"the step itself changes {step.changed()}"
        plan.eager = difference is not None
        plan.confirmed = plan.recorded is not None
        plan.recorded = plan.recorded or step
        if self._choice is not None:
            self._choice.compiling = step.prospect(call.tensors)
        return step.taken if difference is None else self._fall_back(step.taken, difference)

    def _compile(self, plan: Plan, call: Call) -> None:
        if plan.is_compiled() or plan.uncompilable:
            return
        if self._has_compiled:
            self._warn(f"compiling once more, for {call}", RecompileWarning)
        why = plan.compile(call)
        self._has_compiled = True
        if why is not None:
            self._warn(why, FallbackWarning)

    def _start_over(self, old: Plan, call: Call, args: Any, kwargs: Any) -> Taken:
        """Forget all recordings, because what they took from elsewhere has been replaced."""
        changed = old.recorded.changed() if old.recorded else ""
        short_lived = old.recorded is not None and old.recorded.steps < SHORT_LIVED
        self._strikes = self._strikes + 1 if short_lived else 0
        self._plans.clear()
        plan = self._plans.find(call)
        taken = self._eager(plan, args, kwargs)
        if self._strikes < IN_A_ROW:
            return taken
        plan.eager = True
        return self._fall_back(taken, f"{changed} keep changing")

    def _fall_back(self, taken: Taken, why: str) -> Taken:
        if self.fallback is None:
            self.fallback = why
            self._warn(f"steps run as pyro.infer.SVI's, not compiled: {why}", FallbackWarning)
        return taken

    def _warn(self, message: str, category: type[Warning]) -> None:
        if self._choice is None:
            warn(message, category)
