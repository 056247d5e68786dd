"""Debian's Chromium, driven without a window, and what a page may not do in it."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import GUNICORN, Service, running
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

CHROMIUM = shutil.which("chromium")

# Chromium starts nothing of its own that asks the network.
QUIET = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]


@pytest.fixture(scope="session")
def site() -> Iterator[Service]:
    with running(GUNICORN) as service:
        yield service


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no chromium is installed; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


class Tab:
    """A page of one service; `complaints` are errors in its console and requests to any other host."""

    def __init__(self, context: BrowserContext, url: str):
        self.page: Page = context.new_page()
        self.url = url
        self.complaints: list[str] = []
        self.addresses: list[str] = []
        self.page.on("request", lambda request: self._asked(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._said)

    def open(self, path: str = "/") -> Page:
        self.page.goto(self.url + path)
        return self.page

    def _asked(self, address: str) -> None:
        self.addresses.append(address)
        if not address.startswith((self.url + "/", "data:", f"blob:{self.url}/")):
            self.complaints.append(f"asked {address}")

    def _said(self, message: Any) -> None:
        # Chromium reports each answer of 400 and more; a refused customer is no fault of the page.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)


@pytest.fixture
def tabs(chromium: Browser, site: Service) -> Iterator[Any]:
    """Opens tabs, each in a fresh profile; at the end none of them may have a complaint."""
    opened: list[Tab] = []

    def tab(url: str = site.url, **options: Any) -> Tab:
        context = chromium.new_context(viewport={"width": 1280, "height": 900}, **options)
        context.set_default_timeout(20_000)
        opened.append(Tab(context, url))
        return opened[-1]

    yield tab
    for each in opened:
        each.page.context.close()
    assert [complaint for each in opened for complaint in each.complaints] == []


@pytest.fixture
def page(tabs: Any) -> Page:
    """The page for people, with the first answer shown."""
    opened: Page = tabs().open()
    opened.locator("#reasons li").first.wait_for()
    return opened
