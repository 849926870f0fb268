"""Recording: run a Python function once, and keep the tensor operations it did as one graph."""

import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pyro_bvae.training.adam import in_single_steps
from pyro_bvae.training.compiler_cache import note_compiled
from pyro_bvae.training.convolutions import decompositions
from pyro_bvae.training.direct import direct
from pyro_bvae.training.notices import said
from pyro_bvae.training.quiet import DataDependent, quiet_pyro

aten = torch.ops.aten
COMPILING = {"fallback_random": True, "size_asserts": False}
UNREPLAYABLE = {aten.mkldnn_rnn_layer.default}
OUTSIDE_READS = {torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.__array__}
SPLITS = {torch.tensor_split, torch.Tensor.tensor_split}


@dataclass
class Recording:
    """One graph of tensor operations: `run(*live, *inputs)` gives the outputs.

    Attributes:
        graph: the operations; its placeholders are the live tensors, then the inputs.
        live: tensors that the function took from elsewhere (parameters, buffers, optimiser
            state), by reference, so that changes in place are seen.
        outputs: what the function returned while it was recorded.
        run: the graph, or what it was compiled to.
    """

    graph: GraphModule
    live: list[Tensor]
    outputs: list[Tensor]
    run: Callable[..., Sequence[Tensor]]

    @torch.no_grad()
    def __call__(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """Do the recorded operations on new inputs."""
        return self.run(*self.live, *inputs)

    def compiled(self, inputs: Sequence[Tensor]) -> "Recording":
        """Return the same recording, compiled for inputs of these shapes.

        It draws the random numbers that it draws uncompiled.
        """
        from torch._inductor.compile_fx import compile_fx

        with torch.no_grad(), torch._inductor.config.patch(COMPILING), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = in_single_steps(self.graph)
            given = [*self.live, *inputs]
            run: Any = compile_fx(graph, given, decompositions=decompositions())
        note_compiled(self.graph, [*self.live, *inputs])
        return Recording(self.graph, self.live, [], run)

    def difference(self, other: "Recording") -> str | None:
        """Say where two recordings of one function differ, which a static one's do not."""
        mine, others = list(self.graph.graph.nodes), list(other.graph.graph.nodes)
        for a, b in zip(mine, others, strict=False):
            if (a.target, str(a.args), str(a.kwargs)) != (b.target, str(b.args), str(b.kwargs)):
                return f"{a.format_node()} became {b.format_node()}"
        if len(mine) != len(others):
            return f"{len(mine)} operations became {len(others)}"
        for a, b in zip(self.live, other.live, strict=True):
            if a is not b and not _equal(a, b):
                return f"a tensor of shape {list(a.shape)} made by the model has other values"
        return None


def record(function: Callable[..., list[Tensor]], inputs: Sequence[Tensor]) -> Recording:
    """Run a function of tensors once and return the operations it did.

    The operations are really done, so what they change in place is changed. Inputs that are one
    tensor, or that the function knows from elsewhere too, are told apart.

    Raises: DataDependent if Python reads a value that another step may change.

    >>> weight = torch.tensor(2.0)
    >>> recording = record(lambda x: [x * weight], [torch.tensor(1.0)])
    >>> _ = weight.fill_(5.0)
    >>> recording([torch.tensor(3.0)])
    [tensor(15.)]
    """
    outputs: list[Tensor] = []

    def traced(*tensors: Tensor) -> list[Tensor]:
        with StaticOperations(), ItemsAsTensors():
            outputs.extend(function(*tensors))
        return outputs

    with quiet_pyro(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = make_fx(traced)(*(tensor.detach() for tensor in inputs))
    live = _live_as_placeholders(graph)
    return Recording(graph, live, outputs, direct(graph))


class ItemsAsTensors(TorchFunctionMode):
    """`x.item()` of a floating-point tensor stays a tensor, in double precision as a float is.

    Other reads of a tensor's memory, which no operation would tell of, are refused. `one_hot`,
    which checks its argument's values, is done without the check.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Handle one call of torch."""
        if func is torch.Tensor.item and args[0].is_floating_point():
            value = args[0].detach()
            return value if value.device.type == "mps" else value.to(torch.float64)
        if func is torch.nn.functional.one_hot and len(args) == 2:
            return (args[0].unsqueeze(-1) == torch.arange(args[1], device=args[0].device)).long()
        given = (*args[1:], *(kwargs or {}).values())
        if func in SPLITS and any(isinstance(each, Tensor) for each in given):
            raise DataDependent("tensor_split reads the values of its indices")
        if func in OUTSIDE_READS:
            raise DataDependent(f"Tensor.{func.__name__} reads a tensor's values")
        return func(*args, **(kwargs or {}))


class StaticOperations(TorchDispatchMode):
    """Refuse operations whose result, in Python or in shape, depends on data.

    Tensors made from Python numbers alone, such as the indices of a sequential plate, may be read.
    Refused too is torch's LSTM layer for float32 on a CPU, which keeps what its gradient needs
    only where gradients are taken, and no graph takes them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._constants: dict[int, Tensor] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Handle one operation."""
        kwargs = kwargs or {}
        if func in UNREPLAYABLE:
            raise DataDependent(f"{func} cannot be replayed without taking gradients anew")
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        constant = torch.Tag.nondeterministic_seeded not in func.tags and (
            func is aten.lift_fresh_copy.default or all(id(t) in self._constants for t in tensors)
        )
        if torch.Tag.data_dependent_output in func.tags:
            if not constant:
                raise DataDependent("Python reads the value of a tensor")
            with disable_proxy_modes_tracing():
                return func(*args, **kwargs)
        if not constant and _shape_depends_on_data(func, args):
            raise DataDependent(f"the shape of {func} depends on the values of a tensor")
        if not constant and func._schema.is_mutable:
            self._constants.clear()
        result = func(*args, **kwargs)
        if constant:
            self._constants |= {id(x): x for x in tree_leaves(result) if isinstance(x, Tensor)}
        return result


def reason(error: BaseException) -> str:
    """Say what stopped a recording, and at which line of the user's code.

    >>> try:
    ...     record(lambda x: [x if x > 0 else -x], [torch.tensor(1.0)])
    ... except DataDependent as error:
    ...     print(reason(error))
    Python reads the value of a tensor (<doctest ...>:2: ...)
    """
    frames = list(traceback.extract_tb(error.__traceback__))
    library = Path(torch.__file__).parent
    inner = ("<string>", "<frozen", str(Path(__file__).parent), str(library))
    for prefixes in ((*inner, str(library.parent)), inner):
        frames = [f for f in frames if not f.filename.startswith(prefixes)] or frames
    frame = frames[-1]
    what = said(error)
    what = what if isinstance(error, DataDependent) else f"{type(error).__name__}: {what}"
    line = f": {frame.line}" if frame.line else ""
    return f"{what} ({frame.filename}:{frame.lineno}{line})"


def _shape_depends_on_data(func: Any, args: Any) -> bool:
    if torch.Tag.dynamic_output_shape not in func.tags:
        return False
    if func is not aten.index.Tensor:
        return True
    return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])


def _live_as_placeholders(module: GraphModule) -> list[Tensor]:
    """Make every tensor that a graph holds an input of it, and return these tensors."""
    graph = module.graph
    first = next(iter(graph.nodes))
    live: list[Tensor] = []
    placeholders: dict[int, Node] = {}
    for node in [n for n in graph.nodes if n.op == "get_attr"]:
        tensor = getattr(module, str(node.target))
        if id(tensor) not in placeholders:
            with graph.inserting_before(first):
                placeholders[id(tensor)] = graph.placeholder(f"live_{len(live)}")
            live.append(tensor)
        node.replace_all_uses_with(placeholders[id(tensor)])
        graph.erase_node(node)
    for name in [n for n in vars(module) if n.startswith("_tensor_constant")]:
        delattr(module, name)
    module._parameters.clear()
    module._buffers.clear()
    module.recompile()
    return live


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
