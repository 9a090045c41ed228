"""The program `jaxaccel`, and `python -m jaxaccel`: the same as `python -m jaxaccel.run`."""

import sys

from jaxaccel.process.early import leave_on_signals


def main() -> int:
    """Run it. Signals are listened to before it is imported, which takes long."""
    leave_on_signals()
    from jaxaccel.run import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
