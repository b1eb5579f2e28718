"""The DFTB+ driver: what it writes and reads, and how it fails. Stand-in programs make DFTB+ fail on demand."""

import os
import pickle
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from dftbparam import errors
from dftbparam.engine.base import Engine, Result, Settings
from dftbparam.engine.dftbplus import DftbPlusEngine
from dftbparam.engine.dftbplus_input import Release, input_text, parse_release
from dftbparam.engine.dftbplus_output import (
    error_text,
    parse_detailed,
    parse_results_tag,
    read_projections,
    scc_progress,
)
from dftbparam.engine.hamiltonian import Dispersion, Spin, ThirdOrder
from dftbparam.engine.kpoints import divisions, time_reversed_mesh
from dftbparam.skf import SKFile, SKSet, read_set, write_skf, zero_repulsion
from dftbparam.units import BOHR

SETS = Path(__file__).parents[1] / "golden" / "dftbplus" / "skf"
MODEL = SETS / "model-spd"
R251 = Release("25.1", (25, 1))


def model_crystal():
    return Atoms(
        "SiO",
        positions=[[0, 0, 0], [1.3, 1.1, 1.7]],
        cell=[[3.1, 0.2, 0], [0.3, 3.3, 0.4], [0, 0.5, 3.6]],
        pbc=True,
    )


def stand_in(folder, body, banner="DFTB+ release 25.1"):
    """A program that prints a banner and then does as told in Python."""
    path = folder / "dftb+"
    path.write_text(
        f"#!{sys.executable}\nimport sys, os, time\nprint('|  {banner}', flush=True)\n"
        "if '--version' in sys.argv: sys.exit(1)\n" + textwrap.dedent(body)
    )
    path.chmod(0o755)
    return path


def run_stand_in(tmp_path, body, **options):
    engine = DftbPlusEngine(stand_in(tmp_path, body).as_posix(), scratch=tmp_path / "scratch", **options)
    return engine.compute(MODEL, [model_crystal()], Settings())[0]


# ---------------------------------------------------------------------------------------------------- input, pure


def written(atoms, settings, release=R251, **options):
    symbols = set(atoms.symbols)
    return input_text(atoms, settings, release=release, max_angular=dict.fromkeys(symbols, 1), **options)


@pytest.mark.parametrize(
    ("banner", "name", "parser", "offset"),
    [
        ("|  DFTB+ release 25.1\n", "25.1", 14, 0),
        ("|  DFTB+ release 24.1\n", "24.1", 14, 1),
        ("|  DFTB+ release 23.1\n", "23.1", 13, 1),
        ("|  DFTB+ release 22.2\n", "22.2", 12, 1),
        ("|  DFTB+ release 22.1\n", "22.1", 11, 1),
        ("|  DFTB+ release 21.2\n", "21.2", 0, 1),
        ("|  DFTB+ release 26.2\n", "26.2", 14, 0),
        (
            "|  DFTB+ development version (commit: abc, base: 25.1)\n",
            "development version (commit: abc, base: 25.1)",
            14,
            0,
        ),
        (
            "|  DFTB+ development version (commit: abc, base: 23.1)\n",
            "development version (commit: abc, base: 23.1)",
            13,
            1,
        ),
        (
            "|  DFTB+ development version (commit: )\n|  Copyright (C) 2006 - 2022  DFTB+ developers group\n",
            "development version (commit: )",
            11,
            1,
        ),
        (
            "|  DFTB+ development version (commit: )\n|  Copyright (C) 2006 - 2026  DFTB+ developers group\n",
            "development version (commit: )",
            14,
            0,
        ),
    ],
)
def test_releases_and_their_parser_versions(banner, name, parser, offset):
    release = parse_release(banner)
    assert (release.name, release.parser, release.methfessel_paxton_offset) == (name, parser, offset)


def test_no_release_in_foreign_output():
    assert parse_release("GNU bash, version 5.2") is None


def test_keyword_for_forces_follows_the_parser_version():
    wanted = Settings(forces=True)
    assert "PrintForces = Yes" in written(model_crystal(), wanted)
    assert "CalculateForces = Yes" in written(model_crystal(), wanted, Release("23.1", (23, 1)))
    assert "Forces" not in written(model_crystal(), Settings())


