"""Conformers of the molecules at hand.

Checked: tests/sampling/test_samplers.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from karat.core.errors import BadInput, CalculationFailed, UnsuitableStructure
from karat.potentials.protocol import AbstractPotential
from karat.results.metric import Failure
from karat.sampling.protocol import AbstractSampler, Candidate, Selection
from karat.sampling.seeds import spawn_seeds
from karat.simulation.relax import relax
from karat.structures.structure import Structure


@dataclass(frozen=True)
class Conformers(AbstractSampler):
    """Distinct conformers of each molecule among the starts (RDKit's ETKDG, then MMFF94s).

    Molecules are told apart by the SMILES string in their topology; each is embedded once,
    however many of its conformers are among the starts.

    Attributes:
        count: how many of each molecule; fewer where it has fewer.
        relax: whether the potential relaxes them afterwards.
        force_tolerance: eV/Å, of that relaxation.
        max_steps: of that relaxation.
        kind: of the candidates.
    """

    count: int = 10
    relax: bool = False
    force_tolerance: float = 0.01
    max_steps: int = 500
    kind: str = "conformer"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise BadInput(f"conformers.count is {self.count}; at least 1.")

    def select(
        self, starts: Sequence[Structure], potential: AbstractPotential | None, seed: int
    ) -> Selection:
        """Conformers, lowest force-field energy first; one group for each molecule.

        Raises:
            UnsuitableStructure: a start that was not built from SMILES.
            BadInput: `relax` without a potential.
        """
        from karat.structures.builders import from_smiles

        if self.relax and potential is None:
            raise BadInput("conformers.relax is true, but there is no potential to relax with.")
        molecules: dict[str, Structure] = {}
        for start in starts:
            if start.topology is None or not start.topology.smiles:
                raise UnsuitableStructure(
                    f"conformers: {start.formula} was not built from SMILES. Start from a SMILES "
                    "string, or use the sampler 'dynamics'."
                )
            molecules.setdefault(start.topology.smiles, start)
        candidates: list[Candidate] = []
        failures: list[Failure] = []
        for (smiles, start), own in zip(molecules.items(), spawn_seeds(seed, len(molecules))):
            found = from_smiles(
                smiles, conformers=self.count, seed=own, multiplicity=start.multiplicity
            )
            for i, structure in enumerate(found):
                name = f"{self.kind}-{smiles}-{i}"
                if self.relax and potential is not None:
                    try:
                        relaxed = relax(potential, structure, self.force_tolerance, self.max_steps)
                    except CalculationFailed as error:
                        failures.append(Failure("relaxation", name, error.kind, str(error)))
                        continue
                    structure = relaxed.structure
                candidates.append(Candidate(structure, name, self.kind, f"{self.kind}-{smiles}"))
        return Selection(tuple(candidates), tuple(failures))
