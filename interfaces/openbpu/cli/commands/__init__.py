"""The subcommands; importing this package registers them all."""

from openbpu.cli.app import app
from openbpu.cli.commands import analyze, build, compat, eval, inspect, simulate, verify  # noqa: A004  # a module

__all__ = ["analyze", "app", "build", "compat", "eval", "inspect", "simulate", "verify"]
