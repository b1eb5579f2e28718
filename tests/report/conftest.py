"""The PostgreSQL server of the store's tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "store" / "support"))

from postgresql_server import postgresql_server

__all__ = ["postgresql_server"]
