"""Buffers of modules where several processes train one pair."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from pyro_bvae.training.distributed import Group


class MovingBuffers:
    """Buffers that steps change, such as running statistics: those of the first process hold.

    Args:
        group: of the processes.
        modules: whose buffers, as they are before the first step.
    """

    def __init__(self, group: Group, modules: Iterable[nn.Module]) -> None:
        self.group = group
        found = (b for m in modules for b in m._buffers.values() if b is not None)
        several = group.size > 1
        self._before = [(b, b.clone()) for b in found if several and b.is_floating_point()]
        self._moving: list[Tensor] | None = None

    def share(self) -> None:
        """Give them to all, after a step; the first one shows which they are."""
        if self._moving is None:
            changed = [float(not torch.equal(*pair)) for pair in self._before]
            anywhere = self.group.largest(changed) if changed else []
            pairs = zip(self._before, anywhere, strict=True)
            self._moving = [b for (b, _), moves in pairs if moves]
            self._before = []
        self.group.copy_from_first(self._moving)


@contextmanager
def buffers_kept() -> Iterator[None]:
    """Undo what modules that are called meanwhile do to their buffers."""
    kept: dict[Tensor, Tensor] = {}

    def keep(module: nn.Module, _: Any) -> None:
        kept.update({b: b.clone() for b in module.buffers() if b not in kept})

    handle = register_module_forward_pre_hook(keep)
    try:
        yield
    finally:
        handle.remove()
        with torch.no_grad():
            for buffer, value in kept.items():
                buffer.copy_(value)
