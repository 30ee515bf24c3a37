"""``python -m cnnlens`` is ``cnnlens``."""

from cnnlens.cli.main import main

raise SystemExit(main())
