"""What several test files share, and where things lie."""

from pathlib import Path

SUPPORT = Path(__file__).parent
ROOT = SUPPORT.parents[1]
SHARED = ROOT.parent / "shared"  # real models beside the project; tests that need them skip where it is not there
