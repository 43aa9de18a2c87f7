"""The command ``fastxent``, outside the package: an import of the package that fails is one line, too."""

import sys


def main() -> int:
    """Run the command line and give its exit status."""
    try:
        from fastxent.cli import main as run
    except ImportError as error:  # a wrong FASTXENT_LEVEL, kernels or NumPy that are missing
        print(f"fastxent: {error}", file=sys.stderr)
        return 1
    return run()
