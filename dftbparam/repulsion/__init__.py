"""Repulsion: atom-wise forms and the splines made of them."""

from dftbparam.repulsion.forms import (
    FORMS,
    NEGLIGIBLE,
    ConvexCubic,
    PairPotential,
    RepulsionForm,
    ScreenedNuclear,
    ScreenedPower,
    get_form,
)
from dftbparam.repulsion.spline import MAX_INTERVALS, TOLERANCE, RadialPotential, to_spline

__all__ = [
    "FORMS",
    "MAX_INTERVALS",
    "NEGLIGIBLE",
    "TOLERANCE",
    "ConvexCubic",
    "PairPotential",
    "RadialPotential",
    "RepulsionForm",
    "ScreenedNuclear",
    "ScreenedPower",
    "get_form",
    "to_spline",
]
