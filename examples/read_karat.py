"""What is inside a .karat file, with nothing but NumPy and safetensors installed.

    python read_karat.py P.karat

Copy it wherever you like: it does not need karat, and nothing in the file is executed.
"""

import json
import sys

import numpy as np
from safetensors import safe_open


def read(path: str) -> tuple[dict, dict[str, np.ndarray]]:
    """Header and arrays of a .karat file."""
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["karat"])
        return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def show(path: str) -> None:
    """Print the header, then each array with its shape, type, range and size."""
    header, arrays = read(path)
    print(json.dumps(header, indent=1, ensure_ascii=False))
    for name, array in sorted(arrays.items()):
        low, high = (array.min(), array.max()) if array.size else ("-", "-")
        print(f"{name}: {array.dtype} {list(array.shape)}, {low} … {high}, {array.nbytes} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    show(sys.argv[1])
