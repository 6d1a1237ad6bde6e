"""Train a model: `accelerate launch launch/train.py --config configs/alexnet64.yaml`.

`--help` lists every setting. The same command run again goes on with an interrupted run.
"""

import os
import shlex
import sys

# DDP warns on every rank that it looks for unused parameters, which is asked for in run.py.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

from tinynet.errors import UserError
from tinynet.flags import load_config


def main() -> None:
    """Read the configuration, then train; only the first process says what is wrong."""
    first = os.environ.get("RANK", "0") == "0"
    try:
        config = load_config(sys.argv[1:], say_errors=first)
        # torch takes seconds to import; a wrong flag need not wait for it.
        from tinynet.training import Launched, train

        launched = Launched(
            processes=int(os.environ.get("WORLD_SIZE", "1")),
            local_processes=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        )
        train(config, launched, shlex.join(sys.argv))
    except UserError as error:
        if first:
            print(f"train.py: error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
