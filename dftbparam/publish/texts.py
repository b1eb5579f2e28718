"""The texts that go with a published set: README, licence, citation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dftbparam.publish.element_data import ElementData

LICENCE_URI = "https://creativecommons.org/licenses/by/4.0/legalcode"


def licence(name: str) -> str:
    """Return the licence notice."""
    return f"""{name}
Copyright the dftbparam developers

This parameter set (parameters, tables and all other files of this folder) is licensed under the Creative Commons
Attribution 4.0 International Public License (CC-BY-4.0):

    {LICENCE_URI}

You may share and adapt it for any purpose, also commercially, if you give credit (CITATION.cff says how) and say what
you changed. It comes without any warranty.

SPDX-License-Identifier: CC-BY-4.0
"""


def citation(name: str, version: str, date: str) -> str:
    """Return CITATION.cff; ``date`` is ISO 8601."""
    return f"""cff-version: 1.2.0
message: If you use this parameter set, please cite it, and the reference data it was fitted to (manifest.json).
type: dataset
title: "{name}: DFTB parameters"
version: "{version}"
date-released: {date}
license: CC-BY-4.0
authors:
  - name: dftbparam developers
"""


def readme(
    name: str,
    *,
    data: Sequence[ElementData],
    tables: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
    left_out: Mapping[str, tuple[str, ...]],
    sources: Sequence[str],
    functional: str,
) -> str:
    """Return README.md: what, how fitted, how to use, limits, scores."""
    symbols = [one.symbol for one in data]
    built = tables["elements"]
    shells = "\n".join(
        f"| {d.symbol} | {' '.join(d.shells)} | {' '.join(f'{u:.4f}' for u in d.hubbard)} | "
        f"{d.hubbard_derivative:.4f} | "
        f"{d.spin[d.shells.index(d.frontier)][d.shells.index(d.frontier)]:.4f} | "
        f"{max(o.fit_error for o in d.orbitals):.0e} |"
        for d in data
    )
    some = " ".join(([s for s in symbols if s not in built] or symbols)[:2])
    return f"""# {name}

DFTB parameters of {len(symbols)} elements: {" ".join(symbols)}.

Each element has its own parameters and there are none of pairs, so that every pair of elements has tables: two-centre
integrals of confined scalar-relativistic {functional} atoms, and a repulsion by a combination rule.

## Files

| file | what |
|---|---|
| `parameters.json` | the parameters: all else follows from them |
| `skf/X-Y.skf` | {_pairs(built)} |
| `{name}.hsd` | blocks to paste into DFTB+'s input: shells, spin constants, Hubbard derivatives |
| `wfc.{name}.hsd` | radial functions for waveplot, to be included in its `Basis` block by `<<+` |
| `elements.json` | levels, U, dU/dn, W and the fits of the radial functions, as numbers |
| `scores.json`, `scores.csv` | report cards of this set and PTBP on the same crystals, uncertainty of the parameters |
| `manifest.json` | versions, settings, reference data with checksum and seed of every element; checksums of the rest |
| `SHA256SUMS` | checksums of all files but itself and `manifest.json`, for `sha256sum --check` |

## How it was fitted

{_sources(sources)} Every element by Bayesian optimisation of its own, see the manifest for the settings of each.
Non-magnetic calculations without third order: spin constants, Hubbard derivatives and dispersion took no part.

## How to use it

Copy `{name}.hsd` into `dftb_in.hsd` and adapt `Prefix`. U is shell-resolved in the files; DFTB+ takes that of the s
shell for all unless `ShellResolvedSCC = Yes`. Compounds were fitted without it; in elemental crystals all atoms are
neutral, and it makes no difference.
Crystals need a mesh of k-points besides; a comment of the snippet gives the form.
The scores are at an electronic temperature of 1000 K (Fermi filling), energies extrapolated to zero temperature.
The snippet sets `IgnoreUnprocessedNodes`, so that lines of other elements may stay; DFTB+ then ignores misspelt
keywords, too, and names all that it ignored in a warning at the start of its output.
`ThirdOrderFull` together with `ShellResolvedSCC` needs Hubbard derivatives per shell, which the set does not have:
those of the snippet are one per element.

Tables that are not here, with the same bits as they would have here:

    dftbparam skf build {some} --parameters parameters.json --out tables
    dftbparam skf check --gate tables

Hubbard derivatives are d²ε/dn² of the free atom's highest occupied shell, n the number of electrons (negative, the
convention of 3ob and of DFTB+'s `HubbardDerivs`); spin constants are those of the free atom, Frauenheim's convention.

