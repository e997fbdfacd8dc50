"""A headless Chromium, driven by the DevTools protocol (https://chromedevtools.github.io/devtools-protocol)."""

import json
import shutil
import subprocess
import time
from pathlib import Path
from urllib.request import urlopen

from websocket import WebSocket

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = ("--headless", "--disable-gpu", "--no-sandbox", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio",
         "--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0")  # fmt: skip


class Browser:
    """A browser with one tab. Every method waits until what it asks for has happened."""

    def __init__(self, folder: Path):
        """Start it with its profile and downloads in ``folder``."""
        self.downloads = folder / "downloads"
        self.process = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port = wait_for(lambda: read(folder / "profile" / "DevToolsActivePort"), 30).split()[0]
            with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
                (tab,) = [tab for tab in json.load(answer) if tab["type"] == "page"]
            self.socket = WebSocket(skip_utf8_validation=True)  # which is slow, in Python
            self.socket.connect(tab["webSocketDebuggerUrl"], timeout=30, suppress_origin=True)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        self.count = 0
        self.events: list[dict] = []  # what the browser has said unasked
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))

    def close(self) -> None:
        """End the browser."""
        self.send("Browser.close")
        self.socket.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def send(self, method: str, **parameters) -> dict:
        """Give an order and return its result. Raises AssertionError if the browser refuses it."""
        return self.wait(self.post(method, **parameters))

    def post(self, method: str, **parameters) -> int:
        """Give an order without waiting, and return its number."""
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": parameters}))
        return self.count

    def wait(self, number: int) -> dict:
        """Return the result of the order with this number."""
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def open(self, address: str) -> None:
        """Open an address, wait until it is loaded, and forget the events before."""
        for url in ("about:blank", address):  # a new fragment alone would not load the page again
            self.events.clear()
            self.send("Page.navigate", url=url)
            wait_for(lambda url=url: self.run("document.readyState + ' ' + location.href") == f"complete {url}", 20)

    def run(self, code: str) -> object:
        """Return the value of a JavaScript expression, awaited if it is a promise."""
        result = self.send("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def call(self, code: str, *arguments: object) -> object:
        """Return what the JavaScript function ``code`` returns for ``arguments``."""
        return self.run(f"({code})(...{json.dumps(arguments)})")

    def said(self, *methods: str) -> list[dict]:
        """Return the parameters of the events since the page was opened."""
        self.run("0")  # events that came before have been read with the answer
        return [event["params"] for event in self.events if event.get("method") in methods]

    def resize(self, width: int, height: int, scale: float = 1, mobile: bool = False) -> None:
        """Make the window so many CSS pixels large, with ``scale`` pixels of the screen in each; a phone has touch."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        self.send("Emulation.setTouchEmulationEnabled", enabled=mobile, maxTouchPoints=5)

    def mouse(self, kind: str, x: float, y: float, button: str = "left") -> None:
        """Press, move or release the mouse; x and y are CSS pixels of the window."""
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=1, clickCount=1)

    def hurry(self, events: list[dict]) -> None:
        """Let the mouse do several things faster than the screen shows them."""
        for number in [self.post("Input.dispatchMouseEvent", **event) for event in events]:
            self.wait(number)

    def touch(self, kind: str, fingers: list[dict]) -> None:
        """Put fingers down, move or lift them: each is {"x", "y"}, and "id" if there are several."""
        self.send("Input.dispatchTouchEvent", type=kind, touchPoints=fingers)

    def press(self, key: str, code: int, text: str = "", modifiers: int = 0) -> None:
        """Press and release a key; ``code`` is the Windows virtual key code, modifiers: 2 control, 8 shift."""
        shared = {"key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        self.send("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **shared)
        self.send("Input.dispatchKeyEvent", type="keyUp", **shared)


def read(path: Path) -> str:
    """Return a file's text, "" if it is not there yet."""
    return path.read_text(encoding="utf-8") if path.exists() else ""


def wait_for(happened, seconds: float):
    """Return the first true value of ``happened()``. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := happened():
            return value
        time.sleep(0.02)
    raise TimeoutError(f"nothing happened for {seconds} seconds")