RELEASES = [
    Release("22.1", (22, 1)),
    Release("22.2", (22, 2)),
    Release("23.1", (23, 1)),
    Release("24.1", (24, 1)),
    R251,
]
SPIN = Spin({"Si": -0.015, "O": ((-0.035, -0.030), (-0.030, -0.028))})
D3 = Dispersion("d3bj", s8=3.209, a1=0.746, a2=4.191)
D4 = Dispersion("d4", s8=0.4727337, a1=0.5467502, a2=4.4955068, s9=1.0)


def flat(text):
    """Text with one space between words and no indentation, to look for sequences of lines in."""
    return " ".join(text.split())


@pytest.mark.parametrize("release", RELEASES, ids=lambda r: r.name)
def test_keywords_are_the_same_for_all_parser_versions(release):
    atoms = model_crystal()
    atoms.set_initial_magnetic_moments([1.5, -0.5])
    everything = Settings(
        spin=SPIN,
        third_order=ThirdOrder({"Si": -0.1, "O": -0.2}),
        hydrogen_damping=4.0,
        dispersion=D3,
        projections=True,
    )
    text = written(atoms, everything, release)
    assert text.count("ParserVersion") == 1
    assert f"ParserVersion = {release.parser}" in text
    assert "IgnoreUnprocessedNodes = No" in text
    text = flat(text)
    for words in (
        "SpinPolarisation = Colinear { UnpairedElectrons = 0.0 RelaxTotalSpin = Yes "
        "InitialSpins { AllAtomSpins { 1.5 -0.5 } } }",
        "SpinConstants { ShellResolvedSpin = Yes O { -3.5",
        "ThirdOrderFull = Yes HubbardDerivs { O = -0.2 Si = -0.1 }",
        "HCorrection = Damping { Exponent = 4.0 }",
        "Dispersion = SimpleDftD3 { s6 = 1.0 s8 = 3.209 a1 = 0.746 a2 = 4.191 CutoffInter = 64.0 "
        "CoordinationNumber = Exp { Cutoff = 40.0 } }",
        'ProjectStates { Region { Atoms = 1 ShellResolved = Yes Label = "atom1" }',
    ):
        assert words in text, words


def test_nothing_is_written_that_was_not_asked_for():
    text = written(model_crystal(), Settings())
    for word in ("Spin", "ThirdOrder", "Hubbard", "HCorrection", "Dispersion", "ProjectStates", "ReadInitialCharges"):
        assert word not in text


def test_fixed_moments_and_moments_of_zero():
    text = flat(written(model_crystal(), Settings(spin=replace(SPIN, unpaired=2.0))))
    assert "UnpairedElectrons = 2.0 RelaxTotalSpin = No }" in text


def test_shell_resolved_charges_make_spin_constants_so():
    text = written(model_crystal(), Settings(spin=SPIN, shell_resolved=True))
    assert "ShellResolvedSCC = Yes" in text
    assert "ShellResolvedSpin" not in text  # DFTB+ does not read it then, and refuses what it does not read


def test_one_spin_constant_stands_for_all_shells():
    text = flat(written(Atoms("Si"), Settings(spin=SPIN)))
    assert text.count("-1.4999999999999999e-02") == 4


def test_third_order_on_site():
    text = written(model_crystal(), Settings(third_order=ThirdOrder({"Si": -0.1, "O": -0.2}, full=False)))
    assert "ThirdOrder = Yes" in text
    assert "Full" not in text


def test_dispersion_with_three_body_terms():
    text = flat(written(model_crystal(), Settings(dispersion=replace(D3, s9=1.0))))
    assert (
        "Dispersion = DftD3 { Damping = BeckeJohnson { a1 = 0.746 a2 = 4.191 } s6 = 1.0 s8 = 3.209 Cutoff = 64.0 "
        "CutoffCN = 40.0 Threebody = Yes }"
    ) in text
    text = flat(written(molecule("H2O"), Settings(dispersion=D4)))
    assert (
        "Dispersion = DftD4 { s6 = 1.0 s8 = 0.4727337 s9 = 1.0 a1 = 0.5467502 a2 = 4.4955068 CutoffInter = 64.0 "
        "CutoffThree = 40.0 ChargeModel = EEQ {} CoordinationNumber = Cov { Cutoff = 40.0 } }"
    ) in text


