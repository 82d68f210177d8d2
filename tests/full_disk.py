"""A disk that is really full: a small one in memory, which only the command and what it starts can see."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

# $1 is what the disk begins with, $2 its size, $3 a folder for what is on it afterwards; the command runs on the disk.
_SCRIPT = """
start=$1 size=$2 after=$3; shift 3
disk=$(mktemp -d); mount -t tmpfs -o size=$size none "$disk"; cp -r "$start/." "$disk"; cd "$disk"
cat /dev/zero > filler 2> /dev/null || true
if [ "$KEEP_FREE" ]; then truncate -s -$KEEP_FREE filler; fi
code=0; "$@" || code=$?
rm filler; cp -r . "$after"; exit $code
"""


def on_a_full_disk(
    arguments: Sequence[Any], *, start: Path, after: Path, free: str, env: Mapping[str, str]
) -> subprocess.CompletedProcess[bytes]:
    """Run ``samptag *arguments`` in a copy of the folder `start` with so much room (8k) left, then kept in `after`."""
    if sys.platform != "linux" or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("needs a mount of its own, as Linux lets users make them")
    after.mkdir()
    command = ["unshare", "-rm", "sh", "-euc", _SCRIPT, "sh", start, "1m", after, sys.executable, "-m", "samptag"]
    return subprocess.run(
        [*map(str, command), *map(str, arguments)], env={**env, "KEEP_FREE": free}, capture_output=True, check=False
    )
