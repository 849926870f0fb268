"""What a recorded step would do, to be held against what Pyro's step then does."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from torch.fx import Graph, Node
from torch.fx.node import map_arg

from pyro_bvae.training.recording import Recording

LOSS, CHANGE, ROUNDING = 1e-4, 0.5, 8.0


class Trial:
    """A recorded step that was taken and undone.

    Random generators, and the tensors that the graph changes in place, are as they were before.

    Args:
        recording: of the step.
        inputs: what it is called with.

    >>> from pyro_bvae.training.recording import record
    >>> total, factor = torch.tensor(1.0), [2.0]
    >>> add = lambda x: [total.add_(x * factor[0]).clone()]
    >>> recording = record(add, [torch.tensor(1.0)])
    >>> for factor[0] in (2.0, 3.0):
    ...     trial = Trial(recording, [torch.tensor(1.0)])
    ...     trial.agrees(add(torch.tensor(1.0)))
    True
    False
    """

    @torch.no_grad()
    def __init__(self, recording: Recording, inputs: Sequence[Tensor]) -> None:
        given: list[Any] = [*recording.live, *inputs]
        self._changed = [given[number] for number in changed_by(recording.graph.graph)]
        self._before = [tensor.clone() for tensor in self._changed]
        generators = [(g, g.get_state()) for g in given if isinstance(g, Generator)]
        try:
            with torch.random.fork_rng(devices()):
                self._outputs = [output.clone() for output in recording(inputs)]
            self._after = [tensor.clone() for tensor in self._changed]
        finally:
            for tensor, before in zip(self._changed, self._before, strict=True):
                tensor.copy_(before)
            for generator, state in generators:
                generator.set_state(state)

    @torch.no_grad()
    def agrees(self, outputs: Sequence[Tensor]) -> bool:
        """Whether another way of taking the step, taken now, gave the same but for rounding.

        Held against each other are the first outputs, to a ten-thousandth of the largest, and
        what became of each tensor on a CPU, to half of its change, since a gradient of nothing
        but rounding may move a parameter either way. Where numbers are not finite, nothing is said.
        """
        mine, theirs = map(_together, (self._outputs[: len(outputs)], outputs))
        if mine.shape != theirs.shape:
            return False
        if (mine - theirs).abs().max() > LOSS * theirs.abs().max():
            return False
        moved = zip(self._changed, self._before, self._after, strict=True)
        return not any(_apart(*tensors) for tensors in moved)


def devices() -> range:
    """Return the GPUs that have random generators by now, to be asked without being woken."""
    return range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)


def changed_by(graph: Graph) -> list[int]:
    """Return the numbers of the placeholders that a graph's operations change in place.

    Batch normalisation changes its running statistics without saying so.

    >>> from torch.fx.experimental.proxy_tensor import make_fx
    >>> graph = make_fx(lambda x, y: y.view(2).add_(x))(torch.ones(2), torch.ones(2)).graph
    >>> changed_by(graph)
    [1]
    """
    sources: dict[Node, set[Node]] = {}
    changed: set[Node] = set()
    for node in graph.nodes:
        sources[node] = {node} if node.op == "placeholder" else set()
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            sources[node].update(*(sources[source] for source in node.all_input_nodes))
            continue
        names = [argument.name for argument in schema.arguments]
        values = dict(zip(names, node.args, strict=False)) | node.kwargs
        for argument in schema.arguments:
            running = argument.name.startswith("running_")
            if argument.alias_info is None and not running:
                continue
            found = _nodes(values.get(argument.name))
            reached = {source for each in found for source in sources[each]}
            sources[node] |= reached
            changed |= reached if running or argument.alias_info.is_write else set()
    places = [node for node in graph.nodes if node.op == "placeholder"]
    return [number for number, node in enumerate(places) if node in changed]


def _nodes(value: Any) -> list[Node]:
    found: list[Node] = []
    map_arg(value, lambda node: found.append(node))
    return found


def _together(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().cpu().double().flatten() for tensor in tensors])


def _apart(now: Tensor, before: Tensor, other: Tensor) -> bool:
    if now.device.type != "cpu":
        return False
    if not (now.is_floating_point() or now.is_complex()):
        return not torch.equal(now, other)
    norm = torch.linalg.vector_norm
    rounding = ROUNDING * torch.finfo(now.dtype).eps * norm(now)
    return bool(norm(other - now) > CHANGE * norm(now - before) + rounding)
