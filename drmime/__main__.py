"""`python -m drmime` is the command line."""

import sys

from drmime.cli import main

if __name__ == "__main__":
    sys.exit(main())
