"""Evaluations must be importable in Dask's worker processes, which take over this process's search path."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "support"))
