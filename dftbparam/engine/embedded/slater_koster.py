"""Two-centre blocks of H0 and S from tables: interpolation, rotation to the bond, and gradients.

Notation. Orbitals are real spherical harmonics, shells in the order l = 0, 1, ..., inside a shell m = -l..l, where
m > 0 carries cos(m phi) and m < 0 sin(|m| phi). n = (sin t cos p, sin t sin p, cos t) is the direction from the first
to the second atom. With D(n) the representation of the rotation that takes z to n, a block is

    B = D^l1 diag(integrals) D^l2^T,      D = Z(p) d(t)

(Slater and Koster, Phys. Rev. 94, 1498 (1954)). d mixes cosine with cosine and sine with sine harmonics only. For a
bond along z the angle p is arbitrary and B does not depend on it, so any value serves.

A small turn w of the bond turns the block by the generators L of the rotation: dB = sum_a w_a (L_a B + B L_a^T), with
w = n x dn; this holds for every direction, the poles included, and is how gradients are taken here.

Interpolation is DFTB+'s for uniform grids: an 8-point polynomial, and beyond the last point a fifth-order polynomial
that goes to zero within 1 Bohr with its first two derivatives.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from dftbparam.engine.base import Array
from dftbparam.engine.embedded.neighbours import Pairs
from dftbparam.engine.embedded.tables import MAX_L, Ints, PackedTables
from dftbparam.skf.evaluate import POINTS, TAIL


def block_offsets(tables: PackedTables, species: Ints, pairs: Pairs) -> Ints:
    """Where the numbers of each pair start, (p + 1,): H then S, each (orbitals of first, orbitals of second)."""
    orbitals = tables.n_orbitals[species]
    sizes = 2 * orbitals[pairs.first] * orbitals[pairs.second]
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])


def build_blocks(tables: PackedTables, species: Ints, pairs: Pairs, offsets: Ints) -> Array:
    """H0 and S blocks of every pair, flat; pair q fills ``offsets[q]:offsets[q + 1]``."""
    out = np.empty(int(offsets[-1]))
    _build(pairs.first, pairs.second, pairs.vector, pairs.distance, species, offsets, _arrays(tables), out)
    return out


def pair_gradients(tables: PackedTables, species: Ints, pairs: Pairs, offsets: Ints, weights: Array) -> Array:
    """Gradient (p, 3) of sum(weights * blocks) with each pair's vector; ``weights`` is laid out as blocks."""
    out = np.empty((len(pairs.first), 3))
    arrays = _arrays(tables)
    _gradients(
        pairs.first, pairs.second, pairs.vector, pairs.distance, species, offsets, arrays, weights, _GENERATORS, out
    )
    return out


class _Tables(NamedTuple):
    """What the kernels need of `PackedTables`."""

    l_max: Ints
    values: Array
    offset: Ints
    n_grid: Ints
    n_channels: Ints
    step: Array
    tail: Array
    tail_offset: Ints


def _arrays(tables: PackedTables) -> _Tables:
    return _Tables(*(getattr(tables, name) for name in _Tables._fields))


def generators() -> Array:
    """Generators (4, 3, 7, 7) of rotations about x, y, z in each shell: turning by w maps Y to (1 + w.L) Y columns."""
    out = np.zeros((MAX_L + 1, 3, 2 * MAX_L + 1, 2 * MAX_L + 1))
    for l in range(MAX_L + 1):
        Ly, Lz = np.zeros((2, 2 * l + 1, 2 * l + 1))
        for m in range(1, l + 1):
            Lz[l - m, l + m], Lz[l + m, l - m] = m, -m
        for m in range(l):
            strength = math.sqrt(l * (l + 1) / 2) if m == 0 else 0.5 * math.sqrt(l * (l + 1) - m * (m + 1))
            Ly[l + m + 1, l + m], Ly[l + m, l + m + 1] = strength, -strength
            if m > 0:
                Ly[l - m - 1, l - m], Ly[l - m, l - m - 1] = strength, -strength
        size = 2 * l + 1
        out[l, :, :size, :size] = Ly @ Lz - Lz @ Ly, Ly, Lz
    return out


_GENERATORS = generators()


