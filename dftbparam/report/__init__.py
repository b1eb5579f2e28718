"""Plots of scores, searches, atoms and tables, as matplotlib figures of their own.

Functions take data and return a `matplotlib.figure.Figure` made through the object-oriented interface: no pyplot, no
global state, no window. `render` turns a figure into the bytes of a file.
"""

from dftbparam.report.atoms import RadialCurve, atom_curves, plot_atom
from dftbparam.report.bands import bands_content, path_labels, path_lengths, plot_band_content, plot_bands
from dftbparam.report.convergence import plot_convergence
from dftbparam.report.crystals import Curve, card_curves, plot_crystals, plot_energy_volume, plot_references
from dftbparam.report.delta_plots import plot_calibration, plot_learning, plot_parity, plot_times
from dftbparam.report.style import FORMATS, render
from dftbparam.report.tables import plot_skf
from dftbparam.report.uncertainty import plot_uncertainty

__all__ = [
    "FORMATS",
    "Curve",
    "RadialCurve",
    "atom_curves",
    "bands_content",
    "card_curves",
    "path_labels",
    "path_lengths",
    "plot_atom",
    "plot_band_content",
    "plot_bands",
    "plot_calibration",
    "plot_convergence",
    "plot_crystals",
    "plot_energy_volume",
    "plot_learning",
    "plot_parity",
    "plot_references",
    "plot_skf",
    "plot_times",
    "plot_uncertainty",
    "render",
]
