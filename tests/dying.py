"""`nmfdnn`, one rank of which dies after two epochs: `python tests/dying.py RANK [KEY=VALUE …]`."""

from __future__ import annotations

import os
import sys

from nmfdnn.__main__ import main
from nmfdnn.runs.experiment import _Running

if __name__ == "__main__":
    rank = sys.argv.pop(1)
    record = _Running.record

    def die(self, epoch):
        record(self, epoch)
        if self.progress.last.epoch == 2:
            os._exit(7)

    if os.environ["RANK"] == rank and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        _Running.record = die
    main()
