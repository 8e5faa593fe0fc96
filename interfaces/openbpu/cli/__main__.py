"""`python -m openbpu.cli` is the `openbpu` command."""

from openbpu.cli import main

main()
