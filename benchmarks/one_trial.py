"""This project's side of a comparison: one trial in a process of its own, one JSON line an epoch.

python -m benchmarks.one_trial CONFIG.yaml --cache FOLDER
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from trainables.config import load_config
from trainables.trainable import build_trainable
from trainables.training.execution import configure_process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    configure_process(config.execution)
    for result in build_trainable(config, arguments.cache).epochs():
        print(json.dumps({**result.metrics(), "epoch": result.epoch, "reported": time.time()}), flush=True)


if __name__ == "__main__":
    main()
