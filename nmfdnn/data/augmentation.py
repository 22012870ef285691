"""Training pictures moved and mirrored at random, anew in every epoch: more samples of the same classes.

Which of its variants stands for a sample is drawn with the generator of the order of the samples, so that an
epoch is the same however its samples are read, over any number of ranks, and after an interruption. What is
taken outside of epochs, as statistics and starts, sees one draw that is always the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import ConfigError, require
from ..source import Batch, Source
from ..targets import Targets


@dataclass
class AugmentConfig:
    """Variants of training pictures.

    Attributes:
        shift: pixels, at most, by which a picture is moved along each of its sides; zeros come in.
        flip: whether half of the pictures, in each epoch others, are mirrored, left for right.
    """

    shift: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        require(self.shift >= 0, "data.augment.shift", "≥ 0", self.shift)


@dataclass(frozen=True, eq=False)
class Augmented:
    """The samples of another `source` (n × p), pictures of this `shape`, each as the variant `drawn` for it.

    `shape` is height × width or channels × height × width; `drawn` (n, int64) are numbers of variants.
    """

    source: Source
    config: AugmentConfig
    shape: tuple[int, ...]
    drawn: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self._draw(torch.Generator().manual_seed(0))

    @property
    def features(self) -> int:
        return self.source.features

    @property
    def labels(self) -> Tensor:
        return self.source.labels

    @property
    def targets(self) -> Targets:
        return self.source.targets

    @property
    def weights(self) -> Tensor | None:
        return self.source.weights

    @property
    def device(self) -> torch.device:
        return self.source.device

    @property
    def dtype(self) -> torch.dtype:
        return self.source.dtype

    @property
    def block(self) -> int:
        return self.source.block

    @property
    def window(self) -> int:
        return self.source.window

    def __len__(self) -> int:
        return len(self.source)

    def epoch(self, generator: torch.Generator) -> Augmented:
        new = replace(self, source=self.source.epoch(generator))
        new._draw(generator)
        return new

    def take(self, rows: Tensor) -> Batch:
        return self._changed(self.source.take(rows), self.drawn[rows])

    def batches(self, order: Sequence[Tensor]) -> Iterator[Batch]:
        for rows, batch in zip(order, self.source.batches(order), strict=True):
            yield self._changed(batch, self.drawn[rows])

    def passes(self) -> Iterator[Batch]:
        seen = 0
        for batch in self.source.passes():
            yield self._changed(batch, self.drawn[seen : seen + batch.samples])
            seen += batch.samples

    def sample(self, count: int) -> Tensor:
        return self.source.sample(count)

    def _draw(self, generator: torch.Generator) -> None:
        variants = (2 * self.config.shift + 1) ** 2 * (1 + self.config.flip)
        drawn = torch.randint(variants, (len(self),), generator=generator).to(self.device)
        object.__setattr__(self, "drawn", drawn)

    def _changed(self, batch: Batch, drawn: Tensor) -> Batch:
        drawn = drawn if batch.mine is None else drawn[batch.mine]
        return batch._replace(X=self._variants(batch.X, drawn))

    def _variants(self, X: Tensor, drawn: Tensor) -> Tensor:
        """Samples X (n × p) as their variants `drawn` (n)."""
        shift, (height, width) = self.config.shift, self.shape[-2:]
        side = 2 * shift + 1
        down, right, mirrored = drawn % side, drawn // side % side, drawn // side**2 == 1
        columns = torch.arange(width, device=X.device).expand(len(X), width)
        columns = torch.where(mirrored[:, None], width - 1 - columns, columns) + right[:, None]
        rows = torch.arange(height, device=X.device) + down[:, None]
        pictures = functional.pad(X.view(len(X), -1, height, width), (shift,) * 4)
        samples = torch.arange(len(X), device=X.device)[:, None, None]
        found = pictures.permute(0, 2, 3, 1)[samples, rows[:, :, None], columns[:, None, :]]
        return found.permute(0, 3, 1, 2).reshape(X.shape)


def augmented(source: Source, config: AugmentConfig, shape: tuple[int, ...] | None) -> Source:
    """What training sees of a source of samples, pictures of this `shape`; None for plain vectors.

    Raises:
        ConfigError: samples are no pictures, or would be moved out of sight.
    """
    if config == AugmentConfig():
        return source
    if shape is None:
        raise ConfigError(
            f"data.augment needs pictures, but a sample is a row of {source.features} numbers: leave "
            "data.augment.shift=0 and data.augment.flip=false, or store X as n × height × width (× channels)"
        )
    below = f"less than the side of the pictures, {min(shape[-2:])}"
    require(config.shift < min(shape[-2:]), "data.augment.shift", below, config.shift)
    return Augmented(source, config, shape)
