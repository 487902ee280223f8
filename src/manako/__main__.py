"""`python -m manako` is the command `manako`."""

from manako.cli import main

main()
