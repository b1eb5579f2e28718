"""Search spaces and parameter sets."""

from dftbparam.space.parameter_set import (
    Confinement,
    ElementParameters,
    ParameterSet,
    RepulsionParameters,
    load_parameter_set,
)
from dftbparam.space.parameters import Parameter, SearchSpace

__all__ = [
    "Confinement",
    "ElementParameters",
    "Parameter",
    "ParameterSet",
    "RepulsionParameters",
    "SearchSpace",
    "load_parameter_set",
]
