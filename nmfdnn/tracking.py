"""TensorBoard: curves, pictures, configuration, hyper-parameters of a run. Nothing else knows TensorBoard."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

import torch
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams as hparams_summaries

from .data import Dataset
from .factorization import affine
from .figures import (
    confusion_figure,
    is_image,
    mistakes_figure,
    parts_figure,
    pixels,
    reconstruction_figure,
    weights_figure,
)
from .network import Network
from .records import Record
from .training import PretrainedLayer

log = logging.getLogger(__name__)

FOLDER = "tensorboard"
PRETRAINING = "pretraining/"
SAMPLES = 12  # reconstructed samples
MISTAKES = 40  # misclassified samples

Hyperparameter = str | int | float | bool | None


class Tracker:
    """Writes one run's events into `folder`/tensorboard; a context manager.

    A resumed run continues its curves: what was recorded after epoch `resumed_at` is replaced.
    """

    def __init__(self, folder: Path, resumed_at: int | None = None) -> None:
        self._open = ExitStack()
        self._folder = self._open.enter_context(_utf8(folder)) / FOLDER
        self._epoch = resumed_at or 0
        if resumed_at is None:
            self._writer = SummaryWriter(str(self._folder))
            return
        # A purge by epoch would also take the end of the pre-training curves, whose steps are alternations.
        curves = self._pretraining_curves()
        self._writer = SummaryWriter(str(self._folder), purge_step=resumed_at + 1)
        for tag, points in curves.items():
            for step, value, seconds in points:
                if step > resumed_at:
                    self._writer.add_scalar(tag, value, step, walltime=seconds)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        self._open.close()

    def start(self, config_text: str, dataset: Dataset, layers: Sequence[PretrainedLayer]) -> None:
        """Record what there is before the first epoch.

        Args:
            config_text: the resolved configuration, YAML.
            dataset: where its rows are images, the first layer's parts and reconstructions become pictures.
            layers: the pre-trained layers; may be empty.
        """
        self._writer.add_text("config/resolved", f"```yaml\n{config_text.rstrip()}\n```", 0)
        for number, layer in enumerate(layers, start=1):
            for alternation, error in enumerate(layer.reconstruction, start=1):
                self._writer.add_scalar(f"{PRETRAINING}reconstruction_layer_{number}", error, alternation)
        if layers and is_image(dataset.image_shape):
            self._picture("images/nmf_parts", lambda: parts_figure(layers[0].U, dataset.image_shape))
            X = dataset.test.X
            X = X[torch.linspace(0, len(X) - 1, min(SAMPLES, len(X)), device=X.device).long()]

            def reconstructions() -> Figure:
                fit = affine(X, layers[0].W).relu() @ layers[0].U
                return reconstruction_figure(X, fit, dataset.image_shape)

            self._picture("images/reconstructions", reconstructions)
        self._writer.flush()

    def epoch(self, record: Record) -> None:
        """Record the end of a whole epoch; it is on the disk when this returns."""
        values = {
            "error/train": record.train_error,
            "error/validation": record.validation_error,
            "error/test": record.test_error,
            "objective/train": record.objective,
            **{f"residual/layer_{i}": value for i, value in enumerate(record.residuals, start=1)},
            **{f"weight_norm/layer_{i}": value for i, value in enumerate(record.weight_norms, start=1)},
            "time/train_seconds": record.train_seconds,
            "optimisation/learning_rate": record.learning_rate,
        }
        for tag, value in values.items():
            if value is not None:
                self._writer.add_scalar(tag, value, int(record.epoch))
        self._epoch = int(record.epoch)
        self._writer.flush()

    def end(
        self,
        network: Network,
        dataset: Dataset,
        hparams: Mapping[str, Hyperparameter],
        metrics: dict[str, float],
    ) -> None:
        """Record the finished run.

        Args:
            network: the weights that are kept.
            dataset: its test part gives the confusion matrix and, where the rows are images, the mistakes.
            hparams: one row of the HParams tab. To compare runs with different hyper-parameters, give each
                run the same keys: None leaves a cell empty.
            metrics: final values beside it, shown as `hparam/NAME`.
        """
        labels = dataset.test.labels.cpu()
        predicted = network.predict(dataset.test.X).cpu()
        self._picture("images/confusion_matrix", lambda: confusion_figure(labels, predicted, dataset.classes))
        if is_image(dataset.image_shape):
            W = network.weights[0][: dataset.features]
            self._picture("images/first_layer_weights", lambda: weights_figure(W.T, dataset.image_shape))
            wrong = (predicted != labels).nonzero().flatten()
            if len(wrong):
                shown = wrong[:MISTAKES]
                pairs = [(dataset.classes[labels[i]], dataset.classes[predicted[i]]) for i in shown.tolist()]
                first = f"; the first {MISTAKES}" if len(wrong) > MISTAKES else ""
                title = (
                    f"{len(wrong)} of {len(labels)} test samples are misclassified{first}: true → predicted"
                )
                X = dataset.test.X[shown.to(dataset.test.X.device)]
                self._picture(
                    "images/misclassified", lambda: mistakes_figure(X, pairs, dataset.image_shape, title)
                )
        self._hparams(hparams, {f"hparam/{name}": value for name, value in metrics.items()})
        self._writer.flush()

    def _hparams(self, hparams: Mapping[str, Hyperparameter], metrics: dict[str, float]) -> None:
        """One run, one row: `SummaryWriter.add_hparams` would open a second run for the same."""
        # torch would turn True into 1.0.
        columns = {key: str(v).lower() if isinstance(v, bool) else v for key, v in hparams.items()}
        values = {key: v for key, v in columns.items() if v is not None}
        # TensorBoard takes the columns from whichever run it finds first, so each run announces all of them.
        announced = {key: "" if v is None else v for key, v in columns.items()}
        experiment, _, _ = hparams_summaries(announced, metrics)
        _, session_start, session_end = hparams_summaries(values, metrics)
        for summary in (experiment, session_start, session_end):
            self._writer._get_file_writer().add_summary(summary)
        for tag, value in metrics.items():
            self._writer.add_scalar(tag, value, self._epoch)

    def _picture(self, tag: str, draw: Callable[[], Figure]) -> None:
        try:
            picture = pixels(draw())
        except Exception as error:  # of whatever kind: no picture is worth a run
            log.warning("the picture %s is left out: %s: %s", tag, type(error).__name__, error)
            return
        self._writer.add_image(tag, picture, self._epoch, dataformats="HWC")

    def _pretraining_curves(self) -> dict[str, list[tuple[int, float, float]]]:
        """(step, value, wall time) of each pre-training curve that is on the disk."""
        events = EventAccumulator(str(self._folder), size_guidance={"scalars": 0}).Reload()
        return {
            tag: [(e.step, e.value, e.wall_time) for e in events.Scalars(tag)]
            for tag in events.Tags()["scalars"]
            if tag.startswith(PRETRAINING)
        }


@contextmanager
def _utf8(folder: Path) -> Iterator[Path]:
    """The folder under a name that TensorBoard can open: it takes all names for UTF-8."""
    if os.fsencode(folder) == str(folder).encode("utf-8", "replace"):
        yield folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield Path(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)
