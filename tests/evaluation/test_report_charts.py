"""The report's pictures: what they leave out, how far their axes reach, where their labels stand."""

from __future__ import annotations

import numpy as np
import pytest

from simsong.evaluation.report.charts import Curve, Line, curve_chart, line_chart, point_map, spread, ticks
from simsong.evaluation.report.words import count, css, duration, interval, listed, number, percent, said


def test_ticks_enclose_and_are_round():
    assert ticks(0.31, 4.2) == [0, 1, 2, 3, 4, 5]
    assert ticks(3, 3) == [2.4, 2.6, 2.8, 3, 3.2, 3.4, 3.6]
    assert ticks(1.770281672, 1.770281675) == ticks(1.77, 1.77)
    assert ticks(0, 0) == [-0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6] and max(ticks(1e-4, 1e-4)) < 2e-4


def test_lines_leave_out_what_is_not_finite():
    assert line_chart([Line("NS", "ns", np.array([1.0]), np.array([2.0]))]) is None
    assert line_chart([]) is None
    chart = line_chart([Line("NS", "ns", np.arange(4.0), np.array([1, np.nan, 3, np.inf]))])
    assert chart is not None and "nan" not in chart.svg and "inf" not in chart.svg


def test_the_best_point_is_marked_where_others_are_not_finite():
    line = Line("NS", "ns", np.array([10.0, 20, 30]), np.array([np.nan, 0.5, 0.25]), marked=1)
    chart = line_chart([line], smooth=False)
    assert chart is not None
    assert "NS: 0.5 at 20, the best" in chart.svg and "NS: 0.25 at 30<" in chart.svg
    assert chart.svg.count("best") == 2                     # its class and its title


def curve(y: list[float], name: str = "NS") -> Curve:
    values = np.array(y)
    return Curve(name, "ns", values, values - 0.1, values + 0.1)


def test_curves_stand_on_a_logarithmic_axis():
    chart = curve_chart("recall", np.array([1.0, 10, 100]), [curve([0.2, 0.4, 0.8])], np.array([0.5, 1, 1]))
    assert chart is not None
    assert chart.x_ticks == [("1", 0), ("10", pytest.approx(0.5)), ("100", 1)]
    assert chart.y_ticks[-1] == ("1", 1)
    assert "M0.0 800.0L500.0 600.0L1000.0 200.0" in chart.svg                   # the line itself
    assert "M0.0 700.0L500.0 500.0L1000.0 100.0L1000.0 300.0L500.0 700.0L0.0 900.0Z" in chart.svg   # its band
    assert "M0.0 500.0L500.0 0.0L1000.0 0.0" in chart.svg                       # the ceiling
    assert "NS at 10: 0.400 [0.300, 0.500]" in chart.svg
    assert chart.ends == [("NS", "ns", 0.8)]


def test_a_ceiling_out_of_reach_ends_at_the_edge():
    """Values up to 0.095 on an axis to 0.1: the ceiling, 0.05 to 0.25, leaves it a quarter on."""
    low = Curve("NS", "ns", np.array([0.01, 0.08]), np.array([0.01, 0.07]), np.array([0.01, 0.09]))
    chart = curve_chart("recall", np.array([1.0, 10]), [low], np.array([0.05, 0.25]))
    assert chart is not None and chart.y_ticks[-1] == ("0.1", 1)
    assert "M0.0 500.0L250.0 0.0" in chart.svg
    chart = curve_chart("recall", np.array([1.0, 10]), [low], np.array([0.5, 0.9]))
    assert chart is not None and "ceiling" not in chart.svg


def test_curves_without_intervals_have_no_band():
    none = Curve("NS", "ns", np.array([0.1, 0.2]), np.full(2, np.nan), np.full(2, np.nan))
    chart = curve_chart("recall", np.array([1.0, 10]), [none])
    assert chart is not None and "band" not in chart.svg and "NS at 1: 0.100<" in chart.svg
    assert curve_chart("recall", np.array([10.0]), [none]) is None
    assert curve_chart("recall", np.array([1.0, 10]), []) is None


def test_labels_move_apart_and_no_further():
    def at(*places: float) -> list[float]:
        return [round(place, 3) for *_, place in spread([(str(i), "", p) for i, p in enumerate(places)], 0.1)]

    assert at(0.2, 0.9) == [0.9, 0.2]
    assert at(0.5, 0.5) == [0.55, 0.45]
    assert at(0.5, 0.52, 0.48) == [0.6, 0.5, 0.4]
    assert at(0.5, 0.58, 0.9) == [0.9, 0.59, 0.49]
    assert at(1, 1, 1) == [1, 0.9, 0.8]
    assert at(0, 0, 0.15) == [0.2, 0.1, 0]
    assert [name for name, *_ in spread([("low", "", 0.1), ("high", "", 0.9)])] == ["high", "low"]


def test_the_map_names_its_points():
    svg = point_map(np.array([[0.0, 0], [1, 1], [2, 0]]), ["g0", "g1", "g0"], ["<a>", "b", "c"])
    assert svg.count("<g ") == 2 and "<title>&lt;a&gt;</title>" in svg
    assert "M20 980h" in svg and "M500 20h" in svg and "M980 980h" in svg       # 20 from each edge


def test_numbers_are_written_as_a_person_writes_them():
    assert [number(None), number(-0.25, 3), number(12345), number(0.1)] == ["–", "−0.250", "12,345", "0.1"]
    assert [percent(0.123), percent(0.0123), percent(0.0), percent(1)] == ["12 %", "1.2 %", "0 %", "100 %"]
    assert [count(1, "query", "queries"), count(2000, "song")] == ["1 query", "2,000 songs"]
    assert [duration(48), duration(1812), duration(18720)] == ["48 s", "30 min", "5.2 h"]
    assert [listed([]), listed(["a"]), listed(["a", "b", "c"])] == ["", "a", "a, b and c"]
    assert interval({"value": 1, "low": -0.1, "high": 0.2}) == "[−0.100, 0.200]"
    assert interval({"value": 1, "low": None, "high": None}) == interval(None) == ""
    assert [said(True), said(None), said([1, 0.123456]), said("x")] == ["yes", "–", "1, 0.1235", "x"]


def test_a_method_that_is_not_known_has_a_class_of_its_own():
    assert css("wns") == "wns"
    assert css('x" onload="y').startswith("own") and css("my-net") == css("my-net")
