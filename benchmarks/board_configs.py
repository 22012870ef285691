"""The board's rows as configurations: what was chosen as an experiment, what was tried as a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from board_rows import VALIDATION, Row

CONFIGS = Path(__file__).parents[1] / "configs"
EXPERIMENTS = CONFIGS / "experiment" / "board"
SWEEPS = CONFIGS / "search" / "board"
SWEPT = {False: "mnist_5k", True: "fashion_mnist"}
"""What a sweep trains on unless the command says otherwise, few and large data."""


def settings(text: str) -> dict[str, str]:
    """Overrides by their keys, the last of each."""
    return dict(part.split("=", 1) for part in text.split())


def experiment(name: str, overrides: str, about: str) -> str:
    """The file of an experiment that has these overrides."""
    own = settings(overrides)
    base, data = own.pop("experiment"), own.pop("data")
    sections: dict[str, list[str]] = {}
    for key, value in own.items():
        section, _, last = key.rpartition(".")
        sections.setdefault(section, []).append(f"{'  ' if section else ''}{last}: {value}")
    lines = ["# @package _global_", *(f"# {line}" for line in about.splitlines()), "defaults:"]
    lines += [f"  - /experiment/{base}", f"  - override /data: {data}", "  - _self_"]
    lines += [f"experiment: board_{name}", *sections.pop("", [])]
    for section, found in sections.items():
        lines += [f"{section}:", *found]
    return "\n".join(lines) + "\n"


def sweep(row: Row, large: bool) -> str:
    """The file of a sweep over what is tried for a row: one choice among several keys at once."""
    tried = [settings(text) for text in (row.large if large else row.small)]
    (section,) = {key.partition(".")[0] for one in tried for key in one}
    choices = [
        "{" + ",".join(f"{key.partition('.')[2]}:{value}" for key, value in one.items()) + "}"
        for one in tried
    ]
    fixed: Mapping[str, object] = {
        **settings(row.base),
        "data": SWEPT[large],
        "data.validation": VALIDATION[large],
        "epochs": row.epochs_on(large),
        "seed": 1,
        "threads": 1,
    }
    lines = ["# @package _global_"]
    lines += [f"# What the board tries for `{row.name}` on {'large' if large else 'few'} data."]
    lines += ["# By `python benchmarks/board.py --experiments`; other data: data=NAME."]
    lines += ["hydra:", "  sweeper:", "    params:", *(f"      {k}: {v}" for k, v in fixed.items())]
    lines += [f'      {section}: "{",".join(choices)}"']
    return "\n".join(lines) + "\n"


def replace(folder: Path, files: Mapping[str, str]) -> None:
    """Let a folder have these configurations and no other."""
    for path in folder.glob("*.yaml"):
        if path.stem not in files:
            path.unlink()
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
