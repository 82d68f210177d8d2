"""``python -m bench [limits|tag|train|int8|gpu] [options]``: without a name, all but gpu with their defaults."""

import sys
from importlib import import_module

ON_ANY_MACHINE = ("limits", "tag", "train", "int8")
NAMES = (*ON_ANY_MACHINE, "gpu")


def main() -> None:
    """Run the benchmarks named on the command line."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in NAMES:
        import_module(f"bench.{arguments[0]}").main(arguments[1:])
    elif arguments:
        sys.exit(f"usage: {__doc__}")
    else:
        for name in ON_ANY_MACHINE:
            import_module(f"bench.{name}").main([])


if __name__ == "__main__":
    main()
