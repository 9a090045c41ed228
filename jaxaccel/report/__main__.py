"""`python -m jaxaccel.report`."""

import sys

from jaxaccel.report import main

if __name__ == "__main__":
    sys.exit(main())
