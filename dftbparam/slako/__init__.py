"""Confined atoms, two-centre integrals, and the Slater-Koster tables made of them."""