@njit(cache=True)
def _weights(t: float, values: Array, slopes: Array, left: Array, right: Array, left1: Array, right1: Array) -> None:
    """Lagrange weights of the nodes 0..7 at t, and their derivatives."""
    left[0], left1[0] = 1.0, 0.0
    for k in range(POINTS - 1):
        left[k + 1] = left[k] * (t - k)
        left1[k + 1] = left1[k] * (t - k) + left[k]
    right[POINTS - 1], right1[POINTS - 1] = 1.0, 0.0
    for k in range(POINTS - 1, 0, -1):
        right[k - 1] = right[k] * (t - k)
        right1[k - 1] = right1[k] * (t - k) + right[k]
    denominator = -5040.0  # prod_{m != 0} (0 - m) = -7!
    for k in range(POINTS):
        values[k] = left[k] * right[k] / denominator
        slopes[k] = (left1[k] * right[k] + left[k] * right1[k]) / denominator
        if k < POINTS - 1:
            denominator = denominator * (k + 1) / (k + 1 - POINTS)


@njit(cache=True)
def _interpolate(r: float, tables: _Tables, p: int, scratch: Array, value: Array, slope: Array) -> None:
    """All columns of the table of species pair p, and their derivatives with r, at distance r."""
    table, start, rows, step = tables.values, tables.offset[p], tables.n_grid[p], tables.step[p]
    tail, tail_start, columns = tables.tail, tables.tail_offset[p], 2 * tables.n_channels[p]
    cell = int(r / step)
    if cell < rows:
        top = max(min(rows, cell + 4), POINTS)
        low = top - POINTS
        t = r / step - (low + 1)
        w, w1 = scratch[0], scratch[1]
        _weights(t, w, w1, scratch[2], scratch[3], scratch[4], scratch[5])
        base = start + low * columns
        for c in range(columns):
            value[c] = 0.0
            slope[c] = 0.0
        for k in range(POINTS):
            a, b = w[k], w1[k] / step
            at = base + k * columns
            for c in range(columns):
                value[c] += a * table[at + c]
                slope[c] += b * table[at + c]
        return
    x = (rows * step + TAIL - r) / TAIL
    if x <= 0.0:
        for c in range(columns):
            value[c] = 0.0
            slope[c] = 0.0
        return
    for c in range(columns):
        p3, p4, p5 = tail[tail_start + c], tail[tail_start + columns + c], tail[tail_start + 2 * columns + c]
        value[c] = ((p5 * x + p4) * x + p3) * x * x * x
        slope[c] = -((5.0 * p5 * x + 4.0 * p4) * x + 3.0 * p3) * x * x / TAIL


@njit(cache=True)
def _polar_rotations(c: float, s: float, l_max: int, cosine: Array, sine: Array) -> None:
    """d(t) for l = 0..l_max: [l, m', m], the cosine (m >= 0) and sine (m > 0) halves; c = cos t, s = sin t."""
    cosine[0, 0, 0] = 1.0
    if l_max >= 1:
        cosine[1, 0, 0], cosine[1, 0, 1] = c, -s
        cosine[1, 1, 0], cosine[1, 1, 1] = s, c
        sine[1, 1, 1] = 1.0
    if l_max >= 2:
        q3 = math.sqrt(3.0)
        cosine[2, 0, 0], cosine[2, 0, 1], cosine[2, 0, 2] = 0.5 * (3.0 * c * c - 1.0), -q3 * c * s, 0.5 * q3 * s * s
        cosine[2, 1, 0], cosine[2, 1, 1], cosine[2, 1, 2] = q3 * c * s, c * c - s * s, -c * s
        cosine[2, 2, 0], cosine[2, 2, 1], cosine[2, 2, 2] = 0.5 * q3 * s * s, c * s, 0.5 * (1.0 + c * c)
        sine[2, 1, 1], sine[2, 1, 2] = c, -s
        sine[2, 2, 1], sine[2, 2, 2] = s, c
    if l_max >= 3:
        q6, q10, q15 = math.sqrt(6.0), math.sqrt(10.0), math.sqrt(15.0)
        cc, ss = c * c, s * s
        a10 = 0.25 * q6 * s * (5.0 * cc - 1.0)
        a20 = 0.5 * q15 * c * ss
        a30 = 0.25 * q10 * s * ss
        a21 = 0.25 * q10 * s * (3.0 * cc - 1.0)
        a31 = 0.25 * q15 * c * ss
        a32 = 0.25 * q6 * s * (1.0 + cc)
        d0, d1 = 0.5 * c * (5.0 * cc - 3.0), 0.25 * c * (15.0 * cc - 11.0)
        d2, d3 = 0.5 * c * (3.0 * cc - 1.0), 0.25 * c * (cc + 3.0)
        cosine[3, 0, 0], cosine[3, 0, 1], cosine[3, 0, 2], cosine[3, 0, 3] = d0, -a10, a20, -a30
        cosine[3, 1, 0], cosine[3, 1, 1], cosine[3, 1, 2], cosine[3, 1, 3] = a10, d1, -a21, a31
        cosine[3, 2, 0], cosine[3, 2, 1], cosine[3, 2, 2], cosine[3, 2, 3] = a20, a21, d2, -a32
        cosine[3, 3, 0], cosine[3, 3, 1], cosine[3, 3, 2], cosine[3, 3, 3] = a30, a31, a32, d3
        b21, b31, b32 = 0.5 * q10 * c * s, 0.25 * q15 * ss, 0.5 * q6 * c * s
        sine[3, 1, 1], sine[3, 1, 2], sine[3, 1, 3] = 0.25 * (5.0 * cc - 1.0), -b21, b31
        sine[3, 2, 1], sine[3, 2, 2], sine[3, 2, 3] = b21, 2.0 * cc - 1.0, -b32
        sine[3, 3, 1], sine[3, 3, 2], sine[3, 3, 3] = b31, b32, 0.25 * (3.0 * cc + 1.0)


