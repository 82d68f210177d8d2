"""`python -m samptag`, also what torchrun starts."""

from samptag.cli.app import main

if __name__ == "__main__":
    main()
