"""The calculations behind the engine `pyscf`; the only file that imports PySCF.

Checked: tests/reference/test_pyscf_engine.py.
"""

import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from karat.core.errors import CalculationFailed
from karat.core.units import BOHR
from karat.structures.labels import Quantity
from karat.structures.structure import Structure

if TYPE_CHECKING:
    from pyscf.gto import Mole

    from karat.reference.pyscf_engine import Pyscf


@lru_cache(maxsize=512)
def basis_of(basis: str, symbol: str) -> list | None:
    """Basis functions of one element, or `None` where PySCF has none."""
    from pyscf import gto

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice to install a package of more basis sets
        try:
            return gto.basis.load(basis, symbol) or None
        except (KeyError, RuntimeError, OSError):  # PySCF: unknown basis, or element not in it
            return None


@lru_cache(maxsize=512)
def core_potential_of(basis: str, symbol: str) -> list | None:
    """Effective core potential that belongs to the basis, or `None` where it has none."""
    from pyscf import gto

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return gto.basis.load_ecp(basis, symbol) or None
        except (KeyError, RuntimeError, OSError):
            return None


def functional_known(functional: str) -> bool:
    """Whether PySCF can evaluate it."""
    from pyscf.dft import libxc
    from pyscf.scf.dispersion import parse_dft

    try:
        libxc.parse_xc(parse_dft(functional)[0])
    except (KeyError, ValueError, NotImplementedError):
        return False
    return True


def single_point(
    engine: "Pyscf", structure: Structure, want: Sequence[Quantity]
) -> dict[str, float | np.ndarray]:
    """Energy, and what else is wanted of gradient, charges and dipole; atomic units.

    Raises:
        CalculationFailed: ``not-converged``, or ``error`` with PySCF's message.
    """
    try:
        field = _self_consistent_field(engine, structure)
        if engine.method in ("hf", "dft"):
            return _mean_field_results(field, want)
        active = field.mol.nelectron - 2 * _frozen(engine, field.mol)
        if active < 2:  # nothing to correlate
            raw: dict[str, float | np.ndarray] = {"energy": float(field.e_tot)}
            if "forces" in want:
                raw["gradient"] = field.nuc_grad_method().kernel()
            return raw
        if engine.method == "mp2":
            return _mp2(engine, field, want)
        return _ccsd_t(engine, field, structure.formula, want)
    except (RuntimeError, ValueError, ArithmeticError, LookupError, MemoryError) as error:
        raise CalculationFailed(
            f"PySCF failed for {structure.formula}: {type(error).__name__}: {error}", kind="error"
        ) from error


def _molecule(engine: "Pyscf", structure: Structure) -> "Mole":
    from pyscf import gto

    symbols = sorted(set(structure.symbols))
    potentials = {symbol: core_potential_of(engine.basis, symbol) for symbol in symbols}
    return gto.M(
        atom=list(zip(structure.symbols, (structure.positions / BOHR).tolist())),
        unit="Bohr",
        basis={symbol: basis_of(engine.basis, symbol) for symbol in symbols},
        ecp={symbol: value for symbol, value in potentials.items() if value},
        cart=engine.cartesian,
        charge=structure.charge,
        spin=structure.unpaired_electrons,
        max_memory=engine.max_memory_mb,
        verbose=0,
    )


def _self_consistent_field(engine: "Pyscf", structure: Structure) -> Any:
    from pyscf import dft, scf

    molecule = _molecule(engine, structure)
    restricted = molecule.spin == 0
    if engine.method == "dft":
        field = (dft.RKS if restricted else dft.UKS)(molecule, xc=engine.functional)
        field.grids.level = engine.grid_level
    else:
        field = (scf.RHF if restricted else scf.UHF)(molecule)
    if engine.density_fit:
        field = field.density_fit()
    if engine.dispersion:
        field.disp = engine.dispersion
    field.conv_tol = engine.convergence
    field.conv_tol_grad = engine.convergence**0.5 / 10
    field.max_cycle = engine.max_cycles
    _drop_checkpoint(field)
    field.kernel()
    if not field.converged:
        field = field.newton()  # second order: slower, surer
        field.kernel(field.mo_coeff, field.mo_occ)
        if not field.converged:
            raise _not_converged(engine, structure.formula, "self-consistent field")
        field = field.undo_newton()
    return field


