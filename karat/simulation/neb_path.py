"""What a band of images starts from: two structures that match, and a path between them.

Checked: tests/simulation/test_neb.py.
"""

import warnings
from typing import Literal

import numpy as np
from jaxtyping import Float

from karat.core.errors import BadInput
from karat.structures.neighbours import neighbour_pairs
from karat.structures.structure import Structure

PathKind = Literal["linear", "idpp"]
"""Straight lines, or lines along which no two atoms come too near."""

SAME = 0.01
"""Å; structures none of whose atoms lie farther apart are one."""
FAR = 1.0
"""Å; only atoms of a crystal that move farther may have been taken for each other, …"""
NEAR = 0.5
"""Å; … where, in another order, at least `AGAIN` of them would hardly move."""
AGAIN = 2
CELL_MATCH = 1e-6
"""Å; to which cells must agree."""
IDPP_FORCE, IDPP_STEPS = 0.1, 200
CLASH = 0.3
"""Å; where straight lines lead atoms nearer to each other than this …"""
KICK = 0.05
"""… all atoms between the ends are moved at random by about so much (Å) before IDPP parts them:
atoms that meet exactly have no direction to part in."""


def matched_end(
    start: Structure, end: Structure, align: bool = True, check_order: bool = True
) -> Structure:
    """`end` with each atom at the periodic image that is nearest to its place in `start`.

    Bonds, where they are known, are those of `start`.

    Args:
        align: a molecule's end is also shifted and turned onto the start.
        check_order: refuse crystals (or slabs) two or more of whose atoms would hardly move if
            like atoms stood in another order. (In molecules a methyl group may turn.)

    Raises:
        BadInput: what differs (number, elements or order of atoms, cell, directions that
            repeat, charge), or nothing differs at all.
    """
    _require_alike(start, end)
    moves = _nearest(end.positions - start.positions, start)
    if align and not start.periodic.any():
        moves = _aligned(start, end) - start.positions
    distances = np.linalg.norm(moves, axis=1)
    if distances.max() < SAME:
        raise BadInput(
            f"neb: start and end are one structure: no atom of {start.formula} moves by more "
            f"than {distances.max():.2g} Å. Give two different minima."
        )
    if check_order and start.periodic.any():
        _require_order(start, moves, distances)
    return end.replace(positions=start.positions + moves, topology=start.topology)


def _require_alike(start: Structure, end: Structure) -> None:
    if len(start) != len(end):
        raise BadInput(f"neb: start has {len(start)} atoms, end has {len(end)}.")
    different = np.nonzero(start.numbers != end.numbers)[0]
    if len(different):
        place = int(different[0])
        same = np.array_equal(np.sort(start.numbers), np.sort(end.numbers))
        advice = "Sort the atoms of both alike." if same else "They must have the same atoms."
        raise BadInput(
            f"neb: atom {place} is {start.symbols[place]} in start ({start.formula}) and "
            f"{end.symbols[place]} in end ({end.formula}). {advice}"
        )
    if not np.array_equal(start.periodic, end.periodic):
        raise BadInput(
            f"neb: start repeats in directions {start.periodic.tolist()}, end in "
            f"{end.periodic.tolist()}."
        )
    gap = float(np.abs(start.cell - end.cell).max())
    if start.periodic.any() and gap > CELL_MATCH:
        raise BadInput(
            f"neb: the cells of start and end differ by up to {gap:.3g} Å, and the cell is fixed "
            "along a path. Use one cell for both."
        )
    for name in ("charge", "unpaired_electrons"):
        mine, theirs = getattr(start, name), getattr(end, name)
        if mine != theirs:
            raise BadInput(f"neb: start has {name} {mine}, end has {theirs}.")


def _nearest(vectors: Float[np.ndarray, "n 3"], structure: Structure) -> Float[np.ndarray, "n 3"]:
    """Each vector's shortest periodic image."""
    from ase.geometry import find_mic

    if not structure.periodic.any():
        return vectors
    return np.asarray(find_mic(vectors, structure.cell, structure.periodic)[0])


def _aligned(start: Structure, end: Structure) -> Float[np.ndarray, "atoms 3"]:
    """Positions of the end, shifted and turned onto the start with the least squares."""
    from scipy.spatial.transform import Rotation

    center = start.positions.mean(axis=0)
    there = end.positions - end.positions.mean(axis=0)
    if len(start) == 1:
        return center + there
    with warnings.catch_warnings():
        # of a linear molecule the turn around its axis is free, and any will do
        warnings.filterwarnings("ignore", "Optimal rotation is not uniquely", UserWarning)
        turn = Rotation.align_vectors(start.positions - center, there)[0]
    return center + turn.apply(there)


def _require_order(
    start: Structure, moves: Float[np.ndarray, "atoms 3"], distances: Float[np.ndarray, "atoms"]
) -> None:
    """Refuse an end where atoms stand in the places of other like atoms."""
    from scipy.optimize import linear_sum_assignment

    far = np.nonzero(distances > FAR)[0]
    if len(far) < 2:
        return
    targets = start.positions[far] + moves[far]
    apart = (targets[None, :] - start.positions[far][:, None]).reshape(-1, 3)
    squares = np.sum(_nearest(apart, start) ** 2, axis=1).reshape(len(far), len(far))
    unlike = start.numbers[far][:, None] != start.numbers[far][None, :]
    other = linear_sum_assignment(np.where(unlike, 1e6, squares))[1]
    best = squares[np.arange(len(far)), other]
    again = far[best < NEAR**2]
    if len(again) >= AGAIN:
        raise BadInput(
            f"neb: {len(again)} atoms of start, such as {again[:4].tolist()}, move by more than "
            f"{FAR:g} Å to where like atoms stood before; in the best order the path is "
            f"{np.sqrt(best.sum()):.1f} Å long instead of {np.sqrt(np.trace(squares)):.1f}. Order "
            "the atoms of both alike, or set check_order to False if atoms shall change places."
        )


def first_path(
    start: Structure, end: Structure, images: int, kind: PathKind
) -> Float[np.ndarray, "images atoms 3"]:
    """Positions of all images, both ends included; `end` must be matched (`matched_end`).

    Source: IDPP: Smidstrup, Pedersen, Stokbro & Jónsson, J. Chem. Phys. 140, 214106 (2014), by
    ASE (Larsen et al., J. Phys.: Condens. Matter 29, 273002 (2017)).
    """
    parts = np.linspace(0.0, 1.0, images)[:, None, None]
    straight = (1 - parts) * start.positions + parts * end.positions
    if kind == "linear":
        return straight
    from ase.mep.neb import NEB, idpp_interpolate

    inner = [start.replace(positions=rows) for rows in straight[1:-1]]
    if any(len(neighbour_pairs(structure, CLASH)) for structure in inner):
        straight[1:-1] += np.random.default_rng(0).normal(0, KICK, straight[1:-1].shape)
    frames = [start.replace(positions=rows).to_ase() for rows in straight]
    periodic = bool(start.periodic.any())
    band = NEB(frames, method="improvedtangent")
    idpp_interpolate(band, traj=None, log=None, fmax=IDPP_FORCE, mic=periodic, steps=IDPP_STEPS)
    return np.array([frame.positions for frame in frames])
