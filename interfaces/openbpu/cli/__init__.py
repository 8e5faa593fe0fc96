"""The `openbpu` command. It parses, calls the packages below and prints; it holds no logic of its own.

Imports any package of openbpu, typer and rich, and the costly ones only inside the command that needs them.
"""

import sys


def main() -> None:
    """Run the `openbpu` command; the entry point of the distribution."""
    try:
        from openbpu.cli.signals import catch_signals

        catch_signals()
        from openbpu.cli.guard import prepare_process, run_app

        prepare_process()
        from openbpu.cli.commands import app

        run_app(app)
    except KeyboardInterrupt:  # before signals are caught; inside commands the guard takes it
        sys.stderr.write("openbpu: interrupted\n")
        sys.exit(130)
