"""`python -m rarecall`: the command where no script of it is installed, as on a cluster's nodes."""

import sys

from rarecall.command import main

if __name__ == "__main__":
    sys.exit(main())
