"""`python -m gridmarl` is the `gridmarl` command."""

from gridmarl.cli import main

raise SystemExit(main())
