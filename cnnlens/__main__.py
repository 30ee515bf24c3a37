"""``python -m cnnlens`` is ``cnnlens``."""

from cnnlens.cli import main

raise SystemExit(main())
