# SPDX-License-Identifier: Apache-2.0
"""Run `python -m tests.fuzz wire`, `socket`, `differential` or `coverage`. Each command exits with 1 if it found a defect."""

import argparse
import sys
from random import Random

from tests.fuzz import differential, guided, over_socket, over_wire


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    words = parser.add_subparsers(required=True)
    for name, run, frames in (
        ("wire", over_wire.run, 1_000_000),
        ("socket", over_socket.run, 100_000),
        ("differential", differential.run, 200_000),
        ("coverage", guided.run, 1_000_000),
    ):
        word = words.add_parser(name, help=(run.__doc__ or "").replace("%", "%%"))
        word.add_argument("--frames", type=int, default=frames)
        word.add_argument("--seed", type=int, help="of the generator; by default a random one, which is printed")
        word.set_defaults(run=run)
    options = parser.parse_args()
    seed = Random().getrandbits(32) if options.seed is None else options.seed  # noqa: S311  # no secret
    print(f"seed {seed}", flush=True)
    return 0 if options.run(options.frames, seed) else 1


if __name__ == "__main__":
    sys.exit(main())