def test_input_of_a_restart():
    atoms = model_crystal()
    atoms.set_initial_magnetic_moments([1.0, 1.0])
    text = written(atoms, Settings(spin=SPIN), read_charges=True)
    assert "ReadInitialCharges = Yes" in text
    assert "SkipChargeTest = Yes" in text  # the moment that is read is not the one the search begins with
    assert "InitialSpins" not in text
    assert "SkipChargeTest" not in written(atoms, Settings(spin=replace(SPIN, unpaired=2.0)), read_charges=True)
    assert "SkipChargeTest" not in written(atoms, Settings(), read_charges=True)


def test_input_of_bands():
    wanted = Settings(
        band_points=((0, 0, 0), (0.5, 0, 0)), forces=True, stress=True, projections=True, dispersion=D3, kpts=(4, 4, 4)
    )
    text = written(model_crystal(), wanted, read_charges=True, bands=True)
    assert "MaxSCCIterations = 1\n" in text
    assert "ConvergentSCCOnly = No" in text
    block = text[text.index("KPointsAndWeights {") :].split("}")[0].splitlines()[1:]
    assert [[float(w) for w in row.split()] for row in block if row.strip()] == [[0, 0, 0, 1], [0.5, 0, 0, 1]]
    for word in ("PrintForces", "ProjectStates", "Dispersion", "SupercellFolding"):
        assert word not in text


def test_methfessel_paxton_order():
    wanted = Settings(filling="methfessel-paxton", filling_order=2)
    assert "Order = 2" in written(model_crystal(), wanted)
    assert "Order = 3" in written(model_crystal(), wanted, Release("24.1", (24, 1)))
    assert "Gaussian" in written(model_crystal(), replace(wanted, filling_order=0))


def test_input_is_one_assignment_a_line_and_without_machine_paths():
    text = written(model_crystal(), Settings(kpts=(4, 3, 2)), polynomial_pairs=[("O", "O")])
    assert all(row.count("=") <= 1 for row in text.splitlines())
    assert "/" not in text.replace('"skf/"', "")
    assert "0.5 0.0 0.5" in text
    assert "ShellResolvedSCC = No" in text


def test_molecules_have_no_kpoints():
    assert "KPoints" not in written(molecule("H2O"), Settings(kpts=(3, 3, 3)))


def test_density_of_kpoints():
    # a = 4 Angstrom: 2 pi / a = 1.5708; three per that unit make 4.71, so 5.
    cube = bulk("Si", "sc", 4.0)
    assert divisions(cube, Settings(kpt_density=3.0)) == (5, 5, 5)
    assert divisions(Atoms("H", cell=[4.0, 100.0, 4.0], pbc=True), Settings(kpt_density=3.0)) == (5, 1, 5)
    # A whole number must not become the next one by rounding.
    assert divisions(bulk("Si", "sc", 2 * np.pi), Settings(kpt_density=3.0)) == (3, 3, 3)


@pytest.mark.parametrize("mesh", [(1, 1, 1), (2, 1, 1), (3, 4, 2), (4, 4, 4), (5, 3, 1)])
def test_time_reversed_mesh_is_the_whole_mesh(mesh):
    points, weights = time_reversed_mesh(mesh)
    assert weights.sum() == pytest.approx(1.0, abs=1e-14)
    total = np.concatenate([points, -points[weights > weights.min()] if len(points) > 1 else points[:0]])
    keys = {
        tuple(np.rint(p * 2 * np.array(mesh)).astype(int) % (2 * np.array(mesh))) for p in np.vstack([points, -points])
    }
    assert len(keys) == np.prod(mesh)
    assert len(total) >= len(points)


# --------------------------------------------------------------------------------------------------- output, pure


