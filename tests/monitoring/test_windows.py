"""When a window is cut, and when an alarm is raised and resolved."""

import pytest

from monitoring.comparison import Test, Window
from monitoring.windows import State, cuts


def window(*differing):
    tests = [
        Test(
            name=name,
            difference=0.5,
            p_value=0.0,
            threshold=0.1,
            differs=True,
            here="",
            there="",
        )
        for name in differing
    ]
    return Window(images=1, first=0, last=0, tests=tuple(tests))


@pytest.mark.parametrize(
    ("seen", "events"),
    [
        ("..x..", [None] * 5),
        ("xx", [None, "raised"]),
        ("x.x", [None, None, "raised"]),
        ("x..x", [None] * 4),
        ("xx.x.", [None, "raised", None, None, "resolved"]),
        ("xx..", [None, "raised", None, "resolved"]),
        ("xx..xx", [None, "raised", None, "resolved", None, "raised"]),
    ],
)
def test_two_of_three_windows_raise_and_two_of_three_resolve(seen, events):
    state = State()
    found = [state.add(window(*(["blur"] if mark == "x" else []))) for mark in seen]
    assert found == events
    assert state.judged == len(seen)
    assert state.differing == seen.count("x")
    assert state.alarms == events.count("raised")


def test_two_windows_that_differ_together_raise_an_alarm_and_keep_it():
    state, both = State(), window("class_share_of_two")
    assert both.differing == ()
    assert [state.add(each) for each in (window(), both, both, window())] == [
        None, "raised", None, "resolved",
    ]  # fmt: skip
    assert state.differing == 0


def test_why_is_told_most_often_first():
    state = State()
    for tests in (["b"], ["a", "b"], ["c"]):
        state.add(window(*tests))
    assert state.why == ("b", "a", "c")


@pytest.mark.parametrize(
    ("images", "size", "fewest", "expected"),
    [
        (199, 500, 200, []),
        (200, 500, 200, [(0, 200)]),
        (500, 500, 200, [(0, 250), (250, 500)]),
        (650, 500, 200, [(2, 218), (218, 434), (434, 650)]),
        (9_000, 500, 200, [(7500, 8000), (8000, 8500), (8500, 9000)]),
        (0, 500, 1, []),
    ],
)
def test_a_log_is_cut_into_its_newest_windows(images, size, fewest, expected):
    assert list(cuts(images, size, fewest)) == expected
