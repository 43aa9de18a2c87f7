"""What merges: totals whose bits do not depend on the order in which values or other totals come, and their states."""
