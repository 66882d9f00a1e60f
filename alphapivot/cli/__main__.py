"""``python -m alphapivot.cli``: the command under a chosen interpreter."""

import sys

from alphapivot.cli import main

if __name__ == "__main__":
    sys.exit(main())
