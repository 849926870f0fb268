"""Several processes that train one pair together, by torch.distributed."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from pyro_bvae.training.notices import said

T = TypeVar("T")
LISTEN_EVERY, MOST_STEPS = 0.1, 1000


class OtherProcessError(RuntimeError):
    """Another process failed, at what all must be able to do or at what the first does for all."""


class Group:
    """The processes that train together, all those of torch's process group, or this one alone.

    Each takes its share of every batch, and draws random numbers of its own. They begin with the
    parameters of the first. Gradients, and what was measured, are averaged: with a loss that is a
    mean over data, as by one process that takes the whole batch. In recorded and compiled steps
    this happens between the graph and the optimiser. Buffers that a step changes, such as running
    statistics, are those of the first. It alone writes the run, evaluates validation data, shows
    progress and calls callbacks. What stops one stops all. Where one dies, the others end with an
    error: at once as a rule, or at the latest after the timeout of the process group.

    A pair must show the same parameters to Pyro in every process, and be on the device that the
    process group sends from: `torch.cuda.set_device` first, with NCCL.

    Every method is called by all of them, in the same order; alone, each does nothing more than
    its name says.

    Args:
        rank: the number of this process, from 0.
        size: how many there are.

    >>> alone = Group()
    >>> alone.share(torch.arange(3)), alone.is_first, alone.gathered("state")
    (tensor([0, 1, 2]), True, ['state'])
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes, shows and calls back."""
        return self.rank == 0

    def check_batch(self, batch_size: int, *, accumulate: int = 1) -> None:
        """Raise ValueError unless a batch can be split evenly among processes and parts."""
        parts = self.size * accumulate
        if batch_size % parts:
            raise ValueError(
                f"batch_size: expected a multiple of {parts}, the number of processes "
                f"({self.size}) times accumulate ({accumulate}), got {batch_size}"
            )

    def share(self, batch: Tensor) -> Tensor:
        """Return this process's share of a batch: all shares in order are the batch."""
        return batch.chunk(self.size)[self.rank] if self.size > 1 else batch

    @torch.no_grad()
    def average(self, tensor: Tensor) -> Tensor:
        """Return the mean over the processes, the same in all to the last bit."""
        if self.size == 1:
            return tensor
        total = tensor.to(_device(tensor), copy=True)
        dist.all_reduce(total)
        return total.div_(self.size).to(tensor.device)

    @torch.no_grad()
    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace gradients by their means over the processes, with one message per dtype.

        A parameter without a gradient here counts as zero if another process has one for it.
        """
        parameters = list(parameters)
        if self.size == 1 or not parameters:
            return
        has = [p.grad is not None for p in parameters]
        for dtype in dict.fromkeys(p.dtype for p in parameters):
            chosen = [n for n, p in enumerate(parameters) if p.dtype == dtype]
            pieces = [_gradient(parameters[n]).reshape(-1) for n in chosen]
            flags = pieces[0].new_tensor([float(has[n]) for n in chosen])
            *means, flags = self.average(torch.cat([*pieces, flags])).split(
                [*map(len, pieces), len(flags)]
            )
            anywhere = [True] * len(chosen) if all(has) else (flags > 0).tolist()
            for n, mean, used in zip(chosen, means, anywhere, strict=True):
                parameters[n].grad = mean.view_as(parameters[n]) if used else None

    @torch.no_grad()
    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Give tensors the values that they have in the first process, in place."""
        for tensor in tensors if self.size > 1 else ():
            sent = tensor.detach().to(_device(tensor), copy=True).contiguous()
            dist.broadcast(sent, src=0)
            tensor.copy_(sent)

    def largest(self, numbers: Sequence[float]) -> list[float]:
        """Return the largest of each number over the processes."""
        if self.size == 1:
            return list(numbers)
        found = torch.tensor(numbers, dtype=torch.float64, device=_device())
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return found.tolist()

    def gathered(self, value: T) -> list[T]:
        """Return the value of every process, in order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    @contextmanager
    def agreeing(self) -> Iterator[None]:
        """Do what sends no messages itself; where it fails in one process, it fails in all.

        Raises: what is raised here; OtherProcessError where it is raised elsewhere only.
        """
        if self.size == 1:
            yield
            return
        failure: Exception | None = None
        try:
            yield
        except Exception as error:
            failure = error
        found = self.gathered(failure and f"{type(failure).__name__}: {said(failure)}")
        if failure is not None:
            raise failure
        for rank, words in enumerate(found):
            if words is not None:
                raise OtherProcessError(f"process {rank} failed: {words}")

    def from_first(self, make: Callable[[], T]) -> T:
        """Return, in all processes, what `make` returns in the first, the only one to call it.

        Raises: what `make` raises, in the first; OtherProcessError with its message in the others.
        """
        if self.size == 1:
            return make()
        made: list[Any] = [None, None]
        failure: Exception | None = None
        if self.is_first:
            try:
                made[0] = make()
            except Exception as error:
                failure, made[1] = error, f"{type(error).__name__}: {said(error)}"
        dist.broadcast_object_list(made, src=0)
        if failure is not None:
            raise failure
        if made[1] is not None:
            raise OtherProcessError(f"the first process failed: {made[1]}")
        return made[0]

    def after_first(self, make: Callable[[], T]) -> T:
        """Return what `make` returns here, called when the first process has called it."""
        mine: list[T] = []
        self.from_first(lambda: mine.append(make()))
        return mine[0] if mine else make()


class Meetings:
    """What some process wishes, agreed on by all so often that it costs little.

    Args:
        group: of the processes.

    >>> Meetings(Group())(2, 0)
    (2, 0)
    """

    def __init__(self, group: Group) -> None:
        self.group = group
        self._interval = self._left = 1
        self._last = time.perf_counter()

    def __call__(self, *wishes: int) -> tuple[int, ...]:
        """Return the largest of each wish in any process; zeros while there is no meeting.

        To be called once per step. The first process says when to meet again: in `LISTEN_EVERY`
        seconds, by the time the last steps took.
        """
        if self.group.size == 1:
            return wishes
        self._left -= 1
        if self._left > 0:
            return (0,) * len(wishes)
        now = time.perf_counter()
        per_step = (now - self._last) / self._interval
        interval = min(max(round(LISTEN_EVERY / per_step), 1), MOST_STEPS)
        *agreed, longest = self.group.largest([*wishes, interval if self.group.is_first else 0])
        self._interval = self._left = round(longest)
        self._last = now
        return tuple(map(round, agreed))


def current_group() -> Group:
    """Return the processes of torch's process group, or this one alone where there is none."""
    if dist.is_available() and dist.is_initialized():
        return Group(dist.get_rank(), dist.get_world_size())
    return Group()


@contextmanager
def launched_group() -> Iterator[Group]:
    """Join the processes that `torchrun` started, if it started this one, and leave them at last.

    They talk by gloo, as training on CPUs does. A process group that is there already is used.

    >>> with launched_group() as group:
    ...     group.size
    1
    """
    joins = dist.is_available() and not dist.is_initialized() and _is_launched()
    if joins:
        dist.init_process_group("gloo")
    try:
        yield current_group()
    finally:
        if joins:
            dist.destroy_process_group()


def _is_launched() -> bool:
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _device(tensor: Tensor | None = None) -> torch.device:
    """Where messages must be: with the tensor, but for NCCL on a GPU and for gloo on a CPU."""
    if dist.get_backend() != dist.Backend.NCCL:
        return torch.device("cpu")
    if tensor is not None and tensor.device.type == "cuda":
        return tensor.device
    return torch.device("cuda", torch.cuda.current_device())
