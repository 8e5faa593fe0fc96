"""The subcommands; importing this package registers them all."""

from openbpu.cli.app import app
from openbpu.cli.commands import analyze, build, inspect, simulate, verify

__all__ = ["analyze", "app", "build", "inspect", "simulate", "verify"]
