"""Elements H to Cm: configurations, valence shells, default radii and search ranges (``data/elements.toml``)."""

from dftbparam.elements.configuration import parse_configuration
from dftbparam.elements.table import Element, all_symbols, element, search_range

__all__ = ["Element", "all_symbols", "element", "parse_configuration", "search_range"]
