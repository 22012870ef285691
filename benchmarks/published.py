"""Families without backpropagation on the nets of their papers, beside the figures that were published.

`python benchmarks/published.py OUT` makes the runs of CLAIMS that the record (benchmarks/published.jsonl)
does not have yet, as those of the board are made: one thread, CPU seconds, all training data, seed 1, the
test error after the last epoch. Settings are those of the source where it gives them, and nothing is tuned.
Choose with `--claims`; what is too slow for this processor is there all the same and waits. `--report` runs
nothing and writes docs/pages/published.md.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import board
from board_rows import BP, DATA, Data

RECORD = board.HERE / "published.jsonl"
CLOSE = 0.3
"""Points within which a figure counts as reproduced."""


@dataclass(frozen=True)
class Claim:
    """A published figure.

    Attributes:
        name: of the claim.
        data: of the board.
        net: of the source: hidden layers, their units, steps, what else was done.
        epochs: of the source.
        error: test error in % that was published; None where there is no number to be sure of.
        source: where the figure and the settings are from.
        ours: settings of a run on that net; empty where there cannot be one.
        differs: what that run has otherwise, or why there is none.
    """

    name: str
    data: str
    net: str
    epochs: int | None
    error: float | None
    source: str
    ours: str
    differs: str


ADAM = "Adam for RMSprop, ReLU for tanh"
CLAIMS = (
    Claim(
        "pc",
        "mnist",
        "3 × 128, GELU, cross-entropy, AdamW 3e-4, 5 steps of inference",
        25,
        1.89,
        "Pinchetti et al. 2025 (arXiv:2407.01163), PC-CE: the figure is from memory; net and settings from "
        "the repository pcx, examples/s4_1_discriminative_mode",
        "method=pc network.hidden=[128,128,128] pc.learning_rate=3e-4 pc.weight_decay=3.3e-3"
        " pc.inference_steps=5 pc.inference_rate=0.018 epochs=25",
        "ReLU for GELU, no momentum of inference, the last epoch's error for the best one's, pixels from 0 "
        "to 1 for −1 to 1",
    ),
    Claim(
        "dtp",
        "mnist",
        "7 × 240, tanh, RMSprop, 50,000 samples",
        100,
        1.94,
        "Lee et al. 2015 (arXiv:1412.7525): the figure is from memory; net and settings from the authors' "
        "repository dtp, conti_dtp.py",
        "method=dtp network.hidden=[240,240,240,240,240,240,240] dtp.batch_size=100 dtp.target_step=0.0033"
        " dtp.learning_rate=3e-4 epochs=10",
        f"{ADAM}, a tenth of the epochs, He for orthogonal starts, noise of 0.1 of the codes' size for 0.36; "
        "the target's step is theirs by a batch of 100, over which their loss is a mean. With a rate of 1e-3 "
        "it ends with a constant output (88.65) after one to three epochs, whatever the target's step",
    ),
    Claim(
        "dfa",
        "mnist",
        "2 × 800, tanh, RMSprop",
        300,
        1.70,
        "Nøkland 2016 (arXiv:1609.01596): figure, net and epochs are from memory; its abstract has 1.45 with "
        "dropout",
        "method=dfa network.hidden=[800,800] dfa.batch_size=64 epochs=10",
        f"{ADAM}, a thirtieth of the epochs",
    ),
    Claim(
        "monoforward",
        "mnist",
        "2 × 1000, ReLU, Adam 1.57e-3, 50,000 samples, layer after layer",
        14,
        1.85,
        "Spyra, Dzwinel 2025 (arXiv:2511.01061), an independent repetition: a run's log in their repository "
        "BeyondBackpropagation; a figure of Gong et al. themselves for MNIST is not at hand",
        "method=monoforward network.hidden=[1000,1000] monoforward.learning_rate=1.57e-3 epochs=14",
        "all layers at once, a cosine rate, 60,000 samples",
    ),
    Claim(
        "monoforward_fashion",
        "fashion_mnist",
        "2 × 1000, ReLU, Adam 3.87e-4, 54,000 samples, layer after layer",
        12,
        10.31,
        "as above",
        "method=monoforward network.hidden=[1000,1000] monoforward.learning_rate=3.87e-4 epochs=12",
        "all layers at once, a cosine rate, 60,000 samples",
    ),
    Claim(
        "localloss",
        "mnist",
        "3 × 1024, leaky ReLU, dropout 0.1, Adam 5e-4, pictures moved by up to 2 pixels",
        100,
        0.62,
        "Nøkland, Eidnes 2019 (arXiv:1901.06656), predsim: README of their repository local-loss",
        "method=localloss network.hidden=[1024,1024,1024] localloss.learning_rate=5e-4 data.augment.shift=2"
        " epochs=5",
        "a twentieth of the epochs, ReLU for leaky ReLU, no dropout, a cosine rate for steps of a quarter",
    ),
    Claim(
        "localloss_fashion",
        "fashion_mnist",
        "the same, pictures also flipped",
        100,
        8.54,
        "as above",
        "method=localloss network.hidden=[1024,1024,1024] localloss.learning_rate=5e-4 data.augment.shift=2"
        " data.augment.flip=true epochs=5",
        "as above",
    ),
    Claim(
        "admm",
        "mnist",
        "2 × 1000, ReLU, all samples at once",
        200,
        None,
        "Wang et al. 2019 (arXiv:1905.13611): shown as curves; net and rounds from the authors' repository "
        "dlADMM, main.py",
        "method=admm network.hidden=[1000,1000] admm.rho=0.01 epochs=20",
        "a tenth of the rounds, ρ = 0.01 (as on the board's small sets) for one that grows from 1e-6, the "
        "best length of steps for backtracking",
    ),
    Claim(
        "bcd",
        "mnist",
        "3 × 2048, ReLU, γ = ρ = 1, α = 5, all samples at once; 4.36 after 30 rounds",
        5,
        7.19,
        "Zeng et al. 2019 (arXiv:1803.00225): the printed rounds of bcd_dnn_mlp_mnist.ipynb in the "
        "repository BCD-for-DNNs-PyTorch, here after 5",
        "method=bcd network.hidden=[2048,2048,2048] bcd.gamma=1 bcd.rho=1 bcd.alpha=5 epochs=5",
        "He start for weights of 0.01 and biases of 0.1",
    ),
    Claim(
        "ff",
        "mnist",
        "4 × 2000, ReLU, the label of most goodness",
        60,
        1.36,
        "Hinton 2022 (arXiv:2212.13345); repeated in many texts at hand",
        "method=ff network.hidden=[2000,2000,2000,2000] ff.loss=threshold ff.learning_rate=1e-3 epochs=3",
        "a twentieth of the epochs, the label from a softmax of the last layer instead",
    ),
    Claim(
        "signsymmetry",
        "mnist",
        "convolutional, with batch normalisation",
        None,
        0.91,
        "Liao, Leibo, Poggio 2016 (arXiv:1510.05067): the figure as listed for it at paperswithcode.com",
        "",
        "there is no run: the method is for fully connected layers here",
    ),
)


def data_of(claim: Claim) -> Data:
    """Of the board."""
    return next(data for data in DATA if data.name == claim.data)


def job_of(claim: Claim) -> board.Job:
    """The run of a claim."""
    text = f"{BP} {data_of(claim).overrides} {claim.ours}"
    return board.Job(claim.data, claim.name, "published", text, 1)


def table(record: board.Record) -> list[str]:
    """Markdown: a line for each claim."""
    heads = ["claim", "data", "their net", "published, %", "ours, %", "distance", f"within {CLOSE:g}"]
    heads += ["epochs, theirs", "ours", "CPU s"]
    lines = [board._line(heads), "|---" * len(heads) + "|"]
    for claim in CLAIMS:
        done = record.done.get(job_of(claim)) if claim.ours else None
        known = None if done is None or done.failed or claim.error is None else done.error - claim.error
        cells = [
            f"`{claim.name}`",
            claim.data,
            claim.net,
            "no number" if claim.error is None else f"{claim.error:.2f}",
            board.MISSING if done is None else board._number(done.error),
            "" if known is None else f"{known:+.2f}",
            "" if known is None else "yes" if round(known, 2) <= CLOSE else "**no**",
            str(claim.epochs or ""),
            board.settings(claim.ours).get("epochs", ""),
            "" if done is None or done.failed else f"{done.seconds[-1]:.0f}",
        ]
        lines.append(board._line(cells))
    return lines


def page(record: board.Record) -> str:
    """The page of the documentation."""
    lines = [(board.HERE / "published.md").read_text(encoding="utf-8").rstrip(), "", *table(record)]
    lines += ["", "Where the figures are from, and what our runs have otherwise:", ""]
    lines += [f"- `{claim.name}`: {claim.source}. Ours: {claim.differs}." for claim in CLAIMS]
    lines += ["", "Our runs:", "", '```sh title="takes minutes to hours, and needs the data"']
    lines += [f"nmfdnn {job_of(claim).overrides} data.validation=0" for claim in CLAIMS if claim.ours]
    return "\n".join([*lines, "```"]) + "\n"


def main() -> None:
    """Run what is missing; or tabulate."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    names = [claim.name for claim in CLAIMS if claim.ours]
    parser.add_argument("out", type=Path, nargs="?", help="folder for the runs, outside the repository")
    parser.add_argument("--claims", nargs="+", choices=names, default=names)
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--report", action="store_true", help="run nothing: write the page")
    arguments = parser.parse_args()
    record = board.Record(arguments.record)
    if arguments.report:
        (board.PAGES / "published.md").write_text(page(record), encoding="utf-8")
        return
    if arguments.out is None:
        parser.error("a folder for the runs is needed")
    found = [(job_of(claim), data_of(claim)) for claim in CLAIMS if claim.name in arguments.claims]
    todo = [(job, data) for job, data in found if job not in record.done]
    if todo:
        board.make(record, todo, arguments.out.resolve(), 1)


if __name__ == "__main__":
    main()
