"""The bandwidth at which PyTorch copies from a device into pinned memory of the host: GB/s of several sizes, as JSON.

``python -m benchmarks.peers.torch_copy DEVICE``; on the CPU it is a copy from memory to memory.
"""

import json
import sys
import time

import torch

device = sys.argv[1]
found = {}
for megabytes in (16, 64, 256):
    source = torch.rand(megabytes << 18, device=device)
    target = torch.empty(megabytes << 18, pin_memory=device != "cpu")
    seconds = []
    for _ in range(20):
        if device != "cpu":
            torch.cuda.synchronize()
        start = time.perf_counter()
        target.copy_(source, non_blocking=True)
        if device != "cpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    found[megabytes] = source.nbytes / sorted(seconds)[len(seconds) // 2] / 1e9
print(json.dumps(found))