@njit(cache=True)
def _direction(vector: Array, r: float, l_max: int, cosine: Array, sine: Array, cm: Array, sm: Array) -> None:
    """Rotation matrices of a bond: d(t), and cos(m p), sin(m p) for m = 0..l_max."""
    rho = math.sqrt(vector[0] * vector[0] + vector[1] * vector[1])
    cp, sp = 1.0, 0.0
    if rho > 0.0:
        cp, sp = vector[0] / rho, vector[1] / rho
    _polar_rotations(vector[2] / r, rho / r, l_max, cosine, sine)
    cm[0], sm[0] = 1.0, 0.0
    for m in range(1, l_max + 1):
        cm[m] = cm[m - 1] * cp - sm[m - 1] * sp
        sm[m] = sm[m - 1] * cp + cm[m - 1] * sp


@njit(cache=True)
def _rotate(
    integrals: Array, l_a: int, l_b: int, cosine: Array, sine: Array, cm: Array, sm: Array, out: Array, at: int
) -> None:
    """Write the block of all shells, row-major, to ``out[at:]`` from integrals in the order of `tables.channels`."""
    width = (l_b + 1) * (l_b + 1)
    channel = 0
    for l1 in range(l_a + 1):
        row0 = l1 * l1 + l1
        for l2 in range(l_b + 1):
            column0 = l2 * l2 + l2
            lowest = min(l1, l2)
            for m1 in range(l1 + 1):
                for m2 in range(l2 + 1):
                    both_c = 0.0
                    both_s = 0.0
                    for m in range(lowest + 1):
                        both_c += cosine[l1, m1, m] * integrals[channel + m] * cosine[l2, m2, m]
                    if m1 > 0 and m2 > 0:
                        for m in range(1, lowest + 1):
                            both_s += sine[l1, m1, m] * integrals[channel + m] * sine[l2, m2, m]
                    c1, s1, c2, s2 = cm[m1], sm[m1], cm[m2], sm[m2]
                    out[at + (row0 + m1) * width + column0 + m2] = c1 * c2 * both_c + s1 * s2 * both_s
                    if m2 > 0:
                        out[at + (row0 + m1) * width + column0 - m2] = c1 * s2 * both_c - s1 * c2 * both_s
                    if m1 > 0:
                        out[at + (row0 - m1) * width + column0 + m2] = s1 * c2 * both_c - c1 * s2 * both_s
                        if m2 > 0:
                            out[at + (row0 - m1) * width + column0 - m2] = s1 * s2 * both_c + c1 * c2 * both_s
            channel += lowest + 1


