"""The vendor's module names, so that existing training and deployment scripts find openbpu behind them.

    python -m openbpu.compat script.py [arguments]      runs a script as it is
    python -m openbpu.compat hb_compile -c net.yaml     a vendor's command: see openbpu.compat.commands
    openbpu.compat.install()                            the first one from Python, before the vendor's imports

Imports any package of openbpu below the command, and only when a name is used.
"""

from openbpu.compat.finder import install

__all__ = ["install"]
