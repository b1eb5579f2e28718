"""Search spaces and parameter sets."""

from dftbparam.space.parameter_set import (
    Confinement,
    ElementParameters,
    ParameterSet,
    RepulsionParameters,
    load_parameter_set,
)
from dftbparam.space.parameters import Parameter, SearchSpace
from dftbparam.space.prior import Prior

__all__ = [
    "Confinement",
    "ElementParameters",
    "Parameter",
    "ParameterSet",
    "Prior",
    "RepulsionParameters",
    "SearchSpace",
    "load_parameter_set",
]
