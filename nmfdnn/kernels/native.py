"""The C source of coordinate descent as a function: compiled at first use by the system's compiler.

Measured on one problem (rank 100, 5,000 columns, 8 sweeps, one thread): this 9 ms after a build of 0.2 s;
numba 26 ms after 6 s; plain tensors 76 ms; `torch.compile` unrolls the coordinates and did not end in 100 s;
an extension against PyTorch's headers takes 34 s to build. C and ctypes also outlive their versions. The team
of threads is PyTorch's own, because both libraries ask for the same OpenMP runtime.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

FLAGS = ("-O3", "-march=native", "-shared", "-fPIC")
THREADS = "-fopenmp"
"""What makes the strips parallel; a compiler without it, as Apple's, ignores the directives."""

SOURCE = Path(__file__).with_name("coordinates.c")
PARALLEL = 4e6
"""Multiplications from which a second thread gains: some 50 μs of work."""


@cache
def descend(dtype: torch.dtype) -> Callable[[Tensor, Tensor, Tensor, int], None] | None:
    """`coordinates.plain` for contiguous tensors of `dtype` on the CPU, or None, with one warning."""
    try:
        function = _built("float" if dtype == torch.float32 else "double")
    except (OSError, subprocess.SubprocessError) as error:
        warnings.warn(
            f"coordinate descent runs in plain tensors, several times slower ({type(error).__name__}): "
            "install a C compiler (gcc or clang) or name one in the variable CC",
            RuntimeWarning,
            stacklevel=3,
        )
        return None

    def call(X: Tensor, C: Tensor, G: Tensor, sweeps: int) -> None:
        k, n = X.shape
        threads = torch.get_num_threads() if n * k * k * sweeps >= PARALLEL else 1
        if function(X.data_ptr(), C.data_ptr(), G.data_ptr(), k, n, sweeps, G.ndim == 3, threads):
            raise MemoryError(f"no memory for {threads} strips of {8 * k} vectors")

    return call


def _built(real: str) -> Callable[..., int]:
    """The function for float or double.

    Raises:
        OSError: there is no compiler, or what it made cannot be loaded.
        CalledProcessError: the compiler does not take the source.
    """
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "coordinates.so"
        compiler = os.environ.get("CC", "cc").split()
        command = [*compiler, *FLAGS, f"-DREAL={real}", str(SOURCE), "-o", str(library)]
        try:
            subprocess.run([*command, THREADS], check=True, capture_output=True, timeout=120)
        except subprocess.CalledProcessError:
            subprocess.run(command, check=True, capture_output=True, timeout=120)
        function = ctypes.CDLL(str(library)).descend  # stays loaded when the file is gone
    function.argtypes = [*[ctypes.c_void_p] * 3, *[ctypes.c_long] * 3, *[ctypes.c_int] * 2]
    function.restype = ctypes.c_int
    return function
