"""Extrapolation with restart: how far beyond its end a step goes, whether it is taken (Ang & Gillis 2019)."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from .inputs import Pair

GROWTH, CEILING_GROWTH, BACKOFF = 1.05, 1.01, 1.5
"""Of β, and of its ceiling, after a step that was taken; what β is divided by else."""


class Momentum:
    """The weight β of the last move, which is added once more to each factor; it starts at `start`.

    A step that raises the objective is not taken; the next one starts from the last that was, without
    extrapolation, and is taken in any case, because where each half of it is a descent only rounding can have
    raised the objective. Nothing here waits for the device: on the CPU everything is a number, elsewhere a
    0-d tensor, float64.
    """

    def __init__(self, like: Tensor, start: float = 0.5) -> None:
        self.host = on_host(like)

        def number(value: float) -> Any:
            return value if self.host else torch.tensor(value, dtype=torch.float64, device=like.device)

        self.beta, self.next, self.ceiling, self.last_good = (number(v) for v in (0.0, start, 1.0, start))
        self.value = number(float("inf"))

    def beyond(self, new: Tensor, old: Tensor) -> Tensor:
        """New + β(new − old)."""
        weight = 1 + self.beta
        return old.lerp(new, weight if self.host else weight.to(new.dtype))

    def judge(self, value: Tensor) -> Any:
        """Whether a step that led to this objective (0-d) is taken: a bool, or 0-d; β for the next one."""
        found = float(value) if self.host else value
        plain = self.beta == 0
        keep = (found <= self.value) | plain
        grown = either(self.ceiling < GROWTH * self.beta, self.ceiling, GROWTH * self.beta)
        ceiling = either(CEILING_GROWTH * self.ceiling > 1, 1.0, CEILING_GROWTH * self.ceiling)
        last = self.beta
        self.next = either(keep, self.next, last / BACKOFF)
        self.ceiling = either(keep, either(plain, self.ceiling, ceiling), self.last_good)
        self.last_good = either(keep & (last != 0), last, self.last_good)
        self.beta = either(keep, either(plain, self.next, grown), 0.0)
        self.value = either(keep, found, self.value)
        return keep


def on_host(like: Tensor) -> bool:
    """Whether numbers of tensors like this can be read without waiting: a step of small matrices is twice as
    fast if they are.
    """
    return like.device.type == "cpu"


def either(keep: Any, new: Any, old: Any) -> Any:
    """`new` where `keep`, else `old`: numbers, or 0-d tensors."""
    return (new if keep else old) if isinstance(keep, bool) else torch.where(keep, new, old)


def chosen(keep: Any, new: tuple[Tensor, ...], old: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """`new` where `keep` (a bool, or 0-d), else `old`, tensor by tensor."""
    if isinstance(keep, bool):
        return new if keep else old
    return tuple(torch.where(keep, a, b) for a, b in zip(new, old, strict=True))


class Descent(Protocol):
    """A step that does not raise an objective from where extrapolation has not led."""

    def end(self, pair: Pair, plain: Tensor) -> Pair:
        """Where the step from this pair ends; `plain` (0-d, bool): the pair is the last one taken."""

    def value(self, pair: Pair) -> Tensor:
        """The objective; 0-d, float64."""


class Extrapolated:
    """Steps of a descent, each carried on along its move, where that lowers the objective.

    A new object for each run: it remembers the move.
    """

    def __init__(
        self, like: Tensor, descent: Descent, nonnegative: tuple[bool, bool], start: float = 0.5
    ) -> None:
        """Of (Z, W) those that are `nonnegative` are projected; `like` has their type and device."""
        self.descent, self.nonnegative = descent, nonnegative
        self.momentum = Momentum(like, start)
        self.taken: tuple[Tensor, ...] = ()
        self.beyond: tuple[Tensor, ...] = ()

    def __call__(self, pair: Pair) -> Pair:
        """The next pair taken, which is the last one again where the move had gone too far."""
        if not self.taken:
            self.taken = self.beyond = tuple(pair)
        end = self.descent.end(Pair(*self.beyond), self.momentum.beta == 0)
        keep = self.momentum.judge(self.descent.value(end))
        moved = tuple(map(self.momentum.beyond, end, self.taken))
        for part, nonnegative in zip(moved, self.nonnegative, strict=True):
            if nonnegative:
                part.clamp_min_(0)
        self.beyond = chosen(keep, moved, self.taken)
        self.taken = chosen(keep, tuple(end), self.taken)
        return Pair(*self.taken)

    def value(self) -> Any:
        """The objective at the pair taken, which the driver need not find again; a number, or 0-d."""
        return self.momentum.value
