"""`python -m medk2n_cli`."""

from medk2n_cli.cli.app import main

main()
