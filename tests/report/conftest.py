"""A library with hostile names, the page of it, and a browser that looks at it."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from report_pages import SCRIPT_NAME, make_page
from tiny_weights import save_tiny_weights

from samptag.tagging.tagger import Tagger

PATIENCE_SECONDS = 120


@pytest.fixture(scope="session")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Tagger:
    return Tagger.from_pretrained(save_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors"))


@pytest.fixture(scope="session")
def library(media: Path, short_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of each clip of set/ in a folder, and beside it a file that is markup by name, one with every odd
    character and one that is no music."""
    folder = tmp_path_factory.mktemp("library")
    shutil.copytree(short_set, folder / "set")
    shutil.copy(media / "eastern-dreams.mp3", folder / SCRIPT_NAME)
    shutil.copy(media / "void-sensor.ogg", folder / "100% #1 & \"x\" 'ü'?.ogg")
    (folder / "broken.mp3").write_bytes(b"no music")
    return folder


@pytest.fixture(scope="session")
def page(library: Path, tagger: Tagger) -> Path:
    return make_page(library / "report.html", [library], tagger, title="</title><script>alert(2)</script>")


class Browser:
    """Chromium without a screen, and what it said and asked for."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path, *, fragment: str = "") -> None:
        """Load a page anew, forgetting what the one before did."""
        self.driver.get("about:blank")
        self.console(), self.requests()
        self.driver.get(path.as_uri() + fragment)

    def run(self, code: str) -> Any:
        """What JavaScript gives back in the page."""
        return self.driver.execute_script(code)

    def wait(self, condition: str) -> Any:
        """The value of an expression once it is true."""
        return self._until(lambda driver: driver.execute_script(f"return {condition}"))

    def _until(self, look: Callable[[Any], Any]) -> Any:
        from selenium.webdriver.support.wait import WebDriverWait

        return WebDriverWait(self.driver, PATIENCE_SECONDS, 0.02).until(look)

    def press(self, *keys: str) -> None:
        """Type on the keyboard."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def click(self, selector: str, *, across: float = 0.5, down: float = 0.5) -> None:
        """Click with the mouse on a place of an element, as shares of its width and height."""
        from selenium.webdriver.common.action_chains import ActionChains

        element = self.driver.find_element("css selector", selector)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        box = self.driver.execute_script(
            "const b = arguments[0].getBoundingClientRect(); return [b.width, b.height]", element
        )
        x, y = (round((share - 0.5) * size) for share, size in zip((across, down), box, strict=True))
        ActionChains(self.driver).move_to_element_with_offset(element, x, y).click().perform()

    def console(self, *, at_least: int = 0) -> list[str]:
        """What the console has shown since the last call, so many messages at least: errors, warnings, refusals."""
        said: list[str] = []
        self._until(
            lambda driver: said.extend(e["message"] for e in driver.get_log("browser")) or len(said) >= at_least
        )
        return said

    def requests(self) -> list[str]:
        """The addresses that were asked for since the last call."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A real Chromium; tests that want one are skipped where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.chrome.service import Service

    program = shutil.which("chromium") or shutil.which("google-chrome")
    remote = shutil.which("chromedriver")
    if program is None or remote is None:
        pytest.skip("no Chromium with its chromedriver is installed")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    switches = ["headless=new", "disable-gpu", "mute-audio", "window-size=1280,900", "no-first-run"]
    switches.append("disable-dev-shm-usage")  # containers have little of it
    # What Chromium asks the network for on its own account is not what is tested.
    switches += ["disable-background-networking", "disable-component-update", "disable-sync", "disable-quic"]
    # As root, as in containers, Chromium has no sandbox to offer.
    if sys.platform == "linux" and os.geteuid() == 0:
        switches.append("no-sandbox")
    for switch in (*switches, f"user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for left in (2, 1, 0):  # Chromium has a minute to start, which may be little on a busy machine
        try:
            driver = webdriver.Chrome(options=options, service=Service(remote))
            break
        except WebDriverException:
            if not left:
                raise
    driver.set_script_timeout(PATIENCE_SECONDS)
    yield Browser(driver)
    driver.quit()
