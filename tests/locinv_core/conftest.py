"""Fixtures that several test modules of the core share: tiny models, made once, which no test may change."""

from __future__ import annotations

import pytest

from pinpoint.locinv_core.model import EditModel
from pinpoint.tests.locinv_core import tiny_models


@pytest.fixture(scope="session", name="tiny_model")
def _tiny_model() -> EditModel:
    """A tiny model that predicts ε, float32, on the CPU."""
    return tiny_models.tiny_model()


@pytest.fixture(scope="session", name="tiny_v_model")
def _tiny_v_model() -> EditModel:
    """The same weights, read as a v-prediction."""
    return tiny_models.tiny_model("v_prediction")
