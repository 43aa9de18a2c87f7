"""Results for reading: as text, and as one HTML file with plots; several side by side.

>>> import numpy as np, fastxent as fx
>>> from fastxent import report
>>> result = fx.evaluate(np.array([[2.0, 0.0], [0.0, 0.0]]), [0, 1])
>>> report.html(result)[:15]  # with the extra: pip install "fastxent[report]"
'<!doctype html>'
"""

from fastxent.report.page import html, require_html
from fastxent.report.plain import text, title, write
from fastxent.report.reading import Result, as_result, read

__all__ = ["Result", "as_result", "html", "read", "require_html", "text", "title", "write"]
