"""What conversion does before any framework runs: the code that it writes."""

from __future__ import annotations

import subprocess
import sys

import cnnlens
from cnnlens import sample, testing
from cnnlens.conversion import to_torch
from cnnlens.reference import known_kinds
from tests.support.to_torch_models import words


def test_the_sample_reads_like_the_work_of_a_person() -> None:
    program = to_torch.program(cnnlens.open(sample.MODEL))
    body = program.source[program.source.index("    def forward") : program.source.index("def load")]
    statements = [line.strip() for line in body.splitlines() if line.strip() and line.strip()[0] != "#"]
    assert statements == [
        "def forward(self, x: torch.Tensor) -> torch.Tensor:",
        "x = F.relu(self.conv2d(x))",
        "x = self.max_pooling2d(x)",
        "x = F.relu(self.conv2d_1(x))",
        "x = self.max_pooling2d_1(x)",
        "x = torch.flatten(x, 1)",
        "x = F.relu(self.dense(x))",
        "x = self.dropout(x)",
        "x = F.softmax(self.dense_1(x), dim=1)",
        "return x",
    ]
    assert program.class_name == "FashionMnistCnn"
    assert program.modules["conv2d_1"] == "conv2d_1"
    assert program.input_shapes == {"input_layer": (None, 1, 28, 28)}
    assert "(H, W, C) (7, 7, 64)" in words(program.source)


def test_names_of_calls_and_marks_belong_together() -> None:
    program = to_torch.program(testing.network("chain"))
    lines = program.source.splitlines()
    for mark in program.marks:
        text = lines[mark.line - 1].strip()
        assert text.startswith((f"{mark.value.text} = ", "# ")), (mark, text)


def test_nothing_of_a_framework_is_imported() -> None:
    code = (
        "import sys, cnnlens; from cnnlens import sample; from cnnlens.conversion import to_torch\n"
        "program = to_torch.program(cnnlens.open(sample.MODEL)); dict(program.state)\n"
        "assert not {'torch', 'keras', 'tensorflow', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_kind_of_the_reference_has_a_rule_or_a_reason() -> None:
    from cnnlens.conversion.to_torch.rules import RULES

    assert set(known_kinds()) - set(RULES) <= set(to_torch.REFUSED)
    assert all(to_torch.REFUSED.values())
