"""`write_report`: a campaign's output folder → HTML, Markdown or JSON. No JAX, nothing computed.

Checked: tests/report/test_formats.py, tests/report/test_browser.py.
"""

from pathlib import Path
from typing import Literal

from karat.core.errors import BadInput, suggestion
from karat.core.files import write_atomic
from karat.report.model import load_view

Format = Literal["html", "md", "json"]
FORMATS: tuple[Format, ...] = ("html", "md", "json")
MOST_BYTES = 8_000_000


def render(folder: Path, format: Format = "html") -> str:
    """The report as text.

    Raises:
        BadInput: an unknown format, or a folder that holds no campaign.
    """
    if format not in FORMATS:
        hint = suggestion(str(format), FORMATS)
        raise BadInput(f"report: there is no format '{format}'; {hint}")
    view = load_view(folder)
    if format == "md":
        from karat.report.markdown import render_markdown

        return render_markdown(view)
    if format == "json":
        from karat.report.json_output import render_json

        return render_json(view)
    from karat.report.html import render_html

    return render_html(view)


def write_report(folder: Path, out: Path | None = None, format: Format = "html") -> Path:
    """Write the report and return its path; by default ``report.html`` (.md, .json) in `folder`.

    Raises:
        BadInput: as `render`, or a path that cannot be written.
    """
    path = folder / f"report.{format}" if out is None else out
    if path.is_dir():
        raise BadInput(f"{path}: is a folder; name the file to write, e.g. {path}/report.{format}.")
    text = render(folder, format)
    try:
        write_atomic(path, text.encode())
    except OSError as error:
        raise BadInput(
            f"{path}: cannot be written ({error.strerror}). Name another file with --output."
        ) from error
    return path