def test_results_tag():
    text = (
        "a :real:0:\n  -0.1E+001\nb :real:2:3,2\n 1.0 2.0\n 3.0 4.0 5.0\n 6.0\nn :integer:0:\n 3\nc :real:1:1\n 0.5\n"
    )
    tags = parse_results_tag(text)
    assert sorted(tags) == ["a", "b", "c"]
    assert tags["a"] == -1.0
    np.testing.assert_array_equal(tags["b"], [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize("text", ["rubbish\n", "a :real:1:3\n 1.0 2.0\n", "a :real:1:1\n ****\n", "a :real:x:\n 1.0\n"])
def test_malformed_results_tag(text):
    with pytest.raises(errors.UnreadableOutput):
        parse_results_tag(text)


def test_incomplete_detailed_out():
    with pytest.raises(errors.UnreadableOutput, match="Total energy"):
        parse_detailed("Repulsive energy:  0.1 H  2.7 eV\n")


def test_parts_of_the_energy():
    text = "Spin up\nBand energy: -1.0 H 0 eV\nSpin down\nBand energy: -0.5 H 0 eV\n" + "".join(
        f"{name}: {value} H  0.0 eV\n"
        for name, value in {
            "Energy H0": -1.7, "Energy SCC": 0.1, "Energy SPIN": -0.2, "Energy 3rd": 0.3, "Repulsive energy": 0.4,
            "Dispersion energy": -0.5, "Total energy": -1.6, "Total Mermin free energy": -1.65,
        }.items()
    )  # fmt: skip
    lines = parse_detailed(text)
    assert lines["band"] == -1.5
    assert [lines[k] for k in ("h0", "scc", "spin", "third", "dispersion")] == [-1.7, 0.1, -0.2, 0.3, -0.5]


def projected_states(first, second="0.750000", kpoint=2):
    return {
        (0, 0): f"KPT 1 SPIN 1 KWEIGHT 0.5\n -1.0 {first}\n\nKPT {kpoint} SPIN 1 KWEIGHT 0.5\n -0.9 0.250000\n",
        (0, 1): f"KPT 1 SPIN 1 KWEIGHT 0.5\n -1.0 0.400001\n\nKPT 2 SPIN 1 KWEIGHT 0.5\n -0.9 {second}\n",
    }


def test_projected_states():
    found = read_projections(projected_states("0.600000"), 1, (1, 2, 1))
    assert found.shape == (1, 2, 1, 1, 4)
    np.testing.assert_allclose(found[0, :, 0, 0], [[0.6, 0.4, 0, 0], [0.25, 0.75, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=(-2, -1)), 1.0, atol=1e-14)


@pytest.mark.parametrize(
    "files",
    [projected_states("0.7"), projected_states("0.6", "******"), projected_states("0.6", kpoint=7), {(0, 0): ""}],
    ids=["sum", "stars", "k-point", "empty"],
)
def test_malformed_projected_states(files):
    with pytest.raises(errors.UnreadableOutput, match="projected states"):
        read_projections(files, 1, (1, 2, 1))


def test_error_text_and_progress():
    out = " 1  -0.25E+01  0.0E+00  0.4E-01\n    2   -0.26E+01    0.10E+00    0.30E-02\n"
    assert scc_progress(out) == (2, 0.003)
    assert scc_progress("")[0] == 0
    assert error_text("WARNING!\n-> x\n\nERROR!\n-> one\n-> two\n\nmore\n") == "one | two"
    assert error_text("all well") is None


# ------------------------------------------------------------------------------------------- failures, stand-ins


def test_missing_program(monkeypatch):
    monkeypatch.setenv("DFTBPLUS_COMMAND", "no-such-dftb+ --fast")
    with pytest.raises(errors.EngineMissing, match=r"no-such-dftb\+.*conda install -c conda-forge dftbplus"):
        DftbPlusEngine()


def test_command_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DFTBPLUS_COMMAND", f"{stand_in(tmp_path, '')} --option")
    engine = DftbPlusEngine()
    assert engine.command == (str(tmp_path / "dftb+"), "--option")
    assert engine.versions() == {"dftb+": "25.1", "dftb+ parser": "14"}


@pytest.mark.parametrize("banner", ["DFTB+ release 21.1", "some other program"])
def test_old_or_foreign_program(tmp_path, banner):
    engine = DftbPlusEngine(str(stand_in(tmp_path, "", banner)))
    with pytest.raises(errors.EngineMissing, match="conda install"):
        engine.compute(MODEL, [model_crystal()], Settings())


@pytest.mark.parametrize("options", [{"timeout": 0.0}, {"timeout": float("nan")}, {"keep": "some"}])
def test_bad_options(tmp_path, options):
    with pytest.raises(errors.ParameterError):
        DftbPlusEngine(str(stand_in(tmp_path, "")), **options)


def test_dftbplus_own_words_and_scratch_folder_in_the_error(tmp_path):
    error = run_stand_in(tmp_path, "print('ERROR!'); print('-> Bad luck'); print('-> Line: 3'); sys.exit(1)")
    assert type(error) is errors.EngineError
    assert "Bad luck | Line: 3" in str(error)
    kept = Path(error.scratch)
    assert kept.name == "failed-0000"
    assert str(kept) in str(error)
    assert (kept / "dftb_in.hsd").is_file()
    assert (kept / "skf" / "Si-O.skf").is_file()  # whole: it can be run again there
    again = pickle.loads(pickle.dumps(error))
    assert (again.scratch, str(again), type(again)) == (error.scratch, str(error), type(error))


def test_scc_failure_is_a_result_of_physics(tmp_path):
    body = """
    print('    7   -0.26E+01    0.10E+00    0.30E-02')
    print('ERROR!'); print('-> SCC is NOT converged, maximal SCC iterations exceeded'); sys.exit(1)
    """
    error = run_stand_in(tmp_path, body)
    assert type(error) is errors.ScfNotConverged
    assert (error.iterations, error.residual) == (7, 0.003)


def test_overlap_failure(tmp_path):
    body = "print('ERROR!'); print('-> Failure in DSYGV, non-positive definite overlap, minor 3'); sys.exit(1)"
    assert type(run_stand_in(tmp_path, body)) is errors.OverlapError


def test_crash_by_signal(tmp_path):
    error = run_stand_in(tmp_path, "os.kill(os.getpid(), 11)")
    assert type(error) is errors.EngineError
    assert "SIGSEGV" in str(error)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "open('results.tag', 'w').close()",
        "open('results.tag', 'w').write('mermin_energy :real:0:\\n 0.1E+001\\n')",
        "open('results.tag', 'wb').write(bytes(range(256)))",
    ],
)
def test_garbage(tmp_path, body):
    assert type(run_stand_in(tmp_path, body)) is errors.UnreadableOutput


def good_output(energy="-0.5", mermin="-0.6"):
    tag = (
        f"fermi_level :real:1:1\n 0.1\nmermin_energy :real:0:\n {mermin}\nextrapolated0_energy:real:0:\n -0.55\n"
        f"gross_atomic_charges:real:1:2\n 0.1 -0.1\neigenvalues :real:3:1,1,1\n 0.2\n"
        "orbital_charges:real:3:9,2,1\n" + " 0.4" * 18 + "\n"
    )
    detailed = "".join(
        f"{k}:  {v} H   0.0 eV\n"
        for k, v in {
            "Band energy": -0.7,
            "Energy H0": -0.7,
            "Repulsive energy": 0.2,
            "Total energy": energy,
            "Total Mermin free energy": -0.6,
        }.items()
    )
    return f"open('results.tag','w').write({tag!r}); open('detailed.out','w').write({detailed!r})"


def test_stand_in_can_succeed_and_leaves_nothing_behind(tmp_path):
    result = run_stand_in(tmp_path, good_output())
    assert isinstance(result, Result)
    assert (result.energy, result.free_energy, result.extrapolated_energy) == pytest.approx((-0.5, -0.6, -0.55))
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("body", [good_output(energy="-0.4"), good_output(mermin="NaN"), good_output(mermin="-0.7")])
def test_files_that_contradict_each_other_or_are_not_finite(tmp_path, body):
    assert type(run_stand_in(tmp_path, body)) is errors.UnreadableOutput


def test_missing_forces_are_noticed(tmp_path):
    engine = DftbPlusEngine(str(stand_in(tmp_path, good_output())), scratch=tmp_path / "scratch", keep="never")
    error = engine.compute(MODEL, [model_crystal()], Settings(forces=True))[0]
    assert type(error) is errors.UnreadableOutput
    assert "'forces'" in str(error)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_keep_always(tmp_path):
    result = run_stand_in(tmp_path, good_output(), keep="always")
    assert (Path(result.details["scratch"]) / "results.tag").is_file()


def test_timeout_kills_the_whole_process_group(tmp_path):
    body = f"""
    import subprocess
    child = subprocess.Popen(['sleep', '60'])
    open({str(tmp_path / "pid")!r}, 'w').write(str(child.pid))
    time.sleep(60)
    """
    start = time.monotonic()
    error = run_stand_in(tmp_path, body, timeout=2.0)
    assert type(error) is errors.EngineTimeout
    assert time.monotonic() - start < 20.0
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not _alive(pid):
            return
        time.sleep(0.05)
    pytest.fail("the child outlived the timeout")


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    # A killed child that nobody has waited for is still listed, as a zombie.
    return not (stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def test_one_thread(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    error = run_stand_in(tmp_path, "print('ERROR!'); print('-> threads', os.environ['OMP_NUM_THREADS']); sys.exit(1)")
    assert "threads 1" in str(error)


def test_one_failure_hides_no_other(tmp_path):
    body = f"""
    text = open('dftb_in.hsd').read()
    if '9.9' in text:
        print('ERROR!'); print('-> nine'); sys.exit(1)
    {good_output()}
    """
    engine = DftbPlusEngine(str(stand_in(tmp_path, body)), scratch=tmp_path / "scratch", keep="never")
    far = model_crystal()
    far.set_cell([9.9, 9.9, 9.9])
    near = model_crystal()
    near.positions[1] = [0.1, 0, 0]
    foreign = Atoms("SiGe", positions=[[0, 0, 0], [0, 0, 2]])
    slab = model_crystal()
    slab.pbc = (True, True, False)
    out = engine.compute(MODEL, [model_crystal(), far, near, foreign, slab, model_crystal()], Settings())
    kinds = [Result, errors.EngineError, errors.StructureError, errors.ElementError, errors.StructureError, Result]
    assert [type(r) for r in out] == kinds


def test_number_of_settings(tmp_path):
    engine = DftbPlusEngine(str(stand_in(tmp_path, "")), scratch=tmp_path / "scratch")
    with pytest.raises(errors.ParameterError, match="2 settings for 1 structures"):
        engine.compute(MODEL, [model_crystal()], [Settings(), Settings()])


def test_angular_momentum_out_of_range_is_raised(tmp_path):
    engine = DftbPlusEngine(str(stand_in(tmp_path, "")), scratch=tmp_path / "scratch")
    with pytest.raises(errors.ParameterError, match="max_angular of Si is 5"):
        engine.compute(MODEL, [model_crystal()], Settings(max_angular={"Si": 5}))


def test_malformed_table_is_raised_with_file_and_line(tmp_path):
    engine = DftbPlusEngine(str(stand_in(tmp_path, "")), scratch=tmp_path / "scratch")
    rows = (MODEL / "Si-Si.skf").read_text().splitlines()
    rows[6] = "0.1 nan"
    (tmp_path / "Si-Si.skf").write_text("\n".join(rows))
    with pytest.raises(errors.FileFormatError, match=r"Si-Si\.skf:\d+"):
        engine.compute(tmp_path, [bulk("Si", "fcc", 4.0)], Settings())


def test_dispersion_that_no_release_has_is_raised(tmp_path):
    engine = DftbPlusEngine(str(stand_in(tmp_path, "")), scratch=tmp_path / "scratch")
    with pytest.raises(errors.ParameterError, match=r"s9 = 0\.5"):
        engine.compute(MODEL, [model_crystal()], Settings(dispersion=replace(D3, s9=0.5)))


def test_a_build_without_s_dftd3_is_raised(tmp_path):
    body = "print('ERROR!'); print('-> DFTB+ compiled without support for s-dftd3 library'); sys.exit(1)"
    engine = DftbPlusEngine(str(stand_in(tmp_path, body)), scratch=tmp_path / "scratch")
    with pytest.raises(errors.EngineMissing, match="WITH_SDFTD3"):
        engine.compute(MODEL, [model_crystal()], Settings(dispersion=replace(D3, s9=1.0)))
    assert list((tmp_path / "scratch").iterdir()) == []


def test_masses_that_mislead_the_damping_are_refused(tmp_path):
    engine = DftbPlusEngine(str(stand_in(tmp_path, good_output())), scratch=tmp_path / "scratch", keep="never")
    known = read_set(MODEL)
    heavy = {key: replace(file, mass=20.0) for key, file in known.files.items()}
    light = {key: replace(file, mass=1.0 if key == ("O", "O") else 20.0) for key, file in known.files.items()}
    damped = Settings(hydrogen_damping=4.0)
    assert isinstance(engine.compute(replace(known, files=heavy), [model_crystal()], damped)[0], Result)
    error = engine.compute(replace(known, files=light), [model_crystal()], damped)[0]
    assert type(error) is errors.InputError
    assert error.symbol == "O"
    assert isinstance(engine.compute(replace(known, files=light), [model_crystal()], Settings())[0], Result)


def test_missing_tables_are_raised(tmp_path):
    engine = DftbPlusEngine(str(stand_in(tmp_path, "")))
    with pytest.raises(errors.InputError, match="no such directory"):
        engine.compute(tmp_path / "nowhere", [model_crystal()], Settings())
    (tmp_path / "empty").mkdir()
    with pytest.raises(errors.InputError, match=r"X-Y\.skf"):
        engine.compute(tmp_path / "empty", [model_crystal()], Settings())


# ------------------------------------------------------------------------------------------------------ real DFTB+


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    try:
        return DftbPlusEngine(scratch=tmp_path_factory.mktemp("dftbplus"), timeout=60.0)
    except errors.EngineMissing as error:
        pytest.skip(str(error))


FULL = Settings(kpts=(2, 3, 2), forces=True, stress=True, eigenvalues=True, scc_tolerance=1e-10)


def one(engine, atoms, settings=FULL, tables=MODEL):
    result = engine.compute(tables, [atoms], settings)[0]
    assert isinstance(result, Result), result
    return result


@pytest.mark.dftbplus
def test_engine_protocol_and_version(engine):
    protocol: Engine = engine
    assert protocol.name == "dftb+"
    assert int(engine.versions()["dftb+ parser"]) >= 11
    assert pickle.loads(pickle.dumps(engine)).command == engine.command


@pytest.mark.dftbplus
def test_folder_and_memory_give_the_same(engine):
    on_disk = one(engine, model_crystal())
    in_memory = one(engine, model_crystal(), tables=read_set(MODEL))
    assert in_memory.free_energy == pytest.approx(on_disk.free_energy, abs=1e-12)
    np.testing.assert_allclose(in_memory.forces, on_disk.forces, atol=1e-12)
    assert on_disk.energy == pytest.approx(
        on_disk.band_energy + on_disk.scc_energy + on_disk.repulsive_energy, abs=1e-9
    )


@pytest.mark.dftbplus
def test_structures_are_left_alone(engine):
    atoms = model_crystal()
    before = atoms.copy()
    one(engine, atoms)
    assert atoms == before


@pytest.mark.dftbplus
def test_forces_are_minus_the_slope_of_the_free_energy(engine):
    f = one(engine, model_crystal()).forces
    h = 2e-3
    energies = []
    for sign in (-1, 1):
        moved = model_crystal()
        moved.positions[1, 0] += sign * h * BOHR
        energies.append(one(engine, moved).free_energy)
    assert -(energies[1] - energies[0]) / (2 * h) == pytest.approx(f[1, 0], abs=1e-5)


@pytest.mark.dftbplus
def test_stress_is_the_slope_with_strain_positive_under_tension(engine):
    stress = one(engine, model_crystal()).stress
    energies = []
    for sign in (-1, 1):
        strained = model_crystal()
        strain = np.eye(3)
        strain[0, 1] += sign * 1e-3
        strain[1, 0] += sign * 1e-3
        strained.set_cell(strained.cell.array @ strain, scale_atoms=True)
        energies.append(one(engine, strained).free_energy)
    volume = model_crystal().get_volume() / BOHR**3
    # Both off-diagonal elements are strained, hence the two.
    assert (energies[1] - energies[0]) / 2e-3 / volume / 2 == pytest.approx(stress[0, 1], abs=1e-5)


@pytest.mark.dftbplus
def test_eigenvalues_belong_to_the_named_kpoints(engine):
    whole = one(engine, model_crystal())
    assert whole.eigenvalues.shape == (len(whole.weights), 9 + 4)
    # A point of the mesh of 2 x 1 x 1 is one of 2 x 3 x 2 only if both agree on what is where.
    gamma = one(engine, model_crystal(), replace(FULL, kpts=(1, 1, 1), scc=False))
    odd = one(engine, model_crystal(), replace(FULL, kpts=(1, 3, 1), scc=False))
    np.testing.assert_allclose(
        odd.eigenvalues[np.argmin(np.abs(odd.kpoints).sum(axis=1))], gamma.eigenvalues[0], atol=1e-10
    )
    assert (whole.eigenvalues @ np.ones(13)) @ whole.weights == pytest.approx(
        np.sum(whole.eigenvalues.T @ whole.weights)
    )


@pytest.mark.dftbplus
def test_explicit_mesh_equals_supercell_at_gamma(engine):
    # Three cells in a row at Gamma hold the points 0, 1/3, 2/3.
    atoms = model_crystal()
    # Without SCC: with it, these made-up tables let the long cell break its symmetry.
    settings = replace(FULL, kpts=(3, 1, 1), temperature=2000.0, scc=False)
    folded = one(engine, atoms, settings)
    row = one(engine, atoms.repeat((3, 1, 1)), replace(settings, kpts=(1, 1, 1)))
    assert row.free_energy / 3 == pytest.approx(folded.free_energy, abs=1e-8)
    np.testing.assert_allclose(row.stress, folded.stress, atol=1e-7)
    np.testing.assert_allclose(row.charges[:2], folded.charges, atol=1e-7)
    many = np.sort(np.repeat(folded.eigenvalues, np.rint(folded.weights * 3).astype(int), axis=0).ravel())
    np.testing.assert_allclose(np.sort(row.eigenvalues[0]), many, atol=1e-7)


@pytest.mark.dftbplus
@pytest.mark.parametrize("order", [0, 1, 2])
def test_methfessel_paxton_free_energy_is_what_stress_derives(engine, order):
    settings = replace(
        FULL, kpts=(3, 3, 3), filling="methfessel-paxton", filling_order=order, temperature=8000.0, scc=False
    )
    result = one(engine, model_crystal(), settings)
    energies = []
    for sign in (-1, 1):
        strained = model_crystal()
        strained.set_cell(strained.cell.array * (1 + sign * 1e-3), scale_atoms=True)
        energies.append(one(engine, strained, settings).free_energy)
    volume = model_crystal().get_volume() / BOHR**3
    assert (energies[1] - energies[0]) / 2e-3 / volume == pytest.approx(np.trace(result.stress), abs=1e-5)
    if order:
        assert result.details["mermin_energy"] != pytest.approx(result.free_energy, abs=1e-5)


@pytest.mark.dftbplus
def test_stress_of_a_charged_cell_is_refused(engine):
    error = engine.compute(MODEL, [model_crystal()], replace(FULL, charge=1.0))[0]
    assert type(error) is errors.ParameterError
    assert "background" in str(error)
    assert one(engine, model_crystal(), replace(FULL, charge=1.0, stress=False)).charges.sum() == pytest.approx(1.0)


@pytest.mark.dftbplus
def test_without_repulsion(engine):
    bare = one(engine, model_crystal(), replace(FULL, repulsion=False))
    assert bare.repulsive_energy == 0.0
    dressed = one(engine, model_crystal())
    assert dressed.energy - dressed.repulsive_energy == pytest.approx(bare.energy, abs=1e-9)


@pytest.mark.dftbplus
def test_zero_spline_is_no_repulsion(engine):
    tables = read_set(MODEL)
    zero = SKSet({k: replace(f, repulsion=zero_repulsion()) for k, f in tables.files.items()}, tables.max_angular)
    assert one(engine, model_crystal(), tables=zero).repulsive_energy == 0.0


@pytest.mark.dftbplus
def test_fewer_shells_on_request(engine):
    small = one(engine, model_crystal(), replace(FULL, max_angular={"Si": 1}))
    assert small.eigenvalues.shape[1] == 4 + 4


@pytest.mark.dftbplus
def test_real_scc_failure(engine):
    error = engine.compute(MODEL, [model_crystal()], replace(FULL, max_scc_iterations=2))[0]
    assert type(error) is errors.ScfNotConverged
    assert error.iterations == 2
    assert error.residual > 1e-6


@pytest.mark.dftbplus
def test_real_overlap_failure(engine):
    tables = read_set(MODEL, ["Si"])
    file = tables.files["Si", "Si"]
    wrong = SKSet({("Si", "Si"): replace(file, overlap=20.0 * file.overlap)}, tables.max_angular)
    crystal = bulk("Si", "diamond", 5.0)
    assert type(engine.compute(wrong, [crystal], Settings(kpts=(2, 2, 2)))[0]) is errors.OverlapError


@pytest.mark.dftbplus
@pytest.mark.parametrize("charge", [30.0, -30.0])
def test_charge_that_leaves_no_electrons_or_no_orbitals(engine, charge):
    error = engine.compute(MODEL, [Atoms("Si")], Settings(charge=charge))[0]
    assert type(error) is errors.StructureError


@pytest.mark.dftbplus
def test_real_input_error_in_dftbplus_words(engine, tmp_path):
    for path in MODEL.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    one_sided = tmp_path / "Si-O.skf"
    file: SKFile = read_set(MODEL).files["Si", "O"]
    write_skf(one_sided, replace(file, repulsion=zero_repulsion()))
    error = engine.compute(tmp_path, [model_crystal()], Settings())[0]
    assert type(error) is errors.EngineError
    assert "No spline repulsive" in str(error)
