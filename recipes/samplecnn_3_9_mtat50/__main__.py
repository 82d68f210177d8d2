"""The command: ``python -m recipes.samplecnn_3_9_mtat50 [STEP ...] --music DIR --work DIR``."""

import logging
import os
import sys


def main() -> int:
    # Huge pages for PyTorch's memory where the system gives them on request: with small ones a training on two cores
    # spent most of its time fetching pages. PyTorch reads this once, so it is set before anything imports PyTorch.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    from recipes.samplecnn_3_9_mtat50.options import parse
    from recipes.samplecnn_3_9_mtat50.steps import STEPS
    from samptag.errors import SamptagError

    options = parse(sys.argv[1:], steps=tuple(STEPS))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        for name in options.steps:
            STEPS[name](options)
    except SamptagError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
