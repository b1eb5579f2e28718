"""Unit conversions.

Inside the numerics everything is in Bohr and Hartree; at the user's side (structures, reports, command line) in
Angstrom and electronvolt. The values are DFTB+'s own (``common/constants.F90``, see the project's notes on DFTB+):
agreeing with DFTB+ to 1e-6 Hartree/atom requires the same numbers, although CODATA has since moved them by 1e-8.
"""

from typing import Final

BOHR: Final = 0.529177249
"""One Bohr in Angstrom."""

HARTREE: Final = 27.2113845
"""One Hartree in electronvolt."""

BOLTZMANN: Final = 3.166815363e-6
"""Boltzmann constant in Hartree per kelvin (CODATA 2018; DFTB+ agrees to 1e-11)."""

SPEED_OF_LIGHT: Final = 137.035999084
"""Speed of light in atomic units (inverse fine-structure constant, CODATA 2018)."""

HARTREE_PER_BOHR: Final = HARTREE / BOHR
"""One Hartree/Bohr (force) in eV/Angstrom."""

HARTREE_PER_BOHR3: Final = HARTREE / BOHR**3
"""One Hartree/Bohr^3 (stress) in eV/Angstrom^3."""

GPA_PER_EV_PER_A3: Final = 160.21766208
"""One eV/Angstrom^3 in GPa."""