## Limits

- Fitted to elemental crystals (and, where the manifest says so, to binaries) without surfaces, molecules and defects.
- Unlike pairs follow by combination rules, and are tested only as far as the scores say.
- Electronic temperature, k-points and everything else that a calculation has to converge is the user's to converge.
{_untried(symbols, built)}{_left_out(left_out)}
## Scores

Mean absolute errors over the crystals that an element was fitted to: volume and bulk modulus in percent, of its own
crystals and of compounds; energies between its own crystals and formation energies of compounds in eV/atom; crystals
without a minimum are counted. PTBP: the published parameters, rebuilt and scored the same way on the same crystals.

{_score_table(rows)}
{_summary(summary)}
## Elements

U in Hartree per shell; dU/dn and W of the highest occupied shell; norm of the error of the worst radial fit.

| | shells | U | dU/dn | W | fit |
|---|---|---|---|---|---|
{shells}

Licence: CC-BY-4.0 (`LICENSE`). How to cite: `CITATION.cff`.
"""


def _pairs(built: Sequence[str]) -> str:
    if not built:
        return "no tables are in this folder; those of any elements of the set are built on demand (below)"
    return (
        f"tables of all ordered pairs of {len(built)} elements ({' '.join(built)}); others are built on demand (below)"
    )


def _untried(symbols: Sequence[str], built: Sequence[str]) -> str:
    """Say which pairs nobody has built: the gate of pairs has seen those with tables alone."""
    if len(built) == len(symbols):
        return ""
    which = "Pairs with other elements than those with tables here" if built else "Pairs"
    return (
        f"- {which} were not built for this folder, and some may be refused for integrals that have not decayed;\n"
        "  `dftbparam skf build` says so.\n"
    )


def _sources(sources: Sequence[str]) -> str:
    if not sources:
        return "The parameters come from a file; the manifest names it."
    return "Reference data: " + "; ".join(sources) + "."


def _left_out(left_out: Mapping[str, tuple[str, ...]]) -> str:
    elements = {what: reasons for what, reasons in left_out.items() if "-" not in what}
    pairs = {what: reasons for what, reasons in left_out.items() if "-" in what}
    text = ""
    if elements:
        text += "- Left out, because they did not pass the gate:\n" + _reasons(elements)
    if pairs:
        text += "- Pairs that have no tables, because these did not pass the gate:\n" + _reasons(pairs)
    return text


def _reasons(left_out: Mapping[str, tuple[str, ...]]) -> str:
    # Reasons of pairs begin with the name of the file.
    return "".join(f"  - {what}: {reasons[0].removeprefix(f'{what}: ')}\n" for what, reasons in left_out.items())


def _score_table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = (
        "| | own crystals: dV | PTBP | dB | PTBP | phase energy | PTBP | compounds: dV | PTBP | dB | PTBP | formation "
        "| PTBP | no minimum | PTBP |\n|---" + 14 * "|---" + "|"
    )
    lines = [head]
    for row in rows:
        cells = [row["symbol"]]
        for figure, form in (
            ("elemental_dV", ".1f"),
            ("elemental_dB", ".0f"),
            ("elemental_phase", ".3f"),
            ("compound_dV", ".1f"),
            ("compound_dB", ".0f"),
            ("mean_abs_formation_error", ".2f"),
        ):
            cells += [_number(row[f"{short}_{figure}"], form) for short in ("ours", "ptbp")]
        cells += [_number(row[f"{short}_n_without_minimum"], "d") for short in ("ours", "ptbp")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _number(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)


def _summary(summary: Mapping[str, Any]) -> str:
    lines = []
    names = {
        "elemental_dV": ("volume of own crystals, %", ".2f"),
        "elemental_dB": ("bulk modulus of own crystals, %", ".1f"),
        "elemental_phase": ("energy between own crystals, eV/atom", ".3f"),
        "compound_dV": ("volume of compounds, %", ".2f"),
        "compound_dB": ("bulk modulus of compounds, %", ".1f"),
        "mean_abs_formation_error": ("formation energy, eV/atom", ".3f"),
    }
    for figure, (title, form) in names.items():
        if figure in summary:
            one = summary[figure]
            lines.append(
                f"- Mean error of the {title}: {one['ours']:{form}}, PTBP {one['ptbp']:{form}}; better "
                f"on {one['better']} of {one['elements']} elements."
            )
    return "\n".join(lines) + "\n"
