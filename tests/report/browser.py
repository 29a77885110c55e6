"""`check_page`: opens an HTML file in headless Chromium and says what happened.

Only the standard library: Chromium is driven through its debugging protocol over a pipe
(``--remote-debugging-pipe``), without a port, a server or a driver program. The browser may
resolve no host, and every request that is not the file itself is reported.

Other tests load this file through the fixture `browser` of `tests/report/conftest.py`, or by path:
``importlib.util.spec_from_file_location("browser", ROOT / "tests/report/browser.py")``.
"""

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECTIONS = (
    "summary",
    "contestants",
    "front",
    "learning",
    "parity",
    "errors",
    "drift",
    "torsions",
    "modes",
    "metrics",
    "worst",
    "data",
    "failures",
    "provenance",
    "reading",
)
_TRAMPOLINE = """
import fcntl, os, sys
read, write = int(sys.argv[1]), int(sys.argv[2])
read, write = (fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (read, write))
os.dup2(read, 3, inheritable=True)
os.dup2(write, 4, inheritable=True)
os.execvp(sys.argv[3], sys.argv[3:])
"""


def find_browser() -> str | None:
    """Path of a Chromium, or `None`."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass(frozen=True)
class PageCheck:
    """What a page did.

    Attributes:
        title: of the document.
        sections: ids of sections with visible content, in order.
        charts, drawn: number of charts (molecules included), and of those that were drawn.
        errors: console errors, exceptions, log entries of level error, policy violations.
        requests: URLs asked for other than the file itself and its data or blob URLs.
        answers: what the given scripts returned.
    """

    title: str
    sections: tuple[str, ...]
    charts: int
    drawn: int
    errors: tuple[str, ...]
    requests: tuple[str, ...]
    answers: tuple[Any, ...] = ()


@dataclass
class Browser:
    """One headless Chromium with one page."""

    process: subprocess.Popen
    reader: int
    writer: int
    events: list[dict] = field(default_factory=list)
    buffer: bytes = b""
    count: int = 0
    session: str = ""

    def call(self, method: str, timeout: float = 30.0, **parameters: Any) -> dict:
        """Send one command and wait for its answer; events on the way are kept."""
        self.count += 1
        message: dict[str, Any] = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.writer, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + timeout
        while True:
            found = self._next(until - time.monotonic())
            if found is None:
                raise TimeoutError(f"{method}: no answer from the browser in {timeout} s")
            if found.get("id") == self.count:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']}")
                return found["result"]

    def _next(self, timeout: float) -> dict | None:
        """The next message, or `None`; events are put aside, too."""
        until = time.monotonic() + timeout
        while b"\0" not in self.buffer:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.reader], [], [], left)[0]:
                return None
            block = os.read(self.reader, 1 << 20)
            if not block:
                raise RuntimeError(f"the browser ended (status {self.process.poll()})")
            self.buffer += block
        raw, _, self.buffer = self.buffer.partition(b"\0")
        message = json.loads(raw)
        if "method" in message:
            self.events.append(message)
        return message

    def evaluate(self, script: str, timeout: float = 30.0) -> Any:
        """Value of a JavaScript expression; promises are awaited."""
        found = self.call(
            "Runtime.evaluate", timeout, expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def listen(self, seconds: float) -> None:
        """Collect events for a while."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._next(left)

    def wait_for(self, script: str, timeout: float = 30.0) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + timeout
        while not self.evaluate(script):
            if time.monotonic() > until:
                raise TimeoutError(f"not true within {timeout} s: {script}")
            self.listen(0.05)

    def screenshot(self, path: Path, width: int, height: int) -> None:
        """Save what the window shows, as PNG."""
        self.resize(width, height)
        self.listen(0.3)
        shot = self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))

    def resize(self, width: int, height: int) -> None:
        """Set the size of the window."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def prefer(self, scheme: str) -> None:
        """Set the system's colour scheme: ``light`` or ``dark``."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def open(self, path: Path, timeout: float = 60.0) -> None:
        """Load a file and wait until its scripts are done."""
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait_for("document.readyState === 'complete'", timeout)


@contextlib.contextmanager
def browsing():
    """A running browser; ended, with its profile, at the end."""
    program = find_browser()
    if program is None:
        raise FileNotFoundError("no Chromium here; Debian: apt install chromium")
    down_read, down_write = os.pipe()
    up_read, up_write = os.pipe()
    profile = tempfile.mkdtemp(prefix="karat-browser-")
    arguments = [
        program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--no-first-run", "--disable-extensions", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--disable-default-apps",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-pipe",
        f"--user-data-dir={profile}", "about:blank",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", _TRAMPOLINE, str(down_read), str(up_write), *arguments],
        pass_fds=(down_read, up_write),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "HOME": profile, "XDG_CONFIG_HOME": profile, "XDG_CACHE_HOME": profile},
    )
    os.close(down_read)
    os.close(up_write)
    browser = Browser(process, up_read, down_write)
    try:
        target = browser.call("Target.createTarget", 60.0, url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        browser.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            browser.call(f"{domain}.enable")
        browser.resize(1280, 900)
        yield browser
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its own session: the browser's children, too
        process.wait()
        os.close(up_read)
        os.close(down_write)
        shutil.rmtree(profile, ignore_errors=True)


def complaints(browser: Browser) -> tuple[str, ...]:
    """Everything the page complained about so far."""
    found = []
    for event in browser.events:
        method, given = event["method"], event["params"]
        if method == "Runtime.exceptionThrown":
            detail = given["exceptionDetails"]
            found.append(str(detail.get("exception", {}).get("description", detail["text"])))
        elif method == "Runtime.consoleAPICalled" and given["type"] in ("error", "assert"):
            found.append(" ".join(str(a.get("value", a.get("description"))) for a in given["args"]))
        elif method == "Log.entryAdded" and given["entry"]["level"] == "error":
            found.append(given["entry"]["text"])
    return tuple(found)


def foreign_requests(browser: Browser, path: Path) -> tuple[str, ...]:
    """URLs other than the page, data and blobs that the page asked for."""
    own = path.resolve().as_uri()
    urls = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    ]
    return tuple(u for u in urls if u != own and not u.startswith(("data:", "blob:", "about:")))


_SHOWN = """Array.from(document.querySelectorAll('main section[id]'))
  .filter((s) => s.getBoundingClientRect().height > 40 && s.innerText.trim().length > 20)
  .map((s) => s.id)"""


def check_page(path: Path, *scripts: str, window: Browser | None = None) -> PageCheck:
    """Open a report, draw every chart, run scripts, and say what happened.

    Args:
        path: of the page.
        scripts: JavaScript expressions, evaluated at the end; see `PageCheck.answers`.
        window: a browser that runs already (`browsing`); by default one is started and ended.

    Raises:
        FileNotFoundError: there is no browser (see `find_browser`).
    """
    if window is None:
        with browsing() as started:
            return check_page(path, *scripts, window=started)
    window.events.clear()
    window.open(path)
    window.wait_for("document.documentElement.dataset.ready === '1'")
    window.evaluate("karat.drawAll().then(() => true)", timeout=60.0)
    answers = tuple(window.evaluate(script, timeout=60.0) for script in scripts)
    window.listen(0.2)
    charts = "document.querySelectorAll('.plot, canvas[data-molecule]').length"
    return PageCheck(
        title=window.evaluate("document.title"),
        sections=tuple(window.evaluate(_SHOWN)),
        charts=window.evaluate(charts),
        drawn=window.evaluate("document.querySelectorAll('[data-drawn=\"1\"]').length"),
        errors=complaints(window),
        requests=foreign_requests(window, path),
        answers=answers,
    )
