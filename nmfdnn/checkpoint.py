"""The former place of `nmfdnn.runs.checkpoint`, for programs that still import it from here."""

import sys

from .runs import checkpoint

sys.modules[__name__] = checkpoint
