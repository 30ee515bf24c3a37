"""A Ray cluster of two CPUs on this machine, for as long as standard input is open: ``python -m … FOLDER``."""

from __future__ import annotations

import sys

import ray

if __name__ == "__main__":
    started = ray.init(
        "local", num_cpus=2, object_store_memory=100 << 20, include_dashboard=False, log_to_driver=False,
        _temp_dir=sys.argv[1],
    )  # fmt: skip
    print(f"ADDRESS {started.address_info['address']}", flush=True)
    sys.stdin.read()
    ray.shutdown()
