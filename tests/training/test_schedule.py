import pytest

from norface.training.schedule import ScheduleConfig


def test_constant_rate_is_whole_from_the_first_step():
    assert [ScheduleConfig().factor(step, 10) for step in (0, 9)] == [1, 1]


def test_warmup_climbs_in_equal_steps():
    schedule = ScheduleConfig(warmup_steps=3)
    found = [schedule.factor(step, 10) for step in range(5)]
    assert found == pytest.approx([0.25, 0.5, 0.75, 1, 1])


def test_cosine_is_half_way_in_the_middle_and_ends_at_final():
    schedule = ScheduleConfig(kind="cosine", final=0.2)
    assert schedule.factor(0, 100) == pytest.approx(1)
    assert schedule.factor(50, 100) == pytest.approx(0.6)
    assert schedule.factor(100, 100) == pytest.approx(0.2)
    assert schedule.factor(500, 100) == pytest.approx(0.2)
