"""HTML as text, Markdown and JSON: content, size, escaping, and all of it without JAX."""

import html.parser
import json
import re
import subprocess
import sys

import pytest

from karat.report.html import CONTENT_POLICY, plotly_source
from karat.report.write import MOST_BYTES, render, write_report

HOSTILE = "</script><script>alert(1)</script>`|*[x](javascript:1)"


class Outline(html.parser.HTMLParser):
    """Ids, link targets, resources and scripts of a page, by Python's own parser."""

    def __init__(self):
        super().__init__()
        self.ids, self.targets, self.resources, self.scripts = [], [], [], []
        self.inside = False

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.targets += [given["href"]] if tag == "a" else []
        self.resources += [given[k] for k in ("src", "srcset", "action", "data") if k in given]
        self.resources += [given["href"]] if tag == "link" else []
        self.inside = tag == "script"
        self.scripts += [""] if self.inside else []

    def handle_data(self, data):
        if self.inside:
            self.scripts[-1] += data

    def handle_endtag(self, tag):
        self.inside = False


def outline(text):
    parser = Outline()
    parser.feed(text)
    return parser


def test_the_page_is_one_file_with_working_anchors(page):
    text = page.read_text()
    found = outline(text)
    assert found.resources == []
    assert all(target.startswith("#") for target in found.targets)
    assert {target[1:] for target in found.targets} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))
    assert "default-src 'none'" in CONTENT_POLICY
    assert CONTENT_POLICY.replace("'", "&#x27;") in text
    assert text.count(plotly_source()[:2000]) == 1


def test_the_page_stays_below_its_limit_with_much_data(example, tmp_path):
    """40 000 points a cloud (2 clouds of 5 contestants) would be 16 MB of text."""
    folder = example.write_example(tmp_path, large=40_000)
    path = write_report(folder)
    assert path.stat().st_size < MOST_BYTES
    data = json.loads(outline(path.read_text()).scripts[0])
    clouds = [s for c in data["charts"] if c["kind"] == "parity" for p in c["panels"]
              for s in p["series"]]  # fmt: skip
    assert clouds
    assert all(100 < len(s["x"]) == len(s["y"]) <= 700 for s in clouds)


def test_every_number_has_its_interval_or_the_reason(folder, page):
    document = json.loads(render(folder, "json"))
    text = page.read_text()
    for assay in document["assays"]:
        for score in assay["scores"]:
            for metric in score["metrics"]:
                if metric["low"] is None:
                    assert metric["why_no_interval"] in text
    assert "SCC convergence at accuracy 0.1" in text
    assert "zero forces" in text


def test_json_says_what_the_page_says(folder):
    document = json.loads(render(folder, "json"))
    assert document["schema"] == 1
    people = {c["name"]: c for c in document["contestants"]}
    assert len(people) == 8
    key = next(h["key"] for h in document["headline"] if h["metric"] == "force_mae")
    best = people["bpnn-200"]["headline"][key]
    # 24 ln(1.4/0.075)/ln(1.4/1e-3) = 9.6962, by hand from DESIGN.md's formula
    assert best["karats"] == pytest.approx(9.6962, abs=1e-4)
    assert best["best"] is True
    assert people["gfn2_xtb"]["karats"] is None
    assert people["exploding"]["karats"] == 0.0
    assert people["bpnn-200"]["seconds_per_call"] == pytest.approx(9e-4)
    assert document["comparison"]["tables"][0]["differences"]
    kinds = {failure["status"] for failure in document["failures"]}
    assert kinds == {"failed", "missing", "not-applicable"}
    assert document["campaign"]["seed"] == 7


def test_markdown_has_tables_with_one_width(folder):
    text = render(folder, "md")
    headings = ["# Ethanol", "## Contestants", "## All metrics", "### Torsion profiles"]
    headings += ["## Data check", "## Failures", "## Provenance", "## How to read this"]
    for heading in headings:
        assert f"\n{heading}" in f"\n{text}"
    assert "**75.0 meV/Å (64.5 – 87.8)**" in text
    tables = re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE)
    assert len(tables) == 7
    for grid in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in grid.splitlines()}
        assert len(widths) == 1


def test_forces_that_are_no_gradient_are_labelled_everywhere(folder, page):
    people = {c["name"]: c for c in json.loads(render(folder, "json"))["contestants"]}
    assert [name for name, who in people.items() if not who["conservative"]] == ["bpnn-50"]
    assert "| bpnn-50 (non-conservative) |" in render(folder, "md")
    text = page.read_text()
    assert text.count(">non-conservative</span>") == 1
    assert "bpnn-50: forces are predicted directly" in text


def test_hostile_names_are_escaped_everywhere(example, tmp_path):
    folder = example.write_example(tmp_path, rename={"mmff94s": HOSTILE})
    text = render(folder)
    assert HOSTILE not in text
    assert "alert(1)</script>" not in text
    assert "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in text
    data = json.loads(outline(text).scripts[0])
    assert HOSTILE in data["contestants"]  # whole, and only as data
    assert len(outline(text).scripts) == 5
    markdown = render(folder, "md")
    assert "<script" not in markdown.replace("\\<", "")
    assert "\\[x\\](javascript:1)" in markdown
    assert json.loads(render(folder, "json"))["contestants"]


def test_the_same_folder_gives_the_same_bytes(folder):
    for format in ("html", "md", "json"):
        assert render(folder, format) == render(folder, format)


def test_every_format_is_written_without_jax(folder, tmp_path):
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('jax', 'jaxlib', 'equinox', 'torch', 'rdkit'):\n"
        "            raise ImportError(f'{name} imported by the report')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from pathlib import Path\n"
        "from karat.cli.report import report\n"
        f"for format in ('html', 'md', 'json'):\n"
        f"    report(Path({str(folder)!r}), format, Path({str(tmp_path)!r}) / format)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / name) for name in ("html", "md", "json")]
    assert (tmp_path / "md").read_text() == render(folder, "md")


def test_the_verb_prints_json_alone_on_standard_output(folder, capsys):
    from karat.cli.report import report

    report(folder, as_json=True)
    assert json.loads(capsys.readouterr().out)["name"] == "ethanol"
