"""What a person sees in the browser: the graph, an evaluation with its picture, the experiment."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from mlops_assets.ml.gates import JUDGED
from mlops_assets_tests.integration.conftest import copy_home
from mlops_assets_tests.integration.served import Served, served

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE_MS = 60_000


def _chromium() -> str:
    if found := shutil.which("chromium"):
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        pytest.fail("chromium is missing and may be installed here: run `make browser`")
    pytest.skip("not run: chromium is not installed, and only root may install it")


@pytest.fixture(scope="module")
def ui(settled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    _chromium()
    home = copy_home(settled, tmp_path_factory.mktemp("browser") / "home")
    # Without the daemon: what the small settings of the tests left out is not made here.
    with served(home, "--no-daemon") as running:
        yield running


@pytest.fixture(scope="module")
def page(ui: Served) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_chromium(), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1800, "height": 1000})
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        yield page
        browser.close()


def test_the_graph_shows_the_groups_and_opens_a_product(ui: Served, page: Page) -> None:
    page.goto(f"{ui.dagster}/asset-groups")
    for group in ("nyc_flights", "flight_delays"):
        expect(page.get_by_text(group, exact=True).last).to_be_visible()
    page.goto(f"{ui.dagster}/asset-groups?expanded=global%40global%3Aflight_delays")
    for asset in ("feature_view", "training_set", "champion", "predictions", "drift"):
        expect(page.get_by_text(asset, exact=True).last).to_be_visible()


def test_the_evaluation_shows_its_gates(ui: Served, page: Page) -> None:
    page.goto(f"{ui.dagster}/assets/flight_delays/evaluation?view=checks")
    for gate in JUDGED:
        expect(page.get_by_text(gate, exact=True).first).to_be_visible()
    expect(page.get_by_text("Succeeded").first).to_be_visible()


@pytest.mark.parametrize("picture", ["roc_pr_calibration", "auc_by_month"])
def test_the_evaluation_shows_its_pictures(ui: Served, page: Page, picture: str) -> None:
    page.goto(f"{ui.dagster}/assets/flight_delays/evaluation")
    row = page.get_by_role("row").filter(has_text=picture)
    row.get_by_text("[Show Markdown]").click()
    shown = page.get_by_role("dialog").get_by_role("img", name=picture)
    expect(shown).to_be_visible()
    assert _natural_width(shown) > 300


def test_mlflow_shows_the_products_experiment_and_champion(ui: Served, page: Page) -> None:
    page.goto(f"{ui.mlflow}/#/experiments")
    expect(page.get_by_role("link", name="flight_delays").first).to_be_visible()
    page.goto(f"{ui.mlflow}/#/models")
    expect(page.get_by_role("link", name="flight_delays").first).to_be_visible()
    expect(page.get_by_text("champion").first).to_be_visible()


def _natural_width(image: Locator) -> int:
    # Zero until the browser has decoded it, and for ever where it cannot.
    return int(image.evaluate("async image => (await image.decode(), image.naturalWidth)"))
