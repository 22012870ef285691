"""What the board compares: rows (methods with the settings that are tried for them) and data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

Held = Callable[[list[int], int, int], int]
"""Numbers that wait for an update, for widths k₀ … k_d, samples in a batch and samples in all."""


def all_layers(widths: list[int], batch: int, samples: int) -> int:
    """The inputs of all layers, until the output's error has come to them."""
    return batch * sum(widths[:-1])


def one_layer(widths: list[int], batch: int, samples: int) -> int:
    """Inputs and codes of one layer, which moves before the next one is entered."""
    return batch * max(k + m for k, m in pairwise(widths))


def two_each(widths: list[int], batch: int, samples: int) -> int:
    """The same as `all_layers` and, for each code, what it is to become: targets, latents or residuals."""
    return batch * (widths[0] + 2 * sum(widths[1:-1]))


def all_samples(widths: list[int], batch: int, samples: int) -> int:
    """The inputs, and of every layer codes and products, of all samples."""
    return samples * (widths[0] + 2 * sum(widths[1:]))


SMALL_EPOCHS = 20
"""Of every row on few data, in tuning and in final runs."""


@dataclass(frozen=True)
class Row:
    """A method.

    Attributes:
        name: in tables.
        base: its settings, KEY=VALUE.
        small: what is tried on few data, beside `base`: as many for every row.
        large: what is tried on large data.
        epochs: on large data.
        batch: samples in a mini-batch on small data, on large data; 0 for all.
        held: what is kept from the forward pass to the update.
    """

    name: str
    base: str
    small: tuple[str, ...]
    large: tuple[str, ...]
    epochs: int
    batch: tuple[int, int]
    held: Held = all_layers

    def epochs_on(self, large: bool) -> int:
        """Those of its own on large data, of every row the same on few."""
        return self.epochs if large else SMALL_EPOCHS


@dataclass(frozen=True)
class Data:
    """A data set.

    Attributes:
        name: in tables.
        overrides: that choose it.
        shape: features, training samples, classes.
        large: whether rows have their settings and epochs for large data.
        errors: test errors to which seconds are counted, %.
        table: in benchmarks/tables.py, which splits it.
    """

    name: str
    overrides: str
    shape: tuple[int, int, int]
    large: bool = False
    errors: tuple[float, ...] = ()
    table: str = ""


VALIDATION = {False: 0.25, True: 0.1}
"""The part of the training data that is held out for tuning, of few and of large data."""

TRICKS = "bp.averaging=0.98"
BP = "experiment=best_bp"

TWO_RATES = ("learning_rate=1e-3", "learning_rate=3e-3")
RATES = (
    "learning_rate=3e-3",
    "learning_rate=1e-3",
    "learning_rate=1e-2",
    "learning_rate=3e-3 weight_decay=0.03",
)
"""What is tried for families that have no parameter of their own to try."""


def bp(name: str, base: str, small: tuple[str, ...], large: tuple[str, ...], epochs: int, batch: int) -> Row:
    """Backpropagation with dropout 0.3, a cosine rate and one of its optimizers."""
    own = f"{BP} bp.optimizer={name} bp.batch_size={batch} {base}".strip()
    return Row(name, own, small, large, epochs, (batch, batch))


def family(
    name: str, small: tuple[str, ...], large: tuple[str, ...], epochs: int = 10, held: Held = all_layers
) -> Row:
    """One of the families without backpropagation, by Adam's steps with a cosine rate."""
    own = tuple(tuple(_prefixed(name, text) for text in texts) for texts in (small, large))
    return Row(name, f"{BP} method={name}", own[0], own[1], epochs, (128, 128), held)


def _prefixed(name: str, text: str) -> str:
    return " ".join(f"{name}.{part}" for part in text.split())


