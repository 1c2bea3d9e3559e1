"""What every test runs under: no network, no display, no clock on property tests, one copy of the package."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

# Set before any library reads them: a test that needs a download is a bug, and must fail at once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
if "PYTEST_XDIST_WORKER" in os.environ:  # tests run side by side, so each has one thread to itself
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from pinpoint.locinv_core.backbones.stable_diffusion import EditModel

settings.register_profile("pinpoint", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("pinpoint")

ROOT = Path(__file__).resolve().parents[1]
LONGEST = "test_end_to_end.py"
"""Begun first, so that nothing waits for it at the end when files of tests run side by side."""


class RootIsAPlainFolder:
    """Collect the repository's root as a folder.

    It has an `__init__.py`, so pytest would take it for a package of tests and import it once more, under the
    name of the folder that the clone happens to lie in.
    """

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        return pytest.Dir.from_parent(parent, path=path) if path.resolve() == ROOT else None


def pytest_configure(config: pytest.Config) -> None:
    # A conftest's own hooks are not asked about the folders above it; a plugin's are.
    config.pluginmanager.register(RootIsAPlainFolder())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name != LONGEST)


@pytest.fixture(scope="session", name="tiny_model")
def _tiny_model() -> EditModel:
    """A tiny model that predicts ε, float32, on the CPU; no test may change it."""
    from pinpoint.tests.fixtures.tiny_models import tiny_model

    return tiny_model()


@pytest.fixture(scope="session", name="tiny_v_model")
def _tiny_v_model() -> EditModel:
    """The same weights, read as a v-prediction."""
    from pinpoint.tests.fixtures.tiny_models import tiny_model

    return tiny_model("v_prediction")
