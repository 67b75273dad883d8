"""``python -m adrpo`` is the command line."""

from adrpo.cli import main

if __name__ == "__main__":
    main()