ROWS = (
    Row(
        "jacobi",
        "experiment=best",
        ("", "jacobi.batch_size=100", "jacobi.input_ridge=0.1", "jacobi.input_ridge=1"),
        ("", "jacobi.damping=1"),
        6,
        (250, 250),
    ),
    Row(
        "seidel",
        "experiment=best method=seidel",
        ("", "seidel.batch_size=100", "seidel.input_ridge=0.1", "seidel.input_ridge=1"),
        ("", "seidel.damping=1"),
        6,
        (250, 250),
    ),
    Row(
        "nmf",
        "experiment=fashion_mnist method=nmf solver.method=svd solver.hidden_delta=1e-14"
        " nmf.output_iterations=3 nmf.weight_ridge=4e-4 nmf.averaging=0.9",
        (
            "nmf.batch_size=1000 nmf.weight_ridge=1e-2",
            "nmf.batch_size=1000",
            "nmf.weight_ridge=1e-2",
            "nmf.batch_size=1000 nmf.weight_ridge=1e-2 nmf.weight_steps=3",
        ),
        ("", "nmf.weight_ridge=1e-3"),
        10,
        (1000, 5000),
    ),
    bp(
        "adam",
        TRICKS,
        (
            "bp.learning_rate=1e-3 bp.whiten=true",
            "bp.learning_rate=3e-3 bp.whiten=false",
            "bp.learning_rate=1e-3 bp.whiten=false",
            "bp.learning_rate=3e-3 bp.whiten=false bp.label_smoothing=0.1",
        ),
        (
            "bp.learning_rate=1e-3 bp.whiten=true bp.label_smoothing=0.1",
            "bp.learning_rate=1e-3 bp.label_smoothing=0.1",
        ),
        16,
        128,
    ),
    bp(
        "sgd",
        TRICKS,
        (
            "bp.learning_rate=0.03 bp.whiten=true",
            "bp.learning_rate=0.1 bp.whiten=true",
            "bp.learning_rate=0.1",
            "bp.learning_rate=0.3",
        ),
        ("bp.learning_rate=0.03 bp.whiten=true", "bp.learning_rate=0.1"),
        16,
        128,
    ),
    bp(
        "muon",
        TRICKS,
        (
            "bp.learning_rate=1e-2",
            "bp.learning_rate=3e-3",
            "bp.learning_rate=3e-2",
            "bp.learning_rate=1e-2 bp.label_smoothing=0.1",
        ),
        ("bp.learning_rate=3e-3 bp.batch_size=500", "bp.learning_rate=1e-2 bp.batch_size=500"),
        8,
        250,
    ),
    bp(
        "soap",
        f"{TRICKS} bp.gram_every=30",
        (
            "bp.learning_rate=1e-2",
            "bp.learning_rate=3e-3",
            "bp.learning_rate=3e-2",
            "bp.learning_rate=1e-2 bp.label_smoothing=0.1",
        ),
        ("bp.learning_rate=1e-3", "bp.learning_rate=3e-3"),
        8,
        250,
    ),
    bp(
        "shampoo",
        f"{TRICKS} bp.gram_every=30 bp.momentum=0",
        (
            "bp.learning_rate=0.3",
            "bp.learning_rate=0.1",
            "bp.learning_rate=1",
            "bp.learning_rate=0.3 bp.label_smoothing=0.1",
        ),
        ("bp.learning_rate=0.3", "bp.learning_rate=0.1"),
        8,
        250,
    ),
    bp(
        "foof",
        TRICKS,
        (
            "bp.learning_rate=0.1 bp.loss=latent bp.momentum=0 bp.dropout=0",
            "bp.learning_rate=0.2 bp.loss=latent bp.momentum=0 bp.dropout=0",
            "bp.learning_rate=0.1",
            "bp.learning_rate=0.03",
        ),
        (
            "bp.learning_rate=0.3 bp.loss=latent bp.momentum=0 bp.dropout=0",
            "bp.learning_rate=0.1",
        ),
        6,
        250,
    ),
    bp(
        "kfac",
        TRICKS,
        (
            "bp.learning_rate=0.1",
            "bp.learning_rate=0.03",
            "bp.learning_rate=0.01",
            "bp.learning_rate=0.1 bp.momentum=0",
        ),
        ("bp.learning_rate=0.01", "bp.learning_rate=0.1 bp.momentum=0"),
        6,
        250,
    ),
    bp(
        "isaac",
        TRICKS,
        (
            "bp.learning_rate=1 bp.damping=0.5",
            "bp.learning_rate=0.3 bp.damping=0.5",
            "bp.learning_rate=3 bp.damping=0.5",
            "bp.learning_rate=1 bp.damping=2",
        ),
        ("bp.learning_rate=0.3 bp.damping=0.5", "bp.learning_rate=1 bp.damping=0.5"),
        8,
        128,
    ),
    family(
        "signsymmetry",
        RATES,
        TWO_RATES,
    ),
    family(
        "dfa",
        RATES,
        TWO_RATES,
    ),
    family(
        "localloss",
        (
            "learning_rate=3e-3",
            "learning_rate=1e-3",
            "learning_rate=1e-2",
            "learning_rate=3e-3 similarity=0.5",
        ),
        TWO_RATES,
        held=one_layer,
    ),
    family(
        "monoforward",
        RATES,
        TWO_RATES,
        held=one_layer,
    ),
    family(
        "dtp",
        (
            "learning_rate=1e-3",
            "learning_rate=3e-4",
            "learning_rate=3e-3",
            "learning_rate=1e-3 target_step=1",
        ),
        ("learning_rate=1e-3", "learning_rate=3e-4"),
        held=two_each,
    ),
    family(
        "pc",
        (
            "learning_rate=3e-3",
            "learning_rate=1e-3",
            "learning_rate=1e-2",
            "learning_rate=3e-3 inference_rate=0.5",
        ),
        TWO_RATES,
        held=two_each,
    ),
    Row(
        "bcd",
        f"{BP} method=bcd",
        ("bcd.rho=0.1", "bcd.rho=0.03", "bcd.rho=0.3", "bcd.rho=0.1 bcd.gamma=0.1"),
        ("bcd.rho=0.1", "bcd.rho=0.1 bcd.gamma=0.1"),
        20,
        (0, 0),
        all_samples,
    ),
    Row(
        "admm",
        f"{BP} method=admm",
        ("admm.rho=0.1", "admm.rho=0.01", "admm.rho=0.1 admm.nu=0.1", "admm.rho=0.01 admm.nu=0.1"),
        ("admm.rho=0.1", "admm.rho=0.01 admm.nu=0.1"),
        20,
        (0, 0),
        all_samples,
    ),
    family(
        "ff",
        ("learning_rate=3e-3", "learning_rate=1e-3", "learning_rate=1e-2", "learning_rate=3e-3 sharpness=1"),
        TWO_RATES,
        20,
        one_layer,
    ),
)

DATA = (
    Data("digits", "data=digits", (64, 1437, 10), errors=(4, 2)),
    Data("mnist_5k", "data=mnist_5k", (784, 4000, 10), errors=(8, 5)),
    Data("breast_cancer", "data=arrays", (30, 455, 2), table="breast_cancer"),
    Data("made", "data=arrays", (54, 2400, 7), table="made"),
    Data("fashion_mnist", "data=fashion_mnist", (784, 60000, 10), large=True, errors=(12, 11, 10)),
    Data("mnist", "data=mnist", (784, 60000, 10), large=True, errors=(3, 2)),
    Data("cifar10", "data=arrays", (3072, 50000, 10), large=True, errors=(50, 45)),
)
