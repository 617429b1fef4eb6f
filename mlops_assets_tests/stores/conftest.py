"""A Bento of the small product, built once for all modules that serve it."""

import pytest

from mlops_assets.stores.bento_store import BentoStore
from mlops_assets_tests.late_flights import PRODUCT, contract, saved

LABELS = {"run_id": "a1b2", "product": PRODUCT}


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    return BentoStore(tmp_path_factory.mktemp("bentos"))


@pytest.fixture(scope="session")
def bento(store, model_folder):
    return build(store, model_folder)


def build(store, model_folder, said=None):
    return store.build(
        name=PRODUCT, model_folder=model_folder, contract=said or contract(), labels=LABELS
    )
