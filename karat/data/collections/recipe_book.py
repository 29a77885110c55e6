"""The recipes that karat knows: what each collection is called, and who made it.

Checked: tests/data/collections/test_recipes.py.
"""

from functools import partial

from karat.core.units import KCAL_PER_MOL
from karat.data.collections import recipes
from karat.data.collections.collection import Task
from karat.data.collections.manifest import Manifest, Noise
from karat.data.collections.recipe import Recipe
from karat.structures.labels import LevelOfTheory

CCSDT = LevelOfTheory("CCSD(T)", "CBS")
DLPNO = LevelOfTheory("DLPNO-CCSD(T)", "CBS")


def _manifest(
    name: str,
    title: str,
    task: Task,
    level: LevelOfTheory,
    citation: str,
    source: str,
    licence: str,
    noise: Noise | None = None,
    notes: str = "",
) -> Manifest:
    return Manifest(name, "1", title, task, level, citation, source, licence, noise, notes)


_MLIPX = "github.com/joehart2001/mlipx, benchmark_data"
_PLA = "Kriz, Rezac, J. Chem. Inf. Model. 60, 1453 (2020)"
_GSCDB = "Liang, Head-Gordon, arXiv:2508.13468 (2025), and the authors of each set"
_BEST = LevelOfTheory("best available", settings={"of": "each set; see GSCDB138"})

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        _manifest(
            "s66x8",
            "S66x8: dissociation curves of dimers",
            "interactions",
            CCSDT,
            "Rezac, Riley, Hobza, J. Chem. Theory Comput. 7, 2427 (2011); energies: Brauer et al., "
            "Phys. Chem. Chem. Phys. 18, 20905 (2016)",
            "github.com/isayev/COMP6, github.com/aoterodelaroza/refdata",
            "MIT (geometries); published numbers",
            Noise(
                0.062 * KCAL_PER_MOL,
                "mean difference of the energies of 2011 and 2016 on 264 points",
            ),
        ),
        ("s66x8.xyz.gz",),
        recipes.s66x8,
    ),
    Recipe(
        _manifest(
            "pla15",
            "PLA15: active sites of proteins with ligands",
            "interactions",
            DLPNO,
            _PLA,
            _MLIPX,
            "MIT (repository that redistributes it)",
            notes="Half of the complexes have capping hydrogens 0.58 Å apart in the protein part.",
        ),
        ("pla15.xyz.gz",),
        partial(recipes.protein_ligand, stem="pla15"),
    ),
    Recipe(
        _manifest(
            "plf547",
            "PLF547: fragments of proteins with ligands",
            "interactions",
            DLPNO,
            _PLA,
            _MLIPX,
            "MIT (repository that redistributes it)",
        ),
        ("plf547.xyz.gz",),
        partial(recipes.protein_ligand, stem="plf547"),
    ),
    Recipe(
        _manifest(
            "s30l",
            "S30L: association of large hosts and guests",
            "interactions",
            LevelOfTheory("experiment", settings={"back-corrected": "solvation, thermal"}),
            "Sure, Grimme, J. Chem. Theory Comput. 11, 3785 (2015)",
            _MLIPX,
            "MIT (repository that redistributes it)",
            notes="Hosts and guests are relaxed by themselves. The reference is known to a few "
            "kcal/mol.",
        ),
        ("s30l.xyz.gz",),
        recipes.s30l,
    ),
    Recipe(
        _manifest(
            "water_dimers",
            "Water dimers at 300 K, two-body energies",
            "interactions",
            LevelOfTheory("CCSD(T)", "aug-cc-pVDZ", settings={"counterpoise": "yes"}),
            "set of G. Csanyi and co-workers, distributed as h2o-13",
            "github.com/BingqingCheng/linear-regression-benchmarks",
            "MIT",
        ),
        ("dimers_ccsdt_avdz.xyz.gz",),
        recipes.water_dimers,
    ),
    *(
        Recipe(
            _manifest(
                f"gscdb138_{word}",
                f"GSCDB138: {word}",
                task,
                _BEST,
                _GSCDB,
                "github.com/JiashuLiang/GSCDB138",
                "CC-BY-4.0",
                notes="Signs follow each set: interaction energies of some are of dissociation.",
            ),
            ("reactions.csv", "structures.xyz.gz"),
            partial(recipes.gscdb138, category=category),
        )
        for category, (task, word) in recipes.GSCDB_CATEGORIES.items()
    ),
    Recipe(
        _manifest(
            "conformers_hutchison",
            "Conformers of drug-like molecules",
            "conformers",
            LevelOfTheory("DLPNO-CCSD(T)", "cc-pVTZ"),
            "Folmsbee, Hutchison, Int. J. Quantum Chem. 121, e26381 (2021)",
            "github.com/ghutchis/conformer-benchmark",
            "MIT",
            Noise(
                0.21 * KCAL_PER_MOL,
                "mean difference of RI-MP2 and DLPNO-CCSD(T) in this basis on 2555 conformers",
            ),
        ),
        ("conformers.xyz.gz",),
        recipes.conformers_hutchison,
    ),
    Recipe(
        _manifest(
            "wiggle150",
            "Wiggle150: strained conformers of two molecules",
            "conformers",
            DLPNO,
            "Brew et al., J. Chem. Theory Comput. 21, 3922 (2025)",
            _MLIPX,
            "MIT (repository that redistributes it)",
        ),
        ("wiggle150.xyz.gz",),
        recipes.wiggle150,
    ),
    Recipe(
        _manifest(
            "torsions_openff59",
            "Torsion scans of fragments of drugs",
            "torsions",
            LevelOfTheory("CCSD(T)", "CBS", settings={"delta": "heavy-aug-cc-pVDZ"}),
            "Behara et al., J. Phys. Chem. B 128, 7888 (2024)",
            "github.com/MobleyLab/qm-theory-benchmark",
            "MIT",
        ),
        ("torsions.xyz.gz",),
        recipes.torsions_openff59,
    ),
    Recipe(
        _manifest(
            "bh28",
            "BH28: barriers of pericyclic reactions and proton exchanges",
            "barriers",
            LevelOfTheory("CCSDT(Q)", "CBS"),
            "Karton, J. Phys. Chem. A 123, 6720 (2019)",
            "github.com/notrakrima/hugo-chemtheorist",
            "MIT",
            notes="BHPERI_6 is left out: one of its reactants is missing in the files.",
        ),
        ("bh28.csv", "bh28.xyz.gz"),
        recipes.bh28,
    ),
    Recipe(
        _manifest(
            "diatomics_pbe",
            "Curves of homonuclear diatomics",
            "diatomics",
            LevelOfTheory("PBE", "PAW", program="VASP 6"),
            "Riebesell et al., Matbench Discovery",
            "github.com/janosh/matbench-discovery",
            "MIT",
            notes="Relative to the point at 6 Å. Ho, Er, Tm, Pr, Dy, Pm, Tb and Sm are left out: "
            "their curves jump.",
        ),
        ("diatomics_pbe.xyz.gz",),
        recipes.diatomics_pbe,
    ),
)
"""Each fits a folder that has its files."""
