"""Make docs/report.png from a real page in a real browser: ``python docs/report_picture.py``, from the checkout.

Needs the `dev` extra, and Chromium with its chromedriver.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

FOLDER = Path(__file__).resolve().parent
MEDIA = FOLDER.parent / "tests" / "media"
WIDTH, HEIGHT = 1280, 800
SONGS = ("set", "eastern-dreams.mp3", "void-sensor.ogg")
PRESS = "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: arguments[0], bubbles: true}))"


def main() -> None:
    """Make the page, open a song, move to its tenth second, and take the picture."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        command = [sys.executable, "-m", "samptag", "report", *SONGS, "-o", str(page), "--hop", "0.5"]
        subprocess.run(command, cwd=MEDIA, check=True)
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for switch in ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars", "disable-background-networking"):
            options.add_argument(f"--{switch}")
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver") or ""))
        screen = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        driver.get(f"{page.as_uri()}#song-24")
        time.sleep(1)
        for _ in range(2):
            driver.execute_script(PRESS, "ArrowRight")
        time.sleep(1)
        picture = b64decode(driver.execute_cdp_cmd("Page.captureScreenshot", {})["data"])
        driver.quit()
    (FOLDER / "report.png").write_bytes(picture)


if __name__ == "__main__":
    main()
