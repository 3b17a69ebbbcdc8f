"""A headless browser for the tests of pages: Chromium, driven by Playwright, and axe."""

import contextlib
import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
_MILLISECONDS = 60_000
_LOCAL = ("127.0.0.1", "127.0.0.2", "localhost")

expect.set_options(timeout=_MILLISECONDS)


@contextlib.contextmanager
def started(*flags: str) -> Iterator[Browser]:
  """Starts the machine's Chromium with extra flags; skips the test if there is none."""
  executable = next(filter(None, map(shutil.which, _NAMES)), None)
  if executable is None:
    pytest.skip(f"none of {', '.join(_NAMES)} is installed")
  with sync_playwright() as playwright:
    chromium = playwright.chromium.launch(executable_path=executable, args=[*_FLAGS, *flags])
    yield chromium
    chromium.close()


@contextlib.contextmanager
def opened(browser: Browser, url: str, *permissions: str) -> Iterator[Page]:
  """Opens a page of this machine; asserts that it loads nothing from other hosts.

  Args:
    browser: the result of `started`.
    url: the URL of the page.
    permissions: the permissions that the user grants, such as "camera".
  """
  outside: list[str] = []

  def refuse(route: Route) -> None:
    outside.append(route.request.url)
    route.abort()

  size = {"width": 1080, "height": 720}
  with browser.new_context(viewport=size, permissions=list(permissions)) as context:
    context.set_default_timeout(_MILLISECONDS)
    context.route(lambda address: urlsplit(address).hostname not in _LOCAL, refuse)
    page = context.new_page()
    page.goto(url)
    yield page
  assert outside == []


def violations(page: Page) -> list[str]:
  """Returns the accessibility violations that axe finds on the page; skips without axe."""
  axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
  found = axe.run(page).response["violations"]
  return [
    f"{each['impact']}: {each['id']}: {node['target']}" for each in found for node in each["nodes"]
  ]
