"""Evaluation mode for modules that a pair only mentions, as bare Pyro functions do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook


@contextmanager
def called_modules_evaluate() -> Iterator[None]:
    """Put every module that is called meanwhile into evaluation mode, and back afterwards."""
    trained: list[nn.Module] = []

    def evaluate(module: nn.Module, _: Any) -> None:
        if module.training:
            trained.append(module)
            module.training = False

    handle = register_module_forward_pre_hook(evaluate)
    try:
        yield
    finally:
        handle.remove()
        for module in trained:
            module.training = True
