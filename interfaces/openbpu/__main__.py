"""`python -m openbpu` is the `openbpu` command."""

from openbpu.cli import main

main()
