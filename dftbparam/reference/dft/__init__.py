"""The DFT runner: reference data computed here, with GPAW or another code through ASE.

======================  ==============================================================================================
`recipe`                how to compute: code, functional, cutoff, k-points, smearing; the default per element is data
`tasks`                 one calculation as a record: structure, kind, recipe, key
`curves`                which volumes an E(V) curve still needs; pure
`plan`                  from a request and what is finished to the tasks that can run now; pure
`paths`                 k-points along the paths of high symmetry
`frames`                displaced and strained copies
`structures`            structures from a file as calculations
`partners`              which binaries represent an element
`guess`                 volumes where a search for a minimum starts
`collect`               from finished calculations to a data set folder
`code`                  runs one task: SCF with remedies, bands, isolated atom
`archive`               finished calculations as files, one each
======================  ==============================================================================================

What runs many tasks at once is `dftbparam.campaign.compute`.
"""

from dftbparam.reference.dft.archive import Archive
from dftbparam.reference.dft.code import run_task
from dftbparam.reference.dft.curves import CurveState, next_steps
from dftbparam.reference.dft.plan import PROPERTIES, Plan, Request, System
from dftbparam.reference.dft.recipe import Recipe, recipe_for
from dftbparam.reference.dft.tasks import Task

__all__ = [
    "PROPERTIES",
    "Archive",
    "CurveState",
    "Plan",
    "Recipe",
    "Request",
    "System",
    "Task",
    "next_steps",
    "recipe_for",
    "run_task",
]
