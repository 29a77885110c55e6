"""Foreign libraries raise anything on a broken file; here it becomes one `BadInput`.

Checked: tests/data/test_fuzz_readers.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from karat.core.errors import BadInput


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Whatever is raised inside is raised as `BadInput` with the path and `what` it should be.

    Raises:
        BadInput: as it is (the path before it where it lacks), or made of any other exception.
    """
    try:
        yield
    except BadInput as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise BadInput(
            f"{path}: cannot be read as {what} ({type(error).__name__}: {said}). "
            "Check that the file is whole: write or download it again."
        ) from error
