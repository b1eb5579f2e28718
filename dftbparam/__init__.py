"""dftbparam: Bayesian-optimised DFTB parameter sets for the whole periodic table."""

__version__ = "0.1.0"
