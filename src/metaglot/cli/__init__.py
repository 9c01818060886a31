"""The command line. It reads options, calls public functions, and prints; nothing else happens here."""

from metaglot.cli.app import main

__all__ = ["main"]
