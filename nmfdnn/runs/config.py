"""The typed schema of a run: every key, its type, its default and its range."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from ..data import DataConfig
from ..errors import ConfigError, require
from ..kernels import BACKENDS
from ..network import NetworkConfig
from ..training import (
    METHODS,
    AlternatingConfig,
    BackpropConfig,
    JacobiConfig,
    PretrainingConfig,
    SeidelConfig,
    SolverConfig,
)
from ..training.opponents import (
    ADMMConfig,
    BCDConfig,
    DFAConfig,
    DTPConfig,
    FFConfig,
    LocalLossConfig,
    MonoForwardConfig,
    PCConfig,
    SignSymmetryConfig,
)
from ..training.pretraining import DTYPES

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("highest", "high", "medium")
THREADS_PER_CPU = 4
EPOCHS = 10**9
"""More than any run can have; counters and rates stay exact up to there."""


@dataclass
class Config:
    """One run.

    Attributes:
        data: which data, see `nmfdnn.data`.
        experiment: name of the recipe, for the record.
        method: "nmf" (alternating factorizations, as published), "seidel" and "jacobi" (relaxed, layer after
            layer or all layers from one forward pass), "bp" (backpropagation), or another family, see
            `nmfdnn.training.opponents`.
        epochs: passes over the training data, in [0, 10⁹].
        records_per_epoch: evaluations in each epoch, at equal distances, at most one a mini-batch. Each
            gives a row of `metrics.csv` and a checkpoint; those at the end of an epoch go to TensorBoard.
        seed: of the split, the start and the order of the data, ≥ 0.
        device: "auto" (cuda where there is one), "cpu" or "cuda".
        dtype: "float32" or "float64".
        threads: CPU threads, at most four for each CPU of the machine; null leaves PyTorch's choice.
        kernels: element-wise backend, "reference" or "compiled".
        matmul_precision: of float32 products on CUDA: "highest" is full float32, the others allow TF32, BF16.
        patience: stop after so many epochs without a better validation error; null trains all epochs.
        resume: continue the run in `hydra.run.dir`.
        init_from: folder of a finished run, or its model file, of whatever method: training starts from its
            weights, with its preprocessing, in the place of `network.start`; null starts afresh.
    """

    data: DataConfig
    experiment: str = "none"
    method: str = "nmf"
    epochs: int = 10
    records_per_epoch: int = 1
    seed: int = 1
    device: str = "auto"
    dtype: str = "float32"
    threads: int | None = None
    kernels: str = "reference"
    matmul_precision: str = "highest"
    patience: int | None = None
    resume: bool = False
    init_from: str | None = None
    network: NetworkConfig = field(default_factory=NetworkConfig)
    pretraining: PretrainingConfig = field(default_factory=PretrainingConfig)
    solver: SolverConfig = field(default_factory=SolverConfig)
    nmf: AlternatingConfig = field(default_factory=AlternatingConfig)
    jacobi: JacobiConfig = field(default_factory=JacobiConfig)
    seidel: SeidelConfig = field(default_factory=SeidelConfig)
    bp: BackpropConfig = field(default_factory=BackpropConfig)
    dfa: DFAConfig = field(default_factory=DFAConfig)
    signsymmetry: SignSymmetryConfig = field(default_factory=SignSymmetryConfig)
    localloss: LocalLossConfig = field(default_factory=LocalLossConfig)
    monoforward: MonoForwardConfig = field(default_factory=MonoForwardConfig)
    dtp: DTPConfig = field(default_factory=DTPConfig)
    pc: PCConfig = field(default_factory=PCConfig)
    bcd: BCDConfig = field(default_factory=BCDConfig)
    admm: ADMMConfig = field(default_factory=ADMMConfig)
    ff: FFConfig = field(default_factory=FFConfig)

    def __post_init__(self) -> None:
        for key, choices in (
            ("method", METHODS),
            ("device", DEVICES),
            ("dtype", DTYPES),
            ("kernels", BACKENDS),
            ("matmul_precision", PRECISIONS),
        ):
            require(getattr(self, key) in choices, key, f"one of {', '.join(choices)}", getattr(self, key))
        require(0 <= self.epochs <= EPOCHS, "epochs", "≥ 0 and at most 10⁹", self.epochs)
        require(self.records_per_epoch >= 1, "records_per_epoch", "≥ 1", self.records_per_epoch)
        require(0 <= self.seed < 2**63, "seed", "in [0, 2^63)", self.seed)
        cpus = os.cpu_count() or 1
        require(
            self.threads is None or 1 <= self.threads <= THREADS_PER_CPU * cpus,
            "threads",
            f"null or ≥ 1 and at most {THREADS_PER_CPU * cpus}, {THREADS_PER_CPU} for each of {cpus} CPUs",
            self.threads,
        )
        require(self.patience is None or self.patience >= 1, "patience", "null or ≥ 1", self.patience)
        if self.patience is not None and self.data.validation == 0:
            raise ConfigError(
                "patience needs a validation part: set data.validation above 0, or patience=null"
            )
        for key, value in self.flat().items():
            require(not isinstance(value, float) or math.isfinite(value), key, "finite", value)

    def flat(self) -> dict[str, Any]:
        """Every value under its full key, as nmf.omega."""
        return dict(_flat(asdict(self)))

    def torch_device(self) -> torch.device:
        """The device to run on.

        Raises:
            ConfigError: device=cuda where there is none.
        """
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError(
                "device=cuda, but PyTorch finds no CUDA device here: use device=cpu or device=auto"
            )
        cuda = self.device != "cpu" and torch.cuda.is_available()
        return torch.device("cuda" if cuda else "cpu")

    def fit_batches(self, samples: int, overrides: Sequence[str]) -> Config:
        """The same configuration with no batch larger than the data.

        A recipe's batch size is lowered to the number of training samples, so that every recipe runs on every
        data set; a size that was asked for explicitly, in `overrides`, is refused.
        """
        asked = {override.partition("=")[0].lstrip("+") for override in overrides}
        parts = {}
        for name in METHODS:
            part = getattr(self, name)
            if not hasattr(part, "batch_size"):  # it takes all samples at once
                continue
            key = f"{name}.batch_size"
            if part.batch_size > samples:
                if key in asked and self.method == name:
                    require(False, key, f"at most the {samples} training samples", part.batch_size)
                parts[name] = replace(part, batch_size=samples)
        return replace(self, **parts)


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
