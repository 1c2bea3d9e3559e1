"""Choices that the region nodes write out, so that they load fast, are the core's."""

from __future__ import annotations

from pinpoint.locinv_core.localization.prior_from_text import KEEPS
from pinpoint.region_core.anchors import DEFAULT_DISTANCE, DEFAULT_SMOOTHING
from pinpoint.region_core.estimators import ESTIMATORS
from pinpoint.region_core.proposals import SIZES
from pinpoint.region_core.proposing import ANCHORS
from pinpoint.region_core.search.budget import PLANS
from pinpoint.tests.nodes.test_choices import constant


def test_the_choices_are_those_of_the_core():
    assert sorted(constant("regions", "PLANS")) == sorted(PLANS)
    assert sorted(constant("regions", "ESTIMATORS")) == sorted(ESTIMATORS)
    assert sorted(constant("region_proposals", "ANCHORS")) == sorted(ANCHORS)
    assert constant("region_proposals", "DEFAULT_DISTANCE") == DEFAULT_DISTANCE
    assert constant("region_proposals", "DEFAULT_SMOOTHING") == DEFAULT_SMOOTHING
    assert sorted(constant("region_proposals", "SIZES")) == sorted(SIZES)
    assert sorted(constant("located_priors", "KEEPS")) == sorted(KEEPS)
