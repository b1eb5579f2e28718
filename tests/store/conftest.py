"""A database server for the tests that want one."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "support"))

from postgresql_server import postgresql_server

__all__ = ["postgresql_server"]
