"""Makes ``support`` importable, and that of the store's tests, which have the PostgreSQL server."""

import sys
from pathlib import Path

for _folder in (Path(__file__).parent / "support", Path(__file__).parents[1] / "store" / "support"):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))

from postgresql_server import postgresql_server

__all__ = ["postgresql_server"]
