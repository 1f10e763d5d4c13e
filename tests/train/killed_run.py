"""Run by test_loop in a process of its own: trains until a given step, says so, and waits to be killed.

Arguments: run folder, step at which to wait.
"""

from __future__ import annotations

import sys
import time

from gridmarl.train.loop import TrainProgress, build_agent, train
from tests.train.settings import make_env, settings


def main() -> None:
    run_dir, wait_at = sys.argv[1], int(sys.argv[2])

    def wait(progress: TrainProgress) -> None:
        if progress.env_steps >= wait_at:
            print("waiting", flush=True)
            time.sleep(600)

    env, config = make_env(), settings()
    train(env, build_agent(env, config), config, run_dir, wait)


if __name__ == "__main__":
    main()
