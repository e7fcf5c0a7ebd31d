"""The report: everything that is known of a run on a data set, as one HTML file for people who sign."""

from ifam.report.write import write_report

__all__ = ["write_report"]
