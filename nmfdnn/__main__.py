"""`python -m nmfdnn`, and the command `nmfdnn`: trains, or hands over to one of its subcommands.

Whatever takes seconds to load is loaded after help and version have been asked for.
"""

from __future__ import annotations

import sys
from importlib import import_module, resources

from .text import print_anything
from .version import __version__

COMMANDS = {
    "predict": "nmfdnn.predict",
    "export": "nmfdnn.export",
    "compare": "nmfdnn.views.compare",
    "report": "nmfdnn.views.report",
}
"""`nmfdnn NAME …` is the same program as `nmfdnn-NAME …`."""


def main() -> None:
    """Entry point, which can be interrupted while the libraries load, too: that takes seconds."""
    print_anything()
    first, *rest = sys.argv[1:] or [""]
    try:
        if first in COMMANDS:
            sys.argv = [f"nmfdnn-{first}", *rest]
            import_module(COMMANDS[first]).main()
            return
        if first.isalpha():
            print(f"no command {first!r}: {', '.join(COMMANDS)}, or KEY=VALUE to train", file=sys.stderr)
            sys.exit(2)
        if {"--version", "--help", "-h"} & {first, *rest}:
            print(f"nmfdnn {__version__}" if "--version" in (first, *rest) else explanation())
            return
        from .cli import main as run
    except KeyboardInterrupt:
        ended = (
            "interrupted"
            if first in COMMANDS
            else "interrupted before a run began: nothing is to be continued"
        )
        print(ended, file=sys.stderr)
        sys.exit(130)
    run()


def explanation() -> str:
    """What `nmfdnn --help` shows: Hydra's template, without loading Hydra's schemas and with them PyTorch."""
    from omegaconf import OmegaConf

    with resources.as_file(resources.files("nmfdnn.configs") / "config.yaml") as path:
        return str(OmegaConf.select(OmegaConf.load(path), "hydra.help.template"))


if __name__ == "__main__":
    main()
