"""A training whose audio does not keep up says so, once."""

import logging

import pytest

from samptag.training.log import Pace


def test_waiting_is_told_once_and_only_when_it_matters(caplog: pytest.LogCaptureFixture):
    pace = Pace()
    with caplog.at_level(logging.WARNING, "samptag"):
        pace.measure(100, waited=1.0, seconds=10.0)
        pace.warn_of_waiting(pace.wait_share)
        pace.measure(3, waited=0.9, seconds=1.0)
        pace.warn_of_waiting(pace.wait_share)
        assert not caplog.records
        pace.measure(100, waited=4.0, seconds=10.0)
        pace.warn_of_waiting(pace.wait_share)
        pace.warn_of_waiting(pace.wait_share)
    assert pace.segments_per_second == 10.0
    assert [record.getMessage()[:44] for record in caplog.records] == ["40 % of the time was spent waiting for audio"]
