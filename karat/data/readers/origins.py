"""Names, groups and frames of entries, decided while a file streams.

Checked: tests/data/readers/test_origins.py.
"""

import hashlib
from collections import Counter

import numpy as np
from jaxtyping import Int


class Origins:
    """Gives each structure of one file its name, group and frame.

    Structures with the same atoms in the same order, kind and charge are taken for one
    trajectory: they share a group and count its frames. The first such group is called as the
    file, further ones ``file/kind/formula``. What the file itself says goes before that.
    """

    def __init__(self, stem: str) -> None:
        self.stem = stem
        self._groups: dict[bytes, str] = {}
        self._words: Counter[str] = Counter()
        self._frames: Counter[str] = Counter()
        self._names: Counter[str] = Counter()
        self._index = 0

    def next(
        self,
        numbers: Int[np.ndarray, "atoms"],
        charge: int = 0,
        kind: str = "",
        name: str | None = None,
        group: str | None = None,
        frame: int | None = None,
    ) -> tuple[str, str, int]:
        """(name, group, frame) of the next structure; `None` is what the file does not say.

        Names are unique: repeated ones end in ``#2``, ``#3``, …
        """
        if group is None:
            group = self._group(numbers, charge, kind)
        if frame is None:
            frame = self._frames[group]
        self._frames[group] += 1
        if name is None:
            name = f"{self.stem}:{self._index}"
        else:
            self._names[name] += 1
            if self._names[name] > 1:
                name = f"{name}#{self._names[name]}"
        self._index += 1
        return name, group, frame

    def _group(self, numbers: np.ndarray, charge: int, kind: str) -> str:
        # a digest, so that memory does not grow with the size of the molecules
        digest = hashlib.blake2b(numbers.tobytes(), digest_size=16)
        digest.update(f"{charge}\0{kind}".encode(errors="surrogatepass"))
        key = digest.digest()
        found = self._groups.get(key)
        if found is None:
            words = "/".join(word for word in (self.stem, kind, formula(numbers)) if word)
            self._words[words] += 1
            number = self._words[words]
            if not self._groups:
                found = self.stem
            else:
                found = words if number == 1 else f"{words} ({number})"
            self._groups[key] = found
        return found


def formula(numbers: Int[np.ndarray, "atoms"]) -> str:
    """Formula with C and H first, as `Structure.formula`; atoms of unknown elements as X."""
    from ase.data import chemical_symbols

    values, counts = np.unique(numbers, return_counts=True)
    symbols: Counter[str] = Counter()
    for number, count in zip(values.tolist(), counts.tolist()):
        symbols[chemical_symbols[number] if 0 <= number < len(chemical_symbols) else "X"] += count
    order = [s for s in "CH" if s in symbols] + sorted(set(symbols) - set("CH"))
    return "".join(s if symbols[s] == 1 else f"{s}{symbols[s]}" for s in order)
