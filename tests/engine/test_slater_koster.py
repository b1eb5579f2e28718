"""Interpolation, rotation and gradients of two-centre blocks against independent formulas."""

from pathlib import Path

import numpy as np
import pytest
from scipy.interpolate import BarycentricInterpolator

from dftbparam.engine.embedded.neighbours import Pairs
from dftbparam.engine.embedded.slater_koster import block_offsets, build_blocks, generators, pair_gradients
from dftbparam.engine.embedded.tables import channels, pack
from dftbparam.errors import ElementError, InputError
from dftbparam.skf import SKSet, read_set

MODELS = Path(__file__).parents[1] / "golden" / "dftbplus" / "skf"
DIRECTIONS = [(0, 0, 1), (0, 0, -1), (1, 0, 0), (0, -1, 0), (1e-9, 0, 1), (1, 2, -3), (-0.3, 0.7, 0.2)]


@pytest.fixture(scope="module")
def packed():
    return pack(read_set(MODELS / "model-f"), ["La", "O"])


def one_pair(vector):
    vector = np.atleast_2d(np.asarray(vector, dtype=float))
    n = len(vector)
    return Pairs(
        np.zeros(n, dtype=np.int64),
        np.ones(n, dtype=np.int64),
        np.zeros((n, 3), dtype=np.int64),
        vector,
        np.linalg.norm(vector, axis=1),
    )


def blocks(packed, symbols, vector):
    species = np.array([packed.index(s) for s in symbols])
    pairs = one_pair(vector)
    offsets = block_offsets(packed, species, pairs)
    flat = build_blocks(packed, species, pairs, offsets)
    a, b = packed.n_orbitals[species]
    return flat.reshape(len(pairs.first), 2, a, b)


def harmonics(points):
    """Real spherical harmonics up to l = 3, normalised to (2l+1)/(4 pi) r^2l summed over m; m = -l..l. (p, 16)."""
    x, y, z = points.T
    s = np.sqrt
    return np.stack(
        [
            np.ones_like(x),
            y, z, x,
            s(3) * x * y, s(3) * y * z, (2 * z**2 - x**2 - y**2) / 2, s(3) * x * z, s(3) / 2 * (x**2 - y**2),
            s(10) / 4 * y * (3 * x**2 - y**2), s(15) * x * y * z, s(6) / 4 * y * (4 * z**2 - x**2 - y**2),
            z * (2 * z**2 - 3 * x**2 - 3 * y**2) / 2, s(6) / 4 * x * (4 * z**2 - x**2 - y**2),
            s(15) / 2 * z * (x**2 - y**2), s(10) / 4 * x * (x**2 - 3 * y**2),
        ],
        axis=1,
    )  # fmt: skip


def representation(rotation):
    """D (16, 16) with Y_m(R^-1 r) = sum_m' D_m'm Y_m'(r), from the harmonics themselves."""
    points = np.random.default_rng(0).normal(size=(200, 3))
    full = np.linalg.lstsq(harmonics(points), harmonics(points @ rotation), rcond=None)[0]
    return np.where(np.abs(full) < 1e-13, 0.0, full)


def rotation_to(direction):
    """Some rotation that takes z to a direction."""
    n = np.asarray(direction, dtype=float) / np.linalg.norm(direction)
    helper = np.array([1.0, 0, 0]) if abs(n[0]) < 0.5 else np.array([0, 1.0, 0])
    x = np.cross(helper, n)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(n, x), n], axis=1)


def test_block_along_z_is_diagonal_in_m(packed):
    block = blocks(packed, ("La", "La"), (0, 0, 4.0))[0, 0]
    order = [(l, m) for l in range(4) for m in range(-l, l + 1)]
    for i, (_, m1) in enumerate(order):
        for j, (_, m2) in enumerate(order):
            if m1 != m2:
                assert abs(block[i, j]) < 1e-15


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_blocks_rotate_as_spherical_harmonics_do(packed, direction):
    r = 4.3
    along_z = blocks(packed, ("La", "La"), (0, 0, r))[0]
    n = np.asarray(direction, dtype=float)
    found = blocks(packed, ("La", "La"), r * n / np.linalg.norm(n))[0]
    D = representation(rotation_to(direction))
    assert np.abs(found - D @ along_z @ D.T).max() < 1e-12


def test_reversed_pair_is_the_transpose(packed):
    v = np.array([1.1, -2.0, 3.3])
    forward, backward = blocks(packed, ("La", "O"), v)[0], blocks(packed, ("O", "La"), -v)[0]
    assert np.abs(forward - backward.swapaxes(1, 2)).max() < 1e-15


