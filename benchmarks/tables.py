"""Slater-Koster tables: compiled integrator against the same integrals in NumPy with libxc, in one run.

The peer evaluates the same quadrature point by point in array expressions, with exchange-correlation from libxc through
PySCF: what a careful script would do. It runs on a few distances and is scaled to the full table. Both are timed warm,
on one thread; the largest disagreement is printed as a check that they compute the same thing.

    python benchmarks/tables.py [SYMBOL ...]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from dftbparam.slako import twocentre
from dftbparam.slako.build import pair_files
from dftbparam.slako.pseudoatom import PseudoAtom, solve_pseudo_atom
from dftbparam.slako.twocentre import POINTS_FAR, RadialTables, channels, two_centre_integrals
from dftbparam.slako.xc import libxc_derivatives
from dftbparam.space import load_parameter_set

POINTS = 700
STEP = 0.02
SAMPLE = np.linspace(5.0, 9.0, 5)


def rows_at(tables: RadialTables, r: np.ndarray) -> np.ndarray:
    t = np.sqrt(r) / twocentre.ROOT_STEP
    i = np.minimum(t.astype(int), len(tables.coefficients) - 1)
    d = ((t - i) * twocentre.ROOT_STEP)[:, None]
    c = tables.coefficients[i]
    return ((c[..., 0] * d + c[..., 1]) * d + c[..., 2]) * d + c[..., 3]


def legendre(l: int, m: int, c: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pairs = [twocentre._legendre.py_func(l, m, float(x), float(y)) for x, y in zip(c, s, strict=True)]
    return np.array(pairs).T[0], np.array(pairs).T[1]


def numpy_integrals(distance: float, atom: PseudoAtom) -> np.ndarray:
    """H of all channels of a homonuclear pair at one distance, (n_channels,)."""
    tables = atom.tables
    x, wx, y, wy = twocentre._quadrature(POINTS_FAR)
    top = 2.0 * tables.reach / distance
    mu = 0.5 * np.arccosh(top) * (x + 1.0)
    nu = 0.5 * np.pi * (y + 1.0)
    w = 0.25 * np.arccosh(top) * np.pi * wx[:, None] * wy[None, :]
    mu, nu = np.meshgrid(mu, nu, indexing="ij")
    half = 0.5 * distance
    sh, sn = np.sinh(mu), np.sin(nu)
    w = (w * half**3 * (sh**2 + sn**2) * sh * sn).ravel()
    sh2, co2, si2 = 2 * np.sinh(mu / 2) ** 2, 2 * np.cos(nu / 2) ** 2, 2 * np.sin(nu / 2) ** 2
    r1, r2 = (half * (sh2 + co2)).ravel(), (half * (sh2 + si2)).ravel()
    rho, xi = (half * sh * sn).ravel(), np.cosh(mu)
    c1, c2 = (half * (xi * co2 - sh2)).ravel() / r1, (half * (sh2 - xi * si2)).ravel() / r2
    keep = (r1 <= tables.reach) & (r2 <= tables.reach)
    w, r1, r2, rho, c1, c2 = (v[keep] for v in (w, r1, r2, rho, c1, c2))
    e1, e2 = rho / r1, rho / r2
    v1, v2 = rows_at(tables, r1).T, rows_at(tables, r2).T
    gz, gr = v1[1] * c1 + v2[1] * c2, v1[1] * e1 + v2[1] * e2
    _, f_n, f_s, _, _ = libxc_derivatives("PBE", np.maximum(v1[0] + v2[0], 1e-30), gz**2 + gr**2)
    potential = v1[2] / r1 + v2[2] / r2 + f_n
    orbitals: list[dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]] = [{}, {}]
    for side, (v, r, c, e) in enumerate(((v1, r1, c1, e1), (v2, r2, c2, e2))):
        along, across = 4 * f_s * (gz * c + gr * e), 4 * f_s * (gr * c - gz * e) / r
        for a, l in enumerate(tables.angular.tolist()):
            for m in range(l + 1):
                t, dt = legendre(l, m, c, e)
                k = twocentre.N_DENSITY + 3 * a
                orbitals[side][a, m] = (t * v[k], t * (v[k + 1] / r + along * v[k + 2]) + across * dt * v[k])
    out = []
    for a, b, m in channels(tuple(tables.angular.tolist()), tuple(tables.angular.tolist())):
        (p1, t1), (p2, t2) = orbitals[0][a, m], orbitals[1][b, m]
        out.append(np.sum(w * (potential * p1 * p2 + 0.5 * (p1 * t2 + t1 * p2))))
    return np.array(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("symbols", nargs="*", default=["Si", "Ti", "W"])
    ptbp = load_parameter_set("ptbp")
    print(f"{POINTS}-point homonuclear PBE tables; seconds on one thread, warm")
    print(f"{'':4}{'atoms':>9}{'table':>9}{'NumPy + libxc':>16}{'ratio':>9}{'disagreement, Hartree':>24}")
    for symbol in parser.parse_args().symbols:
        record = ptbp.element(symbol)
        atom = solve_pseudo_atom(record)
        pair_files(atom, atom, grid_step=STEP, cutoff=POINTS * STEP)
        start = time.perf_counter()
        atom = solve_pseudo_atom(record)
        atoms = time.perf_counter() - start
        start = time.perf_counter()
        pair_files(atom, atom, grid_step=STEP, cutoff=POINTS * STEP)
        ours = time.perf_counter() - start
        numpy_integrals(float(SAMPLE[0]), atom)
        start = time.perf_counter()
        theirs = np.array([numpy_integrals(float(r), atom) for r in SAMPLE])
        peer = (time.perf_counter() - start) / len(SAMPLE) * POINTS
        _, h, _ = two_centre_integrals(SAMPLE, atom.tables, atom.tables, points=POINTS_FAR)
        print(f"{symbol:4}{atoms:9.3f}{ours:9.3f}{peer:16.1f}{ours / peer:9.5f}{np.abs(h - theirs).max():24.1e}")


if __name__ == "__main__":
    main()
