"""`python -m metaglot.cli` is `metaglot`."""

from metaglot.cli import main

main()
