"""musicnn's own function over a folder, in one process: ``PYTHON musicnn_peer.py FOLDER``, PYTHON being its own.

musicnn needs TensorFlow, so it lives in an environment of its own (docs/benchmarks.md). Its graph is
built anew for each file, as its command line does, but TensorFlow is imported once, which its command line does not.
"""

import json
import os
import sys
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # its layers are those of TensorFlow 1
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


def main() -> None:
    """Tag every file of the folder."""
    from musicnn.extractor import extractor

    for path in sorted(Path(sys.argv[1]).iterdir()):
        taggram, tags = extractor(str(path), model="MTT_musicnn", extract_features=False)
        scores = dict(zip(tags, taggram.mean(axis=0).tolist(), strict=True))
        print(json.dumps({"path": str(path), "scores": scores}))


if __name__ == "__main__":
    main()
