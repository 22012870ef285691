"""`python scripts/compare.py`: the same as the command `nmfdnn-compare`."""

from nmfdnn.compare import main

if __name__ == "__main__":
    main()
