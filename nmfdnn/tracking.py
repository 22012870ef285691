"""The former place of `nmfdnn.runs.tracking`, for programs that still import it from here."""

import sys

from .runs import tracking

sys.modules[__name__] = tracking
