"""Where the tensors of a recorded graph lie: what keeps it from being one graph of a device."""

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor, device
from torch.fx import Graph, Node
from torch.utils._pytree import tree_leaves

LIFT = torch.ops.aten.lift_fresh_copy.default


class Misplaced(RuntimeError):
    """A recorded graph does something away from the device that is not the same at every step."""


def scalars_to_move(graph: Graph, tensors: Sequence[Tensor], on: device) -> list[int]:
    """Return which of a graph's tensors must be on the device, and are not.

    A graph of a device repeats the device's work alone. Off it may be what is the same at every
    step, which is done once; and 0-dim tensors from outside, such as a β, with what is computed
    of them: these can be moved to the device, and brought up to date before each step.

    Args:
        graph: of tensor operations.
        tensors: that its placeholders stand for.
        on: the device.

    Raises: Misplaced if there is more than that.

    >>> from torch.fx.experimental.proxy_tensor import make_fx
    >>> beta, x = torch.tensor(2.0), torch.ones(2, device="meta")
    >>> graph = make_fx(lambda beta, x: (2 * beta) * x)(beta, x).graph
    >>> scalars_to_move(graph, [beta, x], torch.device("meta"))
    [0]
    """
    constant: set[Node] = set()
    movable: dict[Node, int] = {}
    given = iter(enumerate(tensors))
    for node in graph.nodes:
        if node.op == "placeholder":
            number, tensor = next(given)
            if any(stride == 0 < size - 1 for size, stride in _layout(tensor)):
                raise Misplaced(f"a tensor of shape {list(tensor.shape)} is an expanded one")
            if tensor.device == on:
                continue
            if node.users and all(user.target is LIFT for user in node.users):
                constant.add(node)
            elif tensor.ndim == 0:
                movable[node] = number
            else:
                raise Misplaced(f"a tensor of shape {list(tensor.shape)} is on {tensor.device}")
        elif _changes(node, movable):
            raise Misplaced(f"{node.target} changes a tensor that is not on {on}")
        elif _is_away(node, on):
            sources = node.all_input_nodes
            if _is_random(node):
                raise Misplaced(f"{node.target} draws on another device than {on}")
            if all(source in constant for source in sources):
                constant.add(node)
            elif "device" not in node.kwargs and any(source in movable for source in sources):
                movable[node] = -1
            else:
                raise Misplaced(f"{node.target} takes values away from {on}")
    return [number for number in movable.values() if number >= 0]


def _layout(tensor: Tensor) -> Iterator[tuple[int, int]]:
    return zip(tensor.shape, tensor.stride(), strict=True)


def _is_away(node: Node, on: device) -> bool:
    values = [x for x in tree_leaves(node.meta.get("val")) if isinstance(x, Tensor)]
    return any(value.device != on for value in values)


def _is_random(node: Node) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _changes(node: Node, movable: Collection[Node]) -> bool:
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable:
        return False
    arguments = zip(schema.arguments, node.args, strict=False)
    written = [value for a, value in arguments if a.alias_info and a.alias_info.is_write]
    return any(isinstance(x, Node) and x in movable for x in tree_leaves(written))
