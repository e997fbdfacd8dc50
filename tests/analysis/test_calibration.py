import numpy as np
import pytest

from mnist_lab.analysis import calibration


def test_a_temperature_is_found_again(answers):
    found, labels = answers
    fitted = calibration.fit_temperature(found[0], labels)
    hot = calibration.cooled(found[0], 1 / 2)  # twice as confident
    assert fitted == pytest.approx(1, abs=0.1)
    assert calibration.fit_temperature(hot, labels) == pytest.approx(2 * fitted, rel=0.02)
    assert np.array_equal(calibration.cooled(found[0], 3.0).argmax(-1), found[0].argmax(-1))


def test_too_much_confidence_shows_and_what_is_calibrated_does_not(answers):
    found, labels = answers
    calibrated, sure = found[0], calibration.cooled(found[0], 0.5)
    lucky = calibration.expected_if_calibrated(calibrated)
    assert 0 < calibration.calibration_error(calibrated, labels) < 3 * lucky
    assert calibration.calibration_error(sure, labels) > 4 * calibration.expected_if_calibrated(sure)


def test_claims_hold_every_answer_once_and_cover_the_truth(answers):
    found, labels = answers
    claims = calibration.reliability(found, labels)
    assert sum(one.answers for one in claims) == pytest.approx(3000)
    wrong = sum(one.answers * one.observed for one in claims)
    assert wrong == pytest.approx((found.argmax(-1) != labels).mean() * 3000)
    large = [one for one in claims if one.answers > 100]
    assert all(one.interval[0] - 0.03 < one.claimed < one.interval[1] + 0.03 for one in large)


def test_risk_falls_with_what_is_left_out(answers):
    found, labels = answers
    risks = calibration.risk_by_coverage(found[0], labels)
    assert risks[-1] == pytest.approx((found[0].argmax(-1) != labels).mean())
    assert risks[300] < 0.3 * risks[-1]


def test_a_threshold_leaves_the_surest(answers):
    found, labels = answers
    everything = calibration.apply_threshold(found[:1], labels, 0.0)
    told = calibration.apply_threshold(found[:1], labels, 0.9)
    assert everything.unsure == 0 < told.unsure < 1
    assert told.risk < everything.risk
