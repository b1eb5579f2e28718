"""Reference data: records, data sets, prototype crystals, equation of state."""

from dftbparam.reference.dataset import (
    DEFAULT_DATASET,
    dataset_folder,
    list_datasets,
    load_dataset,
    load_frames,
    load_points,
    reference_root,
)
from dftbparam.reference.eos import birch_murnaghan, birch_murnaghan_derivatives
from dftbparam.reference.eos_fit import EosFit, EosFits, EosFitter, fit_birch_murnaghan, locate_minimum
from dftbparam.reference.prototypes import (
    GROUND_STATE,
    PROTOTYPES,
    Prototype,
    binary_prototypes,
    build,
    elemental_prototypes,
    mesh,
    prototype,
)
from dftbparam.reference.records import (
    AtomReference,
    BandReference,
    CrystalReference,
    Dataset,
    PointsReference,
    VolumeRange,
    e_of_v,
)

__all__ = [
    "DEFAULT_DATASET",
    "GROUND_STATE",
    "PROTOTYPES",
    "AtomReference",
    "BandReference",
    "CrystalReference",
    "Dataset",
    "EosFit",
    "EosFits",
    "EosFitter",
    "PointsReference",
    "Prototype",
    "VolumeRange",
    "binary_prototypes",
    "birch_murnaghan",
    "birch_murnaghan_derivatives",
    "build",
    "dataset_folder",
    "e_of_v",
    "elemental_prototypes",
    "fit_birch_murnaghan",
    "list_datasets",
    "load_dataset",
    "load_frames",
    "load_points",
    "locate_minimum",
    "mesh",
    "prototype",
    "reference_root",
]
