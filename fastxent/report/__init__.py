"""A result for reading: as text, with rich on a terminal."""

from fastxent.report.plain import number, percent, sections, text, title, with_error, write

__all__ = ["number", "percent", "sections", "text", "title", "with_error", "write"]
