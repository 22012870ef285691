"""`python -m nmfdnn`, and the command `nmfdnn`."""

import sys


def main() -> None:
    """Entry point, which can be interrupted while the libraries load, too: that takes seconds."""
    try:
        from .cli import main as run
    except KeyboardInterrupt:
        print("interrupted before a run began: nothing is to be continued", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
