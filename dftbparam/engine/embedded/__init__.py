"""The embedded engine: SCC-DFTB in this process, numba and LAPACK, one core.

tables (layout for the kernels) -> neighbours -> slater_koster (blocks per pair) -> bloch (H(k), S(k), eigenstates) ->
filling -> gamma and mixing (self-consistency) -> solver (energies, forces, stress). kpoints reduces meshes by symmetry,
pair_repulsion adds the repulsive potential.
"""

from dftbparam.engine.embedded.neighbours import neighbour_shells
from dftbparam.engine.embedded.pair_repulsion import repulsive_energy
from dftbparam.engine.embedded.solver import EmbeddedEngine, load_tables

__all__ = ["EmbeddedEngine", "load_tables", "neighbour_shells", "repulsive_energy"]
