"""A result for reading: as text, with rich on a terminal."""

from fastxent.report.plain import sections, text, title, with_error, write
from fastxent.report.tables import Table, number, percent, tables

__all__ = ["Table", "number", "percent", "sections", "tables", "text", "title", "with_error", "write"]
