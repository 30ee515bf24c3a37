"""Another pyfive than the one that is needed is named as such, and not taken for a damaged file."""

from __future__ import annotations

from importlib import import_module, metadata

import pytest

import cnnlens
from cnnlens.errors import CnnlensError
from cnnlens.files.hdf5 import pyfive_parts
from cnnlens.sample import MODEL


@pytest.mark.parametrize(
    "part", ["dataobjects.DataObjects._decode_link_msg", "dataobjects.DataObjects", "btree.BTreeV1RawDataChunks"]
)
def test_a_pyfive_without_a_part_gives_one_line(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import_module(f"pyfive.{part.split('.')[0]}")
    pyfive_parts._parts.cache_clear()
    with monkeypatch.context() as patch:
        patch.delattr(f"pyfive.{part}")
        with pytest.raises(CnnlensError) as refused:
            cnnlens.open(MODEL)
    said = str(refused.value)
    assert f"pyfive {metadata.version('pyfive')} is installed" in said
    assert part.split(".")[-1] in said
    assert said.endswith('install it with: pip install "pyfive>=1.3,<1.4"')
    assert "\n" not in said
    assert cnnlens.open(MODEL).layers  # a refusal is not remembered
