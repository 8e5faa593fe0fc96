"""The vendor's module names, so that existing training and deployment scripts find openbpu behind them.

    python -m openbpu.compat script.py [arguments]      runs a script as it is
    openbpu.compat.install()                            the same from Python, before the vendor's imports

Imports any package of openbpu below the command, and only when a name is used.
"""

from openbpu.compat.finder import install

__all__ = ["install"]
