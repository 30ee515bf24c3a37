"""Writes as many bytes as are asked for, a file a batch, and waits until they are on the disk.

``python -m benchmarks.peers.bare_write FOLDER BYTES PIECE``: what no recording of that size can be faster than.
"""

import os
import sys
from pathlib import Path

folder, left, piece = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
data, number, handles = os.urandom(piece), 0, []
while left > 0:
    handle = os.open(folder / str(number), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    view = memoryview(data)[: min(piece, left)]
    left -= len(view)
    while view:
        view = view[os.write(handle, view) :]
    handles.append(handle)
    number += 1
for handle in handles:
    os.fsync(handle)
    os.close(handle)
