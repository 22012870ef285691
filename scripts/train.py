"""`python scripts/train.py`: the same as the command `nmfdnn`."""

from nmfdnn.__main__ import main

if __name__ == "__main__":
    main()
