r"""Exchange-correlation, compiled, for closed-shell densities: LDA (Slater + PW92) and PBE.

Notation: n density (1/Bohr^3), sigma = \|grad n\|^2, f = n eps_xc(n, sigma) the energy density (Hartree/Bohr^3),
subscripts are partial derivatives. The potential at a point of a density with Laplacian lap and
g = grad(sigma) . grad(n) is::

    v = f_n - 2 f_s lap - 2 (f_sn sigma + f_ss g)

Sources: Perdew, Burke, Ernzerhof, Phys. Rev. Lett. 77, 3865 (1996); Perdew, Wang, Phys. Rev. B 45, 13244 (1992).
Constants are those of libxc's ``gga_x_pbe``, ``gga_c_pbe`` and ``lda_c_pw_mod``, so that both agree to rounding
(a test compares them through PySCF). The compiled form exists because a Slater-Koster table needs the potential at
millions of points: libxc through Python costs ten times the rest of the table. `libxc_derivatives` is the same
interface on libxc itself, for the atom, where a library's price is small and any GGA can be tried.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from dftbparam.errors import ParameterError

Array = NDArray[np.float64]
Functional = Literal["LDA", "PBE"]

FUNCTIONALS: Final = ("LDA", "PBE")
LIBXC_NAMES: Final = {"LDA": "LDA_X,LDA_C_PW_MOD", "PBE": "GGA_X_PBE,GGA_C_PBE"}

DENSITY_FLOOR: Final = 1e-15
"""Below this density (1/Bohr^3) exchange-correlation is zero: n times eps is then under 1e-19 Hartree/Bohr^3."""

_AX = -0.75 * (3.0 / np.pi) ** (1.0 / 3.0)
_KAPPA = 0.8040
_BETA = 0.06672455060314922
_MU = _BETA * np.pi**2 / 3.0
_GAMMA = (1.0 - np.log(2.0)) / np.pi**2
_S2 = 1.0 / (4.0 * (3.0 * np.pi**2) ** (2.0 / 3.0))  # s^2 = _S2 sigma n^(-8/3)
_T2 = np.pi / (16.0 * (3.0 * np.pi**2) ** (1.0 / 3.0))  # t^2 = _T2 sigma n^(-7/3)
_RS = (3.0 / (4.0 * np.pi)) ** (1.0 / 3.0)
_PW_A, _PW_A1 = 0.0310906908696549, 0.21370
_PW_B1, _PW_B2, _PW_B3, _PW_B4 = 7.5957, 3.5876, 1.6382, 0.49294


@njit(cache=True)
def xc_point(n, sigma, gga):  # type: ignore[no-untyped-def]
    """Return (f, f_n, f_s, f_sn, f_ss) at one point; ``gga`` False gives LDA (the last three are zero)."""
    if n < DENSITY_FLOOR:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    n13 = n ** (1.0 / 3.0)
    # Correlation energy per electron of the uniform gas and its derivative with respect to n.
    rs = _RS / n13
    root = np.sqrt(rs)
    q = 2.0 * _PW_A * root * (_PW_B1 + root * (_PW_B2 + root * (_PW_B3 + root * _PW_B4)))
    dq = _PW_A * (_PW_B1 / root + 2.0 * _PW_B2 + 3.0 * _PW_B3 * root + 4.0 * _PW_B4 * rs)
    log_term = np.log1p(1.0 / q)
    ec = -2.0 * _PW_A * (1.0 + _PW_A1 * rs) * log_term
    dec_drs = -2.0 * _PW_A * (_PW_A1 * log_term - (1.0 + _PW_A1 * rs) * dq / (q * (q + 1.0)))
    dec = -dec_drs * rs / (3.0 * n)
    ex = _AX * n13
    if not gga:
        return n * (ex + ec), 4.0 / 3.0 * ex + ec + n * dec, 0.0, 0.0, 0.0

    # Exchange: f = n ex F(p), p = s^2.
    n2 = n * n
    inv83 = 1.0 / (n2 * n13 * n13)
    p = _S2 * sigma * inv83
    denominator = 1.0 + _MU / _KAPPA * p
    f0 = 1.0 + _KAPPA - _KAPPA / denominator
    f1 = _MU / denominator**2
    f2 = -2.0 * _MU * _MU / _KAPPA / denominator**3
    p_s = _S2 * inv83
    f = n * ex * f0
    f_n = ex * (4.0 / 3.0 * f0 - 8.0 / 3.0 * p * f1)
    f_s = n * ex * f1 * p_s
    f_sn = ex * p_s * (-4.0 / 3.0 * f1 - 8.0 / 3.0 * p * f2)
    f_ss = n * ex * f2 * p_s * p_s

    # Correlation: f = n (ec + H(ec, t)), t = t^2 of PBE.
    t_s = _T2 / (n2 * n13)
    t = t_s * sigma
    b = _BETA / _GAMMA
    a = b / np.expm1(-ec / _GAMMA)
    da = a * (a + b) / (b * _GAMMA)
    u = a * t
    d = 1.0 + u + u * u
    x = b * t * (1.0 + u) / d
    x_t = b * (1.0 + 2.0 * u) / (d * d)
    x_a = -b * t * t * u * (2.0 + u) / (d * d)
    x_tt = -6.0 * b * a * u * (1.0 + u) / (d * d * d)
    x_ta = -6.0 * b * t * u * (1.0 + u) / (d * d * d)
    one = 1.0 / (1.0 + x)
    h = _GAMMA * np.log1p(x)
    h_t = _GAMMA * x_t * one
    h_tt = _GAMMA * (x_tt * one - (x_t * one) ** 2)
    h_e = _GAMMA * x_a * one * da
    h_te = _GAMMA * (x_ta * one - x_t * x_a * one * one) * da
    f += n * (ec + h)
    t_n = -7.0 / 3.0 * t / n
    f_n += ec + h + n * (dec + h_e * dec + h_t * t_n)
    f_s += n * h_t * t_s
    f_sn += t_s * (-4.0 / 3.0 * h_t + n * (h_tt * t_n + h_te * dec))
    f_ss += n * h_tt * t_s * t_s
    return f, f_n, f_s, f_sn, f_ss


@njit(cache=True)
def xc_derivatives(n, sigma, gga, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (5, k) with (f, f_n, f_s, f_sn, f_ss) of the densities ``n`` (k,) and ``sigma`` (k,)."""
    for i in range(n.shape[0]):
        out[0, i], out[1, i], out[2, i], out[3, i], out[4, i] = xc_point(n[i], sigma[i], gga)


