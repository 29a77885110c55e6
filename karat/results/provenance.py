"""`Provenance`: who computed a result, with what, from what."""

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import karat

PACKAGES = ("numpy", "scipy", "jax", "ase", "rdkit", "tblite", "pyscf", "openmm", "vesin")


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of karat, Python and the packages that numbers depend on (without importing)."""
    found = {"karat": karat.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@lru_cache(maxsize=1)
def hardware() -> dict[str, str]:
    """Processor model, cores this process may use, memory, architecture."""
    cpu = platform.processor() or "unknown"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].split(":", 1)[1].strip() if names else cpu
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {"cpu": cpu, "cores": str(cores), "architecture": platform.machine()}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        found["memory"] = f"{memory / 2**30:.0f} GiB"
    return found


@dataclass(frozen=True)
class Provenance:
    """What a number depends on.

    Attributes:
        versions: package → version.
        hardware: of the machine that computed it.
        inputs: name → digest of what went in.
        seeds: name → seed.
        created: UTC time, ISO 8601.
        seconds: wall time it took; a timing, not part of a result's identity.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    seeds: Mapping[str, int] = field(default_factory=dict)
    created: str = ""
    seconds: float | None = None

    @classmethod
    def now(
        cls,
        inputs: Mapping[str, str],
        seeds: Mapping[str, int] | None = None,
        seconds: float | None = None,
    ) -> "Provenance":
        """With this process's versions and hardware and the present time."""
        return cls(
            versions=dict(versions()),
            hardware=dict(hardware()),
            inputs=dict(inputs),
            seeds=dict(seeds or {}),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=seconds,
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "versions": dict(self.versions),
            "hardware": dict(self.hardware),
            "inputs": dict(self.inputs),
            "seeds": dict(self.seeds),
            "created": self.created,
            "seconds": self.seconds,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Provenance":
        """The inverse of `as_dict`."""
        return cls(**dict(values))
