"""From power spectra to the few coordinates that kernels see, with their derivatives.

The power spectrum p of an atom is normalised, p̂ = p/|p|, and the principal axes V of the training data are taken:

    x = (p̂ − μ) V / s,        ϱ² = (|p̂ − μ|² − |(p̂ − μ) V|²) / s²

Kernels depend on the distance to points of this space, t = |x − X|² + ϱ². The remainder ϱ², what the axes do not see,
is part of it, so that t is the exact distance of the whole descriptors, and an environment unlike all training data is
far from all of them whatever its projection is.

Where a model takes DFTB's own results as inputs (`dftbparam.delta.inputs`), they are further coordinates, the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from dftbparam.delta.descriptors import (
    Array,
    DescriptorSettings,
    Integers,
    NeighbourPair,
    RawBlock,
    power_spectra,
)
from dftbparam.delta.inputs import BaseFeatures, InputScale, fit_inputs, input_coordinates
from dftbparam.errors import ElementError

if TYPE_CHECKING:
    from ase import Atoms

VARIANCE: Final = 1e-10
"""Principal axes with less than this part of the variance are left out; the remainder keeps what they held."""

MAX_AXES: Final = 96
"""At most so many axes an element: beyond, the remainder is below 1e-3 of the spread in every set looked at."""

SMALLEST: Final = 0.01
"""Least scale, in units of normalised descriptors: what a strain of a percent changes. A set of one single environment
would otherwise divide by zero."""

SAMPLE: Final = 3000
"""Environments of an element from which its axes are found."""


@dataclass(frozen=True)
class ElementMap:
    """Coordinates of the atoms of one element.

    Attributes
    ----------
    pairs
        Pairs of neighbouring elements (atomic numbers) in the training data, each with its place in the descriptor:
        (first, last + 1).
    mean, axes
        (f,) and (f, q): centre and principal axes of normalised power spectra.
    scale
        The root of the mean squared distance of two training environments, before scaling.
    inputs
        How results of DFTB become coordinates; none unless the model takes some.
    """

    pairs: Mapping[NeighbourPair, tuple[int, int]]
    mean: Array
    axes: Array
    scale: float
    inputs: InputScale = field(default_factory=InputScale)


@dataclass(frozen=True)
class Local:
    """Coordinates of the atoms of one element in one structure.

    Attributes
    ----------
    number, atoms
        Atomic number; (n,) atoms of the structure.
    x, rest
        (n, q) and (n,): coordinates, those of inputs last, and squared remainder.
    full
        (n, f'): normalised descriptors of this structure's own pairs of elements, over the scale, and coordinates of
        inputs: squared distances between rows are those between environments.
    centres, neighbours
        (p,), pairs with derivatives: row of ``atoms``, and the atom that moves.
    dx, drest
        (p, 3, q) and (p, 3), 1/Angstrom.
    strain_x, strain_rest
        (n, 3, 3, q) and (n, 3, 3): derivatives with respect to strain.
    raw, chart
        What all this was made from. Where derivatives are not projected, those of ``raw`` are all there is.
    """

    number: int
    atoms: Integers
    x: Array
    rest: Array
    full: Array
    centres: Integers
    neighbours: Integers
    dx: Array
    drest: Array
    strain_x: Array
    strain_rest: Array
    raw: RawBlock
    chart: ElementMap

    def pull(self, along: Array, total: Array) -> tuple[Array, Array]:
        """Derivatives of a function of the distances t_im to points X_m, without projecting those of coordinates.

        With W_im = df/dt_im, df/dp̂_i = −(2/s) V Σ_m W_im X_m − (2/s²) μ Σ_m W_im, which the derivatives of the power
        spectrum are contracted with: one pass through them.

        Parameters
        ----------
        along, total
            Σ_m W_im X_m, (n, q), and Σ_m W_im, (n,).

        Returns
        -------
        df/dr of the pairs, (p, 3), and df/d(strain), (3, 3), not symmetrised.
        """
        chart, lengths = self.chart, self.raw.norms()
        slopes = {}
        inward = np.zeros(len(self.atoms))
        for pair, values in self.raw.values.items():
            place = slice(*chart.pairs[pair]) if pair in chart.pairs else slice(0, 0)
            if pair in chart.pairs:
                slopes[pair] = (
                    -2.0 / chart.scale * (along @ chart.axes[place].T)
                    - 2.0 / chart.scale**2 * total[:, None] * chart.mean[place]
                )
            else:
                slopes[pair] = np.zeros_like(values)
            inward += np.einsum("nf,nf->n", slopes[pair], values) / lengths
        pairs, strain = np.zeros((len(self.centres), 3)), np.zeros((3, 3))
        for pair, slope in slopes.items():
            unit = self.raw.values[pair] / lengths[:, None]
            slope = (slope - unit * inward[:, None]) / lengths[:, None]
            rows, values = self.raw.gradients[pair]
            pairs[rows] += (values @ slope[self.centres[rows]][:, :, None])[..., 0]
            of, strained = self.raw.strains[pair]
            strain += np.einsum("nabf,nf->ab", strained, slope[of])
        return pairs, strain


def fit_maps(
    structures: Sequence[Atoms],
    settings: DescriptorSettings,
    *,
    seed: int = 0,
    inputs: Sequence[str] = (),
    features: Sequence[BaseFeatures] = (),
) -> dict[int, ElementMap]:
    """Find the coordinates of every element of some structures, by principal axes of its environments.

    Parameters
    ----------
    seed
        Which environments are taken where there are more than `SAMPLE`.
    inputs, features
        Names of results of DFTB that are coordinates, too, and these of each structure.
    """
    scales = fit_inputs(structures, features, inputs) if inputs else {}
    values: dict[int, list[dict[NeighbourPair, Array]]] = {}
    for atoms in structures:
        for block in power_spectra(atoms, settings):
            # Atoms that are alike by symmetry say the same thing many times.
            keep = _distinct(block)
            values.setdefault(block.number, []).append({pair: v[keep] for pair, v in block.values.items()})
    rng = np.random.default_rng(seed)
    maps = {}
    for number in sorted(values):
        widths = {pair: v.shape[1] for blocks in values[number] for pair, v in blocks.items()}
        places, width = {}, 0
        for pair in sorted(widths):
            places[pair] = (width, width + widths[pair])
            width += widths[pair]
        rows = []
        for blocks in values[number]:
            size = len(next(iter(blocks.values())))
            dense = np.zeros((size, width))
            for pair, v in blocks.items():
                dense[:, slice(*places[pair])] = v
            rows.append(dense)
        table = np.concatenate(rows)
        if len(table) > SAMPLE:
            table = table[rng.choice(len(table), SAMPLE, replace=False)]
        maps[number] = _fit_map(table, places, scales.get(number, InputScale()))
    return maps


def _distinct(block: RawBlock) -> Integers:
    table = np.concatenate(list(block.values.values()), axis=1)
    _, first = np.unique(np.round(table, 8), axis=0, return_index=True)
    return np.sort(first)


def _fit_map(table: Array, places: Mapping[NeighbourPair, tuple[int, int]], inputs: InputScale) -> ElementMap:
    unit = table / np.linalg.norm(table, axis=1)[:, None]
    mean = unit.mean(axis=0)
    _, singular, axes = np.linalg.svd(unit - mean, full_matrices=False)
    kept = min(MAX_AXES, int(np.count_nonzero(singular**2 > VARIANCE * max(float((singular**2).sum()), 1e-30))))
    # Two times the variance is the mean squared distance.
    scale = max(np.sqrt(2.0 * float((singular**2).sum()) / len(unit)), SMALLEST)
    return ElementMap(dict(places), mean, axes[:kept].T.copy(), float(scale), inputs)


def describe(
    atoms: Atoms,
    settings: DescriptorSettings,
    maps: Mapping[int, ElementMap],
    *,
    derivatives: bool = False,
    project: bool = True,
    features: BaseFeatures | None = None,
) -> list[Local]:
    """Compute the coordinates of all atoms of a structure, one `Local` an element.

    Parameters
    ----------
    derivatives, project
        Whether derivatives are computed, and whether those of the coordinates, too: `Local.pull` needs none. They are
        those of descriptors alone.
    features
        Results of DFTB, where they are coordinates, too.

    Raises
    ------
    ElementError
        The structure holds an element without a map: the model was not trained on it.
    ParameterError
        Features are needed and not given, or do not fit.
    StructureError, EngineMissing
        See `power_spectra`.
    """
    from ase.data import chemical_symbols

    unknown = sorted({int(z) for z in atoms.numbers} - set(maps))
    if unknown:
        names = [chemical_symbols[z] for z in unknown]
        known = [chemical_symbols[z] for z in maps]
        raise ElementError(
            f"the delta model knows no {', '.join(names)}; it was trained on {', '.join(known)}",
            missing=names,
            available=known,
        )
    extra = input_coordinates({z: chart.inputs for z, chart in maps.items()}, atoms, features)
    blocks = power_spectra(atoms, settings, derivatives=derivatives)
    return [_local(block, maps[block.number], project, extra[block.atoms]) for block in blocks]


def _local(block: RawBlock, chart: ElementMap, project: bool, extra: Array) -> Local:
    """Coordinates of a block, ``extra`` those of inputs.

    The whole descriptor is projected at once, [V, μ], and its gradient never copied.
    """
    n, q = len(block.atoms), chart.axes.shape[1]
    scale = chart.scale
    lengths = block.norms()
    projector = np.concatenate([chart.axes, chart.mean[:, None]], axis=1)
    projected = np.zeros((n, q + 1))
    for pair, values in block.values.items():
        if pair in chart.pairs:
            projected += values @ projector[slice(*chart.pairs[pair])]
    projected /= lengths[:, None]
    raw = projected[:, :q] - chart.mean @ chart.axes
    rest = 1.0 - 2.0 * projected[:, q] + chart.mean @ chart.mean - np.einsum("nq,nq->n", raw, raw)
    full = np.concatenate([values / lengths[:, None] for values in block.values.values()], axis=1)

    def derivative(
        parts: Mapping[NeighbourPair, tuple[Integers, Array]], of: Integers, shape: tuple[int, ...]
    ) -> tuple[Array, Array]:
        """Derivatives of x and rest from those of the power spectra; ``of`` says of which atom each row is."""
        along = np.zeros((*shape, q + 1))
        radial = np.zeros(shape)
        for pair, (rows, values) in parts.items():
            flat = values.reshape(-1, values.shape[-1])
            if pair in chart.pairs:
                along[rows] += (flat @ projector[slice(*chart.pairs[pair])]).reshape(*values.shape[:-1], q + 1)
            centre = block.values[pair][of[rows]] / lengths[of[rows], None]
            folded = values.reshape(len(rows), -1, values.shape[-1]) @ centre[:, :, None]
            radial[rows] += folded.reshape(values.shape[:-1])
        wide = (slice(None), *(None,) * (len(shape) - 1))
        inverse = (1.0 / lengths)[of][wide]
        # d(p/|p|) = (dp − p̂ (p̂·dp)) / |p|
        along = (along - projected[of][(*wide, slice(None))] * radial[..., None]) * inverse[..., None]
        dx = along[..., :q]
        drest = -2.0 * along[..., q] - 2.0 * np.einsum("...q,...q->...", dx, raw[of][(*wide, slice(None))])
        return dx / scale, drest / scale**2

    p = len(block.centres)
    if block.gradients and project:
        dx, drest = derivative(block.gradients, block.centres, (p, 3))
        strain_x, strain_rest = derivative(block.strains, np.arange(n), (n, 3, 3))
    else:
        dx, drest = np.zeros((0, 3, q)), np.zeros((0, 3))
        strain_x, strain_rest = np.zeros((0, 3, 3, q)), np.zeros((0, 3, 3))
    return Local(
        block.number, block.atoms, np.hstack([raw / scale, extra]), rest / scale**2, np.hstack([full / scale, extra]),
        block.centres, block.neighbours, dx, drest, strain_x, strain_rest, block, chart,
    )  # fmt: skip
