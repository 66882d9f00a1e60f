"""Pictures of pages, for people who look at a test and for the documentation."""

from __future__ import annotations

import os
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 30  # within which a page comes to rest


def shoot(driver, name: str) -> Path:
    """
    Saves a picture of a browser's window, once two in a row are equal, in build/screenshots; a smaller one replaces the
    picture of this name in $SCREENSHOTS (`make screenshots`), if there is one.
    """
    last, deadline = b"", time.monotonic() + SECONDS
    while (now := driver.get_screenshot_as_png()) != last and time.monotonic() < deadline:
        last = now
        time.sleep(0.7)
    kept = ROOT / "build" / "screenshots" / f"{name}.png"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(now)
    folder = os.environ.get("SCREENSHOTS")
    if folder and (shown := ROOT / folder / f"{name}.png").exists():
        from PIL import Image

        Image.open(kept).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(shown, optimize=True)
    return kept
