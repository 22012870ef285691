"""`python -m nmfdnn`."""

from .cli import main

main()
