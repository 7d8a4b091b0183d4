"""`python -m recognizer` is the command line."""

from recognizer.cli import main

main()