def _drop_checkpoint(field: Any) -> None:
    """No checkpoint file: nobody reads it, and an unclosed one warns when it is collected."""
    field.chkfile = None
    temporary = getattr(field, "_chkfile", None)
    if temporary is not None:
        temporary.close()


def _not_converged(engine: "Pyscf", formula: str, what: str) -> CalculationFailed:
    return CalculationFailed(
        f"{engine.level.label}: the {what} of {formula} did not converge in "
        f"{engine.max_cycles} cycles. Raise max_cycles, or look at the structure.",
        kind="not-converged",
    )


def _mean_field_results(field: Any, want: Sequence[Quantity]) -> dict[str, float | np.ndarray]:
    raw: dict[str, float | np.ndarray] = {"energy": float(field.e_tot)}
    if "forces" in want:
        gradient = field.nuc_grad_method()
        if hasattr(gradient, "grid_response"):
            gradient.grid_response = not field.do_nlc()
        raw["gradient"] = np.asarray(gradient.kernel())
    if "charges" in want:
        raw["charges"] = np.asarray(field.mulliken_pop(verbose=0)[1])
    if "dipole" in want:
        raw["dipole"] = np.asarray(field.dip_moment(unit="AU", verbose=0))
    return raw


def _frozen(engine: "Pyscf", molecule: "Mole") -> int:
    """Number of core orbitals left out of the correlation."""
    from pyscf.data.elements import chemcore

    return int(chemcore(molecule)) if engine.frozen_core else 0


def _mp2(engine: "Pyscf", field: Any, want: Sequence[Quantity]) -> dict[str, float | np.ndarray]:
    from pyscf import mp

    calculation = mp.MP2(field, frozen=_frozen(engine, field.mol))
    calculation.kernel()
    raw: dict[str, float | np.ndarray] = {"energy": float(calculation.e_tot)}
    if "forces" in want:
        raw["gradient"] = np.asarray(calculation.nuc_grad_method().kernel())
    return raw


def _ccsd_t(
    engine: "Pyscf", field: Any, formula: str, want: Sequence[Quantity]
) -> dict[str, float | np.ndarray]:
    from pyscf import cc

    calculation = cc.CCSD(field, frozen=_frozen(engine, field.mol))
    calculation.conv_tol = max(engine.convergence, 1e-9)
    calculation.conv_tol_normt = 1e-7
    calculation.max_cycle = engine.max_cycles
    integrals = calculation.ao2mo(field.mo_coeff)
    calculation.kernel(eris=integrals)
    if not calculation.converged:
        raise _not_converged(engine, formula, "coupled-cluster amplitudes")
    triples = calculation.ccsd_t(eris=integrals)
    raw: dict[str, float | np.ndarray] = {"energy": float(calculation.e_tot + triples)}
    if "forces" in want:
        from pyscf.cc import ccsd_t_lambda_slow
        from pyscf.grad import ccsd_t

        amplitudes = calculation.t1, calculation.t2
        converged, *multipliers = ccsd_t_lambda_slow.kernel(
            calculation, integrals, *amplitudes, max_cycle=engine.max_cycles, tol=1e-7, verbose=0
        )
        if not converged:
            raise _not_converged(engine, formula, "coupled-cluster multipliers")
        gradient = ccsd_t.Gradients(calculation)
        raw["gradient"] = np.asarray(gradient.kernel(*amplitudes, *multipliers, eris=integrals))
    return raw
