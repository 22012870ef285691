"""Predictions of a trained model for a file of samples, as a table. `nmfdnn-predict`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import files
from .records import MEASURES
from .text import one_line_errors, print_anything

if TYPE_CHECKING:
    import pandas
    from torch import Tensor

    from .model import Model

SHOWN = 12  # classes, at most, that are judged one by one


def table(model: Model, X: np.ndarray) -> pandas.DataFrame:
    """A row for each of the samples X (n × …), with its class and the scores of all classes, or its values.

    Scores are probabilities where the model is calibrated, else outputs.
    """
    return _table(model, model.outputs(X))


def _table(model: Model, outputs: Tensor) -> pandas.DataFrame:
    import pandas

    answers = model.targets.answers(outputs)
    columns = {"predicted": answers}
    if answers.ndim == 2:
        columns = {f"predicted_{name}": answers[:, i] for i, name in enumerate(model.targets.names)}
    return pandas.DataFrame({**columns, **model.targets.scores(outputs, model.temperature)})


def judgement(model: Model, outputs: Tensor, y: np.ndarray) -> str:
    """What the outputs (n × m) for samples with these labels (n, or n × m) are worth, in one line.

    Raises:
        DataError: the labels are not what the model predicts.
    """
    targets, labels = model.targets, model.targets.read(y)
    outputs, measure = outputs.cpu(), MEASURES[model.targets.measure]
    error = targets.error(targets.misses(outputs, labels), len(labels))
    parts = [f"{len(labels)} labelled samples, {measure.title} {measure.text(error)}"]
    for name, value in targets.measures(outputs, labels, model.temperature).items():
        if isinstance(value, float):
            parts.append(f"{name.replace('_', ' ')} {value:.4g}")
        elif len(value) <= SHOWN:
            parts.append(f"{name.replace('_', ' ')} {', '.join(f'{k} {v:.4g}' for k, v in value.items())}")
    return "; ".join(parts)


def main() -> None:
    """Entry point."""
    print_anything()
    parser = argparse.ArgumentParser(prog="nmfdnn-predict", description=__doc__)
    parser.add_argument("run", help="folder of a run, or its model.safetensors")
    parser.add_argument("file", help="samples: .npy, .npz (X, or X_test if there is no X), .csv or .parquet")
    parser.add_argument("-o", "--output", type=Path, help="a .csv file; default: print")
    parser.add_argument(
        "--label", help="a table's column of labels, if it has one without a usual name; several with commas"
    )
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    from .data.samples import read_samples  # after the help: PyTorch takes seconds to load
    from .model import load

    with one_line_errors(arguments.output):
        model = load(arguments.run, arguments.device)
        inputs, columns = model.network.layers[0].inputs, model.targets.columns
        names = model.preprocessing.names
        X, y = read_samples(arguments.file, inputs, arguments.label, columns, names)
        outputs = model.outputs(X)
        told = None if y is None else judgement(model, outputs, y)
        text = _table(model, outputs).to_csv(index_label="sample")
        if arguments.output is None:
            sys.stdout.write(text)
        else:
            files.replace_text(arguments.output, text)
    if told is not None:
        print(told, file=sys.stderr)


if __name__ == "__main__":
    main()
