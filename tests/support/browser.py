"""Debian's chromium without a window, told what to do through two pipes: so also one in a lab.

Source: the Chrome DevTools Protocol (``--remote-debugging-pipe``: JSON, each message ended by NUL,
read from descriptor 3 and written to 4).
"""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WAITS_S = 60.0
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-extensions",
    "--remote-debugging-pipe", "--hide-scrollbars",
)  # fmt: skip


class Page:
    """One page of a browser."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._number, self._rest, self._session = 0, b"", ""
        self.complaints: list[str] = []
        """What the browser refused or the page's script failed at; of no server that is away."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        said = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = said["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command's result; what else is told meanwhile is looked through for complaints."""
        self._number += 1
        asked: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            asked["sessionId"] = self._session
        os.write(self._to, json.dumps(asked).encode() + b"\0")
        while True:
            said = self._read()
            if said.get("id") == self._number:
                assert "error" not in said, said
                result: dict[str, Any] = said["result"]
                return result
            told = said.get("params", {})
            if said.get("method") == "Runtime.exceptionThrown" or (
                said.get("method") == "Log.entryAdded" and told["entry"]["source"] != "network"
            ):
                self.complaints.append(json.dumps(told))

    def open(self, url: str) -> None:
        """Go there."""
        self.call("Page.navigate", url=url)

    def value(self, script: str) -> Any:
        """What an expression of JavaScript is, there and now."""
        said = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def until(self, script: str, good: Callable[[Any], bool] = bool) -> Any:
        """The value of an expression once it is good; empty while the page lacks what it names.

        Raises:
            AssertionError: it does not become so.
        """
        end = time.monotonic() + WAITS_S
        tried = f"(() => {{ try {{ return {script} }} catch {{ return '' }} }})()"
        while not good(found := self.value(tried)):
            assert time.monotonic() < end, f"{script}: {found!r}"
            time.sleep(0.1)
        return found

    def key(self, name: str, code: int, text: str = "") -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if text and kind == "keyDown" else {}
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=name, windowsVirtualKeyCode=code, **more
            )

    def look(self, width: int, height: int, scheme: str = "light") -> None:
        """A window of that size; ``light`` or ``dark``."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def screenshot(self, path: Path) -> bytes:
        """A PNG of what is seen."""
        said = self.call("Page.captureScreenshot", format="png")
        image = base64.b64decode(said["data"])
        path.write_bytes(image)
        return image

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._back], [], [], WAITS_S)
            assert ready, "the browser says nothing"
            more = os.read(self._back, 1 << 20)
            assert more, "the browser has ended"
            self._rest += more
        one, _, self._rest = self._rest.partition(b"\0")
        said: dict[str, Any] = json.loads(one)
        return said


@contextmanager
def browser(
    profile: Path, within: Callable[[list[str]], Sequence[str]] = lambda words: words
) -> Iterator[Page]:
    """A browser with an empty page.

    Args:
        profile: a directory for it alone.
        within: the words that run others elsewhere, as on a machine of a lab.
    """
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    pipes = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
    words = ["chromium", *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
    argv = list(within(["setpriv", "--pdeathsig", "TERM", "bash", "-c", pipes, "-", *words]))
    with (profile.parent / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            argv, pass_fds=(theirs_in, theirs_out), stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        page = Page(ours_out, ours_in)
        yield page
        page._session = ""
        page.call("Browser.close")
        process.wait(WAITS_S)
    finally:
        os.close(ours_out)
        os.close(ours_in)
        process.terminate()
        process.wait()
