r"""Angular parts, signs and gradients of the two-centre kernel, against quadratures written here from scratch.

Orbitals are R_l(r) T_lm(theta) with T_lm the associated Legendre functions of scipy, normalised by hand to
int T^2 sin(theta) dtheta = 1 and freed of the Condon-Shortley phase that scipy includes: T_lm > 0 for small theta, as
for the real harmonics x, xz, xz^2 of the Slater-Koster convention. Both axes point along +z.
"""

from math import factorial, gamma

import numpy as np
import pytest
from scipy.special import lpmv

from dftbparam.slako.twocentre import RadialTables, two_centre_integrals
from dftbparam.slako.xc import libxc_derivatives

ANGULAR = (0, 1, 2, 3)

TOLERANCE = 2e-9
"""Of overlap and kinetic energy (Hartree); found 2e-10 and 8e-10, the interpolation of the radial functions."""


class Gaussian:
    """R = N r^l exp(-a r^2) for l = 0 to 3, each with its own exponent."""

    reach = 9.5

    def __init__(self, *exponents):
        self.exponents = exponents

    def radial(self, l, r):
        """R, R' and T R = (-1/2 laplacian) R."""
        a = self.exponents[l]
        norm = np.sqrt(2.0 * (2.0 * a) ** (l + 1.5) / gamma(l + 1.5))
        value = norm * r**l * np.exp(-a * r * r)
        return value, (l / r - 2.0 * a * r) * value, (a * (2 * l + 3) - 2.0 * a * a * r * r) * value


class Slater:
    """R = N r^l exp(-zeta r) for l = 0 to 3, each with its own exponent."""

    reach = 26.0

    def __init__(self, *exponents):
        self.exponents = exponents

    def radial(self, l, r):
        """R, R' and T R = (-1/2 laplacian) R."""
        zeta = self.exponents[l]
        norm = (2.0 * zeta) ** (l + 1.5) / np.sqrt(factorial(2 * l + 2))
        value = norm * r**l * np.exp(-zeta * r)
        return value, (l / r - zeta) * value, ((l + 1) * zeta / r - 0.5 * zeta * zeta) * value


class Density:
    """n = c exp(-alpha w), w^2 = r^2 + b^2: smooth at the nucleus, exponential far away."""

    def __init__(self, c, alpha, b):
        self.c, self.alpha, self.b = c, alpha, b

    def derivatives(self, r):
        """n, n' and n''."""
        w = np.sqrt(r * r + self.b**2)
        n = self.c * np.exp(-self.alpha * w)
        return n, -self.alpha * r / w * n, ((self.alpha * r / w) ** 2 - self.alpha * self.b**2 / w**3) * n


def tables(orbitals, density=None):
    """Put analytic orbitals, and perhaps a density, into the kernel's form; the potential is zero."""
    r = np.geomspace(1e-6, 40.0, 5000)
    n, slope = density.derivatives(r)[:2] if density else (0.0 * r, 0.0 * r)
    rows = [n, slope, 0.0 * r]
    for l in ANGULAR:
        value, derivative, kinetic = orbitals.radial(l, r)
        rows += [value, r * kinetic, derivative]
    return RadialTables.make(r, np.array(rows), list(ANGULAR), orbitals.reach)


def harmonic(l, m, cosine):
    """Normalised associated Legendre function without the Condon-Shortley phase."""
    norm = np.sqrt((2 * l + 1) / 2.0 * factorial(l - m) / factorial(l + m))
    return (-1.0) ** m * norm * lpmv(m, l, np.clip(cosine, -1.0, 1.0))


def about_one_atom(first, second, distance, channels):
    """Overlap <1|2> and kinetic <1|T|2> by a quadrature in spherical coordinates about atom 1 only.

    T acts on the second orbital only. Returns (channels,) each.
    """
    x, w = np.polynomial.legendre.leggauss(160)
    end = min(first.reach, distance + second.reach)
    u = 0.5 * (x + 1.0)
    r, c = np.meshgrid(end * u**2, x, indexing="ij")
    weight = (end * u * w)[:, None] * w[None, :] * r**2
    z = r * c - distance
    other = np.sqrt(r * r - 2.0 * r * c * distance + distance**2)
    overlap, kinetic = [], []
    for l1, l2, m in channels:
        bra = weight * first.radial(l1, r)[0] * harmonic(l1, m, c) * harmonic(l2, m, z / other)
        value, _, t = second.radial(l2, other)
        overlap.append(np.sum(bra * value))
        kinetic.append(np.sum(bra * t))
    return np.array(kinetic), np.array(overlap)


SHARP = Gaussian(0.9, 0.7, 0.8, 0.6)
WIDE = Gaussian(0.35, 0.5, 0.4, 0.55)
CUSPED = Slater(1.1, 1.4, 1.7, 1.9)


@pytest.mark.parametrize("distance", [0.7, 2.0, 3.7])
@pytest.mark.parametrize(
    ("first", "second"),
    [(SHARP, SHARP), (SHARP, WIDE), (CUSPED, WIDE)],
    ids=["equal", "different exponents", "Slater and Gaussian"],
)
def test_every_channel_up_to_f_against_a_quadrature_about_one_atom(first, second, distance):
    one = tables(first)
    other = one if first is second else tables(second)
    channels, h, s = two_centre_integrals(np.array([distance]), one, other, density=False)
    assert len(channels) == 30  # sum over l1, l2 <= 3 of min(l1, l2) + 1
    kinetic, overlap = about_one_atom(first, second, distance, channels)
    np.testing.assert_allclose(s[0], overlap, rtol=0.0, atol=TOLERANCE)
    np.testing.assert_allclose(h[0], kinetic, rtol=0.0, atol=TOLERANCE)
    if first is not second:
        backward, h, s = two_centre_integrals(np.array([distance]), other, one, density=False)
        sign = np.array([(-1.0) ** (l1 + l2) for l1, l2, _ in channels])
        order = [backward.index((l2, l1, m)) for l1, l2, m in channels]
        np.testing.assert_allclose(s[0, order], sign * overlap, rtol=0.0, atol=TOLERANCE)
        np.testing.assert_allclose(h[0, order], sign * kinetic, rtol=0.0, atol=TOLERANCE)


