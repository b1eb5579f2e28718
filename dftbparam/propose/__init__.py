"""Proposers: which point of the unit cube to evaluate next."""

from dftbparam.propose.base import Proposal, Proposer
from dftbparam.propose.registry import proposer, proposer_names

__all__ = ["Proposal", "Proposer", "proposer", "proposer_names"]