@njit(cache=True)
def _build(
    first: Ints,
    second: Ints,
    vector: Array,
    distance: Array,
    species: Ints,
    offsets: Ints,
    tables: _Tables,
    out: Array,
) -> None:
    l_max, n_channels = tables.l_max, tables.n_channels
    n_species = l_max.shape[0]
    scratch = np.empty((6, POINTS))
    value, slope = np.empty(2 * n_channels.max()), np.empty(2 * n_channels.max())
    cosine, sine = np.zeros((4, 4, 4)), np.zeros((4, 4, 4))
    cm, sm = np.empty(4), np.empty(4)
    for q in range(first.shape[0]):
        a, b = species[first[q]], species[second[q]]
        p = a * n_species + b
        columns = 2 * n_channels[p]
        r = distance[q]
        _interpolate(r, tables, p, scratch, value, slope)
        _direction(vector[q], r, max(l_max[a], l_max[b]), cosine, sine, cm, sm)
        half = (offsets[q + 1] - offsets[q]) // 2
        _rotate(value[: n_channels[p]], l_max[a], l_max[b], cosine, sine, cm, sm, out, offsets[q])
        _rotate(value[n_channels[p] : columns], l_max[a], l_max[b], cosine, sine, cm, sm, out, offsets[q] + half)


@njit(cache=True)
def _gradients(
    first: Ints,
    second: Ints,
    vector: Array,
    distance: Array,
    species: Ints,
    offsets: Ints,
    tables: _Tables,
    weights: Array,
    generator: Array,
    out: Array,
) -> None:
    l_max, n_channels = tables.l_max, tables.n_channels
    n_species = l_max.shape[0]
    scratch = np.empty((6, POINTS))
    value, slope = np.empty(2 * n_channels.max()), np.empty(2 * n_channels.max())
    cosine, sine = np.zeros((4, 4, 4)), np.zeros((4, 4, 4))
    cm, sm = np.empty(4), np.empty(4)
    block, radial = np.empty(256), np.empty(256)
    turn = np.zeros(3)
    for q in range(first.shape[0]):
        a, b = species[first[q]], species[second[q]]
        p = a * n_species + b
        r = distance[q]
        _interpolate(r, tables, p, scratch, value, slope)
        _direction(vector[q], r, max(l_max[a], l_max[b]), cosine, sine, cm, sm)
        width = (l_max[b] + 1) ** 2
        half = (offsets[q + 1] - offsets[q]) // 2
        along = 0.0
        turn[:] = 0.0
        for part in range(2):
            low, high = part * n_channels[p], (part + 1) * n_channels[p]
            _rotate(value[low:high], l_max[a], l_max[b], cosine, sine, cm, sm, block, 0)
            _rotate(slope[low:high], l_max[a], l_max[b], cosine, sine, cm, sm, radial, 0)
            w = weights[offsets[q] + part * half : offsets[q] + (part + 1) * half]
            for x in range(half):
                along += w[x] * radial[x]
            _add_turn(w, block, l_max[a], l_max[b], width, generator, turn)
        x, y, z = vector[q, 0] / r, vector[q, 1] / r, vector[q, 2] / r
        # d(energy) = turn . (n x dn) = (turn x n) . dn, and dn is the part of d(vector) across the bond over r
        out[q, 0] = along * x + (turn[1] * z - turn[2] * y) / r
        out[q, 1] = along * y + (turn[2] * x - turn[0] * z) / r
        out[q, 2] = along * z + (turn[0] * y - turn[1] * x) / r


@njit(cache=True)
def _add_turn(w: Array, block: Array, l_a: int, l_b: int, width: int, generator: Array, turn: Array) -> None:
    """Add sum(w * (L B + B L^T)) about each axis to ``turn``."""
    for l1 in range(1, l_a + 1):
        size, start = 2 * l1 + 1, l1 * l1
        for i in range(size):
            for j in range(size):
                gx, gy, gz = generator[l1, 0, i, j], generator[l1, 1, i, j], generator[l1, 2, i, j]
                if gx != 0.0 or gy != 0.0 or gz != 0.0:
                    total = 0.0
                    for c in range(width):
                        total += w[(start + i) * width + c] * block[(start + j) * width + c]
                    turn[0] += gx * total
                    turn[1] += gy * total
                    turn[2] += gz * total
    rows = (l_a + 1) ** 2
    for l2 in range(1, l_b + 1):
        size, start = 2 * l2 + 1, l2 * l2
        for i in range(size):
            for j in range(size):
                gx, gy, gz = generator[l2, 0, i, j], generator[l2, 1, i, j], generator[l2, 2, i, j]
                if gx != 0.0 or gy != 0.0 or gz != 0.0:
                    total = 0.0
                    for c in range(rows):
                        total += w[c * width + start + i] * block[c * width + start + j]
                    turn[0] += gx * total
                    turn[1] += gy * total
                    turn[2] += gz * total
