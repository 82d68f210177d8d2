"""The command: ``python -m recipes.samplecnn_3_9_mtat50 [STEP ...] --music DIR --work DIR``."""

import os
import sys


def main() -> int:
    # Huge pages for PyTorch's memory where the system gives them on request: with small ones a training on two cores
    # spent most of its time fetching pages. PyTorch reads this once, so it is set before anything imports PyTorch.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    from recipes.command import exit_code
    from recipes.samplecnn_3_9_mtat50.options import parse
    from recipes.samplecnn_3_9_mtat50.steps import STEPS

    options = parse(sys.argv[1:], steps=tuple(STEPS))

    def take_steps() -> None:
        for name in options.steps:
            STEPS[name](options)

    return exit_code(take_steps)


if __name__ == "__main__":
    sys.exit(main())
