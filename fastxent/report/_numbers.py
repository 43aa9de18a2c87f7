"""Numbers and foreign words, made fit for reading: the same on the terminal and on the page."""

from __future__ import annotations

import unicodedata
from math import isfinite, isinf, isnan

MISSING = "-"  # what a mean over no row is, an error of one row, and the like


def number(x: float, digits: int = 6) -> str:
    """A float for reading."""
    return MISSING if isnan(x) else f"{x:.{digits}g}"


def counted(n: int, what: str) -> str:
    """1 row, 2,000 rows."""
    return f"{n:,} {what if n == 1 else f'{what}es' if what.endswith('s') else f'{what}s'}"


def with_error(x: float, error: float) -> str:
    """A value and its error, to the same place: 0.1234 ± 0.0056."""
    if isnan(error) or error == 0.0 or not isfinite(x):
        return number(x)
    if isinf(error):
        return f"{number(x)} ± inf"
    # two digits of the error
    places = max(0, 1 - int(f"{error:.1e}".partition("e")[2]))
    if abs(x) >= 1e15 or error >= 1e15 or places > 15:
        return f"{number(x)} ± {error:.2g}"
    return f"{x:.{places}f} ± {error:.{places}f}"


def percent(x: float, places: int = 2) -> str:
    """A share."""
    return MISSING if isnan(x) else f"{100 * x:.{places}f} %"


def percent_with_error(x: float, error: float, places: int = 2) -> str:
    """A share and its error."""
    if isnan(error) or isnan(x):
        return percent(x, places)
    return f"{100 * x:.{places}f} ± {100 * error:.{places}f} %"


def difference(x: float, kind: str) -> str:
    """A difference of two values, with its sign; of shares in percentage points."""
    if isnan(x):
        return ""
    if x == 0:
        return "0"
    if kind == "count":
        return f"{x:+,.0f}"
    return f"{100 * x:+.2f} pp" if kind == "share" else f"{x:+.3g}"


def visible(text: object) -> str:
    """A foreign word without what could act: control characters, marks of direction, lone surrogates are spelt out.

    A terminal would obey an escape sequence in a file's name, and a mark of direction turns round what follows it.
    """
    return "".join(c if _harmless(c) else _spelt(c) for c in str(text))


def _harmless(c: str) -> bool:
    # Cc, Cs: control characters, surrogates; Zl, Zp: they break lines; Cf: marks of direction, but joiners are writing
    return unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp", "Cf") or c in "\u200c\u200d\u00ad"


def _spelt(c: str) -> str:
    code = ord(c)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
