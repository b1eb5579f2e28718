"""DFTB engines behind one protocol: Slater-Koster files and structures in, energies, forces, eigenvalues out."""
