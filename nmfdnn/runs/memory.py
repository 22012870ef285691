"""Memory: what a run needs at least, what there is, and what it took at most."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ..errors import ConfigError
from ..network import Layer, first_at_once, rows_at_once
from ..training import METHODS, RelaxationConfig
from ..training.common import FIRST_ROWS
from .config import Config

log = logging.getLogger(__name__)


def require_memory(config: Config, layers: Sequence[Layer], samples: int, device: torch.device) -> None:
    """Refuse a network that cannot fit, before anything of it is allocated.

    Args:
        config: the run.
        layers: of the network.
        samples: in the training part.
        device: where it is to be trained.

    Raises:
        ConfigError: it needs more than there is; with its size.
    """
    needed, available = needed_bytes(config, layers, samples), available_bytes(device)
    if available is not None and needed > available:
        patches = any(layer.positions > 1 for layer in layers)
        raise ConfigError(
            f"network.hidden={config.network.hidden}{' behind convolutions' * patches} needs at least "
            f"{_gigabytes(needed)} of memory, for {parameters(layers, config.network.bias):,} weights and "
            f"what the training keeps beside them; {_gigabytes(available)} are free on {device}: choose "
            f"narrower layers{', fewer channels, larger strides or pools, smaller batches' * patches}"
        )


def parameters(layers: Sequence[Layer], bias: bool) -> int:
    """Number of weights and biases of a network."""
    return sum((layer.fan_in + bias) * layer.units for layer in layers)


def needed_bytes(config: Config, layers: Sequence[Layer], samples: int) -> int:
    """A lower bound: copies of the weights, Gram matrices, codes of an evaluation or rows of a batch.

    Or, before there are any Gram matrices, codes of the first samples and their squares.
    """
    spectral = config.solver.method == "svd"  # of the codes themselves, n × k
    rows = [layer.fan_in for layer in layers]
    relaxed = isinstance(getattr(config, config.method), RelaxationConfig)
    if relaxed:
        grams = 3 * sum(k**2 for k in rows)  # each beside its inverse and a factor
    elif config.method == "nmf" and not spectral:
        grams = 2 * max(k**2 for k in rows[1:])  # one layer at a time
    else:
        grams = 0
    widths = [layer.outputs for layer in layers]
    codes = rows_at_once(samples, max(widths)) * sum(widths)
    if relaxed or config.method == "nmf":  # statistics and least squares need the rows themselves
        batch = min(samples, getattr(config, config.method).batch_size)
        codes = max(codes, batch * max(layer.positions * layer.fan_in for layer in layers[1:]))
    weights, size = parameters(layers, config.network.bias), getattr(torch, config.dtype).itemsize
    needed = (METHODS[config.method].copies * weights + grams + codes) * size
    if relaxed or config.method == "nmf":  # 16 bytes: codes, squares, and of float32 a copy in float64
        first = first_at_once(layers, min(samples, FIRST_ROWS))
        needed = max(needed, weights * size + 16 * first * max(widths[:-1]))
    return needed


def available_bytes(device: torch.device) -> int | None:
    """Free memory of the device; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kilobytes = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}
        free = 1024 * (kilobytes["MemAvailable"] + kilobytes["SwapFree"])
    except (OSError, KeyError, ValueError):
        return None
    try:
        return min(
            free, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
        )  # a container's own limit
    except (OSError, ValueError):
        return free


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory of this run in MB: allocated on CUDA, on the CPU resident in the process; 0 if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    except (OSError, StopIteration):
        if sys.platform == "win32":
            return 0.0
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def reset_peak_memory(device: torch.device) -> None:
    """Restart the high-water mark, so that each job of a sweep reports its own (CUDA and Linux only)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        log.debug("the peak memory covers the whole process: /proc/self/clear_refs cannot be written")


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size < 10**24 else f"more than {10**15:,} GB"
