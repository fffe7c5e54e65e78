"""``python -m cascade`` does what ``cascade`` does."""

from cascade.cli import main

if __name__ == "__main__":
    main()
