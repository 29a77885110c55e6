"""What a reader is: a function from a path and options to entries, one after another.

A reader streams: it never holds more than a piece of the file. It yields what the file says,
NaN and absurd numbers included (the doctor wants to see them), with shapes that fit, and raises
`BadInput` for anything else. Nothing of the file is executed or unpickled.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from karat.data.entry import Entry
from karat.data.read_options import ReadOptions


@runtime_checkable
class Reader(Protocol):
    """Entries of a file or folder in order, in eV and Å."""

    def __call__(self, path: Path, options: ReadOptions) -> Iterator[Entry]:
        """Every structure with what labels it has.

        Raises:
            BadInput: what cannot be read, with the place; a unit that neither file nor options
                state; a key in the options that nothing of the file has.
        """
        ...
