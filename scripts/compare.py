"""`python scripts/compare.py`: the same as the command `nmfdnn-compare`."""

from nmfdnn.views.compare import main

if __name__ == "__main__":
    main()
