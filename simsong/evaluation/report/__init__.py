"""The report: one HTML page that needs nothing but itself, from which a person can read what was done,
whether WNS beat NS, and how sure that is."""

from simsong.evaluation.report.clips import Clip, encode_clips
from simsong.evaluation.report.data import Neighbours, ReportData
from simsong.evaluation.report.page import render
from simsong.evaluation.report.songs import examples

__all__ = ["Clip", "Neighbours", "ReportData", "encode_clips", "examples", "render"]
