"""A headless Chromium for the tests of pages, through Playwright with the system's own Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Dialog, Page, expect, sync_playwright

#: What Debian, Ubuntu and Google call it.
_NAMES = ("chromium", "chromium-browser", "google-chrome")


def _found() -> str | None:
    return next((path for path in map(shutil.which, _NAMES) if path), None)


def available() -> str | None:
    """None where a Chromium is installed, else the reason why no page can be opened."""
    return None if _found() else "Chromium is not installed"


@contextmanager
def started() -> Iterator[Browser]:
    """A browser until the end of the block. Chromium's sandbox does not start as root."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=_found(), args=arguments)
        try:
            yield browser
        finally:
            browser.close()


class OpenedPage:
    """A page out of a file, what its console said and what it asked of the network."""

    def __init__(
        self, browser: Browser, path: Path, scheme: Literal["light", "dark"] = "light", width: int = 1360
    ) -> None:
        self.context = browser.new_context(
            color_scheme=scheme,
            reduced_motion="reduce",
            viewport={"width": width, "height": 900},
            permissions=["clipboard-read", "clipboard-write"],
        )
        self.page: Page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("dialog", self._dismissed)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def _dismissed(self, dialog: Dialog) -> None:
        self.said.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def says(self, where: str, text: str) -> None:
        """Wait until an element holds exactly this text (not by a script: the page's policy allows none)."""
        expect(self.page.locator(where)).to_have_text(text)

    def clipboard(self) -> str:
        return str(self.page.evaluate("navigator.clipboard.readText()"))

    def column(self, number: int) -> list[str]:
        """The texts of one column of the hits, from 1: time, rule, what, user, address, application."""
        cells = self.page.locator(f"#table tbody tr > td:nth-child({number + 1})")
        return cells.all_text_contents()
