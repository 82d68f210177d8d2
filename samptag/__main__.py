"""`python -m samptag`, which is also what torchrun starts."""

from samptag.cli.app import run

if __name__ == "__main__":
    run()
