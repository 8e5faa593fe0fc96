"""The vendor's module names, so that existing training and deployment scripts find openbpu behind them.

Imports any package of openbpu below the command, and only when a name is used.
"""
