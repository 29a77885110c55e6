"""Engines that misbehave in a chosen way; imported by tests and by their worker processes."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np

from karat.core.errors import CalculationFailed, UnsuitableStructure
from karat.reference.exchange import (
    check_quantities,
    labels_from_json,
    labels_to_json,
    ordered,
    read_input,
    read_output,
    write_input,
    write_output,
)
from karat.reference.protocol import AbstractEngine
from karat.structures.labels import Labels, LevelOfTheory


@dataclass(frozen=True)
class Awkward(AbstractEngine):
    """A harmonic well for hydrogen; other elements hang, die, print or fail.

    `log` is a file to which every begun calculation appends `process element x`.
    """

    log: str
    seconds: float = 0.0

    @property
    def level(self):
        return LevelOfTheory("harmonic", program="awkward 1")

    @property
    def quantities(self):
        return ("energy", "forces")

    def check(self, structure, want):
        check_quantities("Awkward", self.quantities, structure, want)
        if 92 in structure.numbers:
            raise UnsuitableStructure("Awkward cannot treat uranium; use another element.")

    def prepare(self, structure, want, folder):
        self.check(structure, want)
        write_input(folder, structure, want)

    def run(self, folder):
        write_output(folder, labels_to_json(self.compute(*read_input(folder))))

    def parse(self, folder):
        return labels_from_json(read_output(folder))

    def compute(self, structure, want):
        self.check(structure, want)
        x = structure.positions
        with open(self.log, "a") as stream:
            stream.write(f"{os.getpid()} {structure.symbols[0]} {x[0, 0]!r}\n")
        time.sleep(self.seconds)
        self._misbehave(structure.symbols[0])
        forces = -2.0 * x if "forces" in ordered(want) else None
        return Labels(energy=float(np.sum(x**2)), forces=forces)

    def _misbehave(self, element):
        if element == "He":
            time.sleep(1000)
        elif element == "Li":
            os.kill(os.getpid(), signal.SIGKILL)
        elif element == "Be":
            raise CalculationFailed("no convergence in 3 cycles", kind="not-converged")
        elif element == "B":
            raise ZeroDivisionError("a mistake of the engine")
        elif element == "C":  # dies the first time only
            with open(self.log) as stream:
                begun = sum(line.split()[1] == "C" for line in stream)
            if begun == 1:
                print("about to abort", file=sys.stderr, flush=True)
                os.abort()
        elif element == "N":
            print("noise on standard output", flush=True)
            os.write(1, b"more noise\n")
        elif element == "O":  # a program of its own, then hangs
            child = subprocess.Popen(["sleep", "1000"])
            with open(self.log, "a") as stream:
                stream.write(f"{child.pid} child 0\n")
            time.sleep(1000)
