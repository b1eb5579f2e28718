"""How far apart two results for one structure are. Atomic units."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.special import expit

from dftbparam.engine.base import Array, Result, Settings
from dftbparam.units import BOLTZMANN

TOLERANCES: Final = {
    "energy": 1e-6,
    "forces": 1e-5,
    "stress": 1e-5,
    "eigenvalues": 1e-5,
    "charges": 1e-5,
    "fermi_level": 1e-5,
}
"""What is asked of the engines (Hartree per atom, Hartree, Bohr, elementary charges)."""

ENERGIES: Final = (
    "energy", "free_energy", "band_energy", "scc_energy", "repulsive_energy", "third_order_energy", "spin_energy",
    "dispersion_energy",
)  # fmt: skip
"""Energies that are compared, whole and in parts."""

ELECTRON_SLACK: Final = 3e-7
"""Electrons. In a gap the Fermi level is anyone's choice: DFTB+ takes the middle if that misses the number of
electrons by no more than 1e-7. Levels that give the same number within this are not compared."""


def differences(ours: Result, theirs: Result, settings: Settings, n_points: int) -> dict[str, float]:
    """Largest absolute difference per quantity, `TOLERANCES` naming them; what a result lacks is left out.

    Energies are per atom, the largest of the total and its parts. Forces, stress, moments and populations are compared
    number by number; eigenvalues as multisets, which do not depend on how a mesh of ``n_points`` was reduced.
    """
    n_atoms = len(ours.charges)
    out = {"energy": max(abs(float(getattr(ours, name)) - float(getattr(theirs, name))) for name in ENERGIES) / n_atoms}
    for name in ("forces", "stress", "charges", "shell_populations", "moments"):
        a, b = getattr(ours, name), getattr(theirs, name)
        if a is not None and b is not None:
            out[name] = float(np.abs(a - b).max())
    out["fermi_level"] = abs(ours.fermi_level - theirs.fermi_level)
    a, b = ours.eigenvalues, theirs.eigenvalues
    if a is not None and b is not None:
        assert ours.weights is not None
        assert theirs.weights is not None
        mine, other = (spectrum(r, w, n_points) for r, w in ((a, ours.weights), (b, theirs.weights)))
        # Bases of different size are no more alike than numbers that differ by anything.
        out["eigenvalues"] = float(np.abs(mine - other).max()) if mine.shape == other.shape else float("inf")
        if level_is_arbitrary(other, settings, n_points, (ours.fermi_level, theirs.fermi_level)):
            del out["fermi_level"]
    return out


def spectrum(eigenvalues: Array, weights: Array, n_points: int) -> Array:
    """Eigenvalues of the whole mesh, (..., bands, n_points), each band sorted over k.

    Symmetry reduction keeps this multiset whatever points stand for the others. ``eigenvalues`` is (n_k, bands), with
    spin polarisation (2, n_k, bands).
    """
    counts = np.rint(np.asarray(weights) * n_points).astype(int)
    return np.sort(np.repeat(np.asarray(eigenvalues), counts, axis=-2).swapaxes(-1, -2), axis=-1)


def level_is_arbitrary(spectrum_: Array, settings: Settings, n_points: int, levels: tuple[float, float]) -> bool:
    """Whether two Fermi levels fill a spectrum with the same number of electrons, as in a gap."""
    if settings.filling != "fermi":
        return False
    width = max(settings.temperature, 1e-2) * BOLTZMANN
    each = 2.0 if spectrum_.ndim == 2 else 1.0
    counts = [each * float(expit((level - spectrum_) / width).sum()) / n_points for level in levels]
    return abs(counts[0] - counts[1]) < ELECTRON_SLACK
