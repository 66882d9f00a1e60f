"""``python -m alphapivot.cli``: as the command, with the interpreter that one names."""

import sys

from alphapivot.cli import main

if __name__ == "__main__":
    sys.exit(main())
