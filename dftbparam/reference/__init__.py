"""Reference data: records, data sets, prototype crystals, equation of state."""

from dftbparam.reference.dataset import DEFAULT_DATASET, list_datasets, load_dataset, reference_root
from dftbparam.reference.eos import birch_murnaghan, birch_murnaghan_derivatives
from dftbparam.reference.prototypes import PROTOTYPES, Prototype, build, prototype
from dftbparam.reference.records import CrystalReference, Dataset, VolumeRange, e_of_v

__all__ = [
    "DEFAULT_DATASET",
    "PROTOTYPES",
    "CrystalReference",
    "Dataset",
    "Prototype",
    "VolumeRange",
    "birch_murnaghan",
    "birch_murnaghan_derivatives",
    "build",
    "e_of_v",
    "list_datasets",
    "load_dataset",
    "prototype",
    "reference_root",
]