def test_signs_and_closed_formulas_of_s_and_p():
    # Gaussians exp(-a r^2), exp(-b r^2): products are Gaussians about a point between, integrals follow by hand.
    r = np.array([0.8, 2.0, 3.5])
    a = 0.6
    atom = tables(Gaussian(a, a, a, a))
    channels, _, s = two_centre_integrals(r, atom, atom, density=False)
    decay = np.exp(-0.5 * a * r * r)
    expected = {
        (0, 0, 0): decay,
        # The p lobe that points to the s atom is the negative one of an atom on its left, the positive on its right.
        (0, 1, 0): -np.sqrt(a) * r * decay,
        (1, 0, 0): np.sqrt(a) * r * decay,
        (1, 1, 0): (1.0 - a * r * r) * decay,
        (1, 1, 1): decay,
    }
    for channel, values in expected.items():
        np.testing.assert_allclose(s[:, channels.index(channel)], values, rtol=0.0, atol=1e-9, err_msg=str(channel))
    b = 0.25
    other = tables(Gaussian(b, b, b, b))
    channels, h, s = two_centre_integrals(r, atom, other, density=False)
    reduced = a * b / (a + b)
    overlap = (2.0 * np.sqrt(a * b) / (a + b)) ** 1.5 * np.exp(-reduced * r * r)
    np.testing.assert_allclose(s[:, channels.index((0, 0, 0))], overlap, rtol=0.0, atol=1e-9)
    kinetic = reduced * (3.0 - 2.0 * reduced * r * r) * overlap
    np.testing.assert_allclose(h[:, channels.index((0, 0, 0))], kinetic, rtol=0.0, atol=1e-9)


def strong_form(functional, one, other, first, second, distance, channels):
    """<1|v_xc|2> with the potential itself, which needs second derivatives of the density; (channels,).

    v = f_n - 2 f_s lap(n) - 2 (f_sn sigma + f_ss grad(sigma) . grad(n)), grad(sigma) . grad(n) = 2 g . Hessian . g with
    g = grad(n). Gauss-Legendre in z and rho.
    """
    x, w = np.polynomial.legendre.leggauss(150)
    half = 0.5 * distance + 8.0
    z, rho = np.meshgrid(half * x + 0.5 * distance, 8.0 * 0.5 * (x + 1.0), indexing="ij")
    weight = half * 4.0 * w[:, None] * w[None, :] * rho
    n, laplacian = np.zeros_like(z), np.zeros_like(z)
    g, hessian = np.zeros((2, *z.shape)), np.zeros((2, 2, *z.shape))
    for density, zz in ((one, z), (other, z - distance)):
        r = np.hypot(rho, zz)
        value, d1, d2 = density.derivatives(r)
        e = np.array([rho / r, zz / r])
        n += value
        g += d1 * e
        laplacian += d2 + 2.0 * d1 / r
        outer = e[:, None] * e[None, :]
        hessian += d2 * outer + d1 / r * (np.eye(2)[:, :, None, None] - outer)
    sigma = np.sum(g * g, axis=0)
    bend = 2.0 * np.einsum("aij,abij,bij->ij", g, hessian, g)
    _, f_n, f_s, f_sn, f_ss = libxc_derivatives(functional, n.ravel(), sigma.ravel()).reshape(5, *n.shape)
    v = f_n - 2.0 * f_s * laplacian - 2.0 * (f_sn * sigma + f_ss * bend)
    r1, r2 = np.hypot(rho, z), np.hypot(rho, z - distance)
    values = []
    for l1, l2, m in channels:
        bra = first.radial(l1, r1)[0] * harmonic(l1, m, z / r1)
        ket = second.radial(l2, r2)[0] * harmonic(l2, m, (z - distance) / r2)
        values.append(np.sum(weight * v * bra * ket))
    return np.array(values)


@pytest.mark.parametrize("distance", [1.5, 2.6])
@pytest.mark.parametrize("equal", [True, False], ids=["equal", "different"])
def test_weak_form_is_the_strong_form(equal, distance):
    dense, thin = Density(1.5, 1.6, 0.8), Density(0.6, 1.2, 1.1)
    one, bare_one = tables(SHARP, dense), tables(SHARP)
    other, bare_other = (one, bare_one) if equal else (tables(WIDE, thin), tables(WIDE))
    right, n_right = (SHARP, dense) if equal else (WIDE, thin)
    r = np.array([distance])
    channels, kinetic, _ = two_centre_integrals(r, bare_one, bare_other, density=False)
    strong = {}
    for functional in ("PBE", "LDA"):
        _, h, _ = two_centre_integrals(r, one, other, gga=functional == "PBE")
        strong[functional] = strong_form(functional, dense, n_right, SHARP, right, distance, channels)
        # Found 4e-9 Hartree of up to 0.44, the same with (200, 300) points and with 300 points in the strong form.
        np.testing.assert_allclose(h[0] - kinetic[0], strong[functional], rtol=0.0, atol=1e-8)
    # The gradient terms are large enough for this to mean something.
    assert np.abs(strong["PBE"] - strong["LDA"]).max() > 1e-3
