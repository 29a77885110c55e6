"""Peak resident memory of this process, where the system can tell."""

from dataclasses import dataclass
from pathlib import Path

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
MIB = 1024.0
"""kiB per MiB."""


@dataclass(frozen=True)
class Memory:
    """Resident memory of the process in MiB: before, and at its highest since `start`."""

    before: float
    peak: float


def start() -> float | None:
    """Forget the highest value so far; resident memory now in MiB, or `None` if not Linux.

    On Linux, writing 5 to `/proc/self/clear_refs` resets `VmHWM` (proc(5)); without that, the
    peak of the whole process's life would be charged to the last contestant.
    """
    try:
        _CLEAR.write_text("5")
        return _read("VmRSS")
    except (OSError, KeyError):
        return None


def stop(before: float | None) -> Memory | None:
    """Memory since `start`, or `None` where it could not be measured."""
    return None if before is None else Memory(before=before, peak=_read("VmHWM"))


def _read(key: str) -> float:
    rows = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines() if ":" in line)
    return int(rows[key].split()[0]) / MIB