def derivatives(functional: str, n: Array, sigma: Array) -> Array:
    """Return (5, k): f, f_n, f_sigma, f_sigma_n, f_sigma_sigma, compiled. Atomic units."""
    out = np.empty((5, len(n)))
    xc_derivatives(n, sigma, check_functional(functional) == "PBE", out)
    return out


def libxc_derivatives(functional: str, n: Array, sigma: Array) -> Array:
    """The same as `derivatives`, from libxc (needs PySCF, whose wheel carries it)."""
    from pyscf.dft import libxc

    rho = np.zeros((4, len(n)))
    rho[0], rho[1] = n, np.sqrt(sigma)
    if functional == "LDA":
        rho = rho[0]
    exc, vxc, fxc = libxc.eval_xc(LIBXC_NAMES.get(functional, functional), rho, deriv=2)[:3]
    out = np.zeros((5, len(n)))
    out[0], out[1] = n * exc, vxc[0]
    if functional != "LDA":
        out[2], out[3], out[4] = vxc[1], fxc[1], fxc[2]
    out[:, n < DENSITY_FLOOR] = 0.0
    return out


def check_functional(functional: str) -> str:
    """Return the functional's name, or raise `ParameterError` with the known ones."""
    if functional not in FUNCTIONALS:
        raise ParameterError(f"functional {functional!r} is not one of {', '.join(FUNCTIONALS)}", functional=functional)
    return functional
