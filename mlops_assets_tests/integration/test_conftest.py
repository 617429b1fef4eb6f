"""Homes that tests share: made once for all processes of a test run, and copied whole."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mlops_assets_tests.integration.conftest import once


class Factory:
    """Of pytest's, what `once` asks of it."""

    def __init__(self, folder):
        self.folder = folder

    def getbasetemp(self):
        return self.folder


def test_a_shared_home_is_made_once_and_the_others_wait_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    made = []

    def make(folder):
        folder.mkdir()
        made.append(folder)
        time.sleep(0.3)
        (folder / "whole").touch()

    def asked(worker):
        home = once(Factory(tmp_path / worker), "home", make)
        return home, (home / "whole").exists()

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(asked, ["popen-gw0", "popen-gw1", "popen-gw2"]))
    assert set(found) == {(tmp_path / "home", True)}
    assert made == [tmp_path / "home"]


def test_one_that_could_not_be_made_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)

    def fail(folder):
        (folder / "half").mkdir(parents=True)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        once(Factory(tmp_path), "home", fail)
    home = once(Factory(tmp_path), "home", lambda folder: folder.mkdir())
    assert list(home.iterdir()) == []