def test_generators_turn_harmonics():
    w, h = np.array([0.3, -0.5, 0.8]), 1e-6
    K = np.array([[0, -w[2], w[1]], [w[2], 0, -w[0]], [-w[1], w[0], 0]])
    D = (representation(np.eye(3) + h * K) - np.eye(16)) / h
    for l in range(4):
        block = slice(l * l, (l + 1) ** 2)
        expected = np.einsum("a,aij->ij", w, generators()[l, :, : 2 * l + 1, : 2 * l + 1])
        assert np.abs(D[block, block] - expected).max() < 1e-5


@pytest.mark.parametrize("symbols", [("La", "La"), ("La", "O"), ("O", "O")])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("r", [3.1, 8.4])
def test_gradients_are_those_of_the_blocks(packed, symbols, direction, r):
    """In the table (3.1 Bohr) and in its tail (8.4)."""
    n = np.asarray(direction, dtype=float)
    vector = r * n / np.linalg.norm(n)
    species = np.array([packed.index(s) for s in symbols])
    pairs = one_pair(vector)
    offsets = block_offsets(packed, species, pairs)
    weights = np.random.default_rng(3).normal(size=offsets[-1])
    found = pair_gradients(packed, species, pairs, offsets, weights)[0]
    h = 1e-4
    for c in range(3):
        step = h * np.eye(3)[c]
        plus, minus = (blocks(packed, symbols, vector + sign * step).ravel() for sign in (1, -1))
        assert abs(weights @ (plus - minus) / (2 * h) - found[c]) < 1e-7


def test_interpolation_is_the_eight_point_polynomial():
    tables = read_set(MODELS / "model-spd", ["Si"])
    file = tables.files["Si", "Si"]
    packed = pack(tables, ["Si"])
    column = file.columns.index((0, 0, 0))
    h, rows = file.grid_step, len(file.hamiltonian)
    for r in (0.3, 2.6, 3.99, 7.3, rows * h - 0.1):
        cell = int(r / h)
        last = max(min(rows, cell + 4), 8)
        nodes = np.arange(last - 7, last + 1)
        expected = BarycentricInterpolator(nodes * h, file.hamiltonian[nodes - 1, column])(r)
        assert blocks(packed, ("Si", "Si"), (0, 0, r))[0, 0, 0, 0] == pytest.approx(float(expected), abs=1e-13)


def test_tail_joins_smoothly_and_ends_at_one_bohr():
    tables = read_set(MODELS / "model-spd", ["Si"])
    file = tables.files["Si", "Si"]
    packed = pack(tables, ["Si"])
    end = len(file.hamiltonian) * file.grid_step

    def value(r):
        return blocks(packed, ("Si", "Si"), (0, 0, r))[0, 0, 0, 0]

    h = 1e-4
    at = file.hamiltonian[-1, file.columns.index((0, 0, 0))]
    assert value(end) == pytest.approx(at, abs=1e-14)
    left = (value(end - h) - value(end - 3 * h)) / (2 * h)
    right = (value(end + 3 * h) - value(end + h)) / (2 * h)
    assert abs(left - right) < 1e-3 * abs(left) + 1e-9
    assert abs(value(end + 1.0 - 1e-4)) < 1e-12 < abs(value(end + 0.5))
    assert value(end + 1.0) == value(end + 5.0) == 0.0
    assert packed.cutoff[0, 0] == end + 1.0


def test_channels_of_an_sp_d_pair():
    assert channels(1, 2) == [(0, 0, 0), (0, 1, 0), (0, 2, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 2, 0), (1, 2, 1)]


def test_missing_tables_are_named():
    tables = read_set(MODELS / "model-spd")
    files = {pair: file for pair, file in tables.files.items() if pair != ("O", "Si")}
    packed = pack(SKSet(files, tables.max_angular), ["Si", "O"])
    packed.require(["Si", "Si"])
    with pytest.raises(InputError, match=r"lack O-Si\.skf"):
        packed.require(["Si", "O"])
    with pytest.raises(ElementError, match=r"no element 'Xe'.*they have: O, Si"):
        packed.index("Xe")


def test_f_shell_needs_the_extended_format():
    packed = pack(read_set(MODELS / "model-spd"), ["Si"], {"Si": 3})
    with pytest.raises(InputError, match="extended"):
        packed.require(["Si"])
    with pytest.raises(InputError, match="it must be 0"):
        pack(read_set(MODELS / "model-spd"), ["Si"], {"Si": 4})
