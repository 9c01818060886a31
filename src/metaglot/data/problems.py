"""What is wrong with some data, collected, so that one reading finds more than one fault."""

from __future__ import annotations

from metaglot.errors import DataError, Where

SHOWN = 10


class Problems:
    """Faults found so far: the first ten in words, all of them in number."""

    def __init__(self) -> None:
        self.total = 0
        self._first: list[DataError] = []

    def add(self, problem: str, where: Where, hint: str = "") -> None:
        """Note a fault and go on reading."""
        self.total += 1
        if self.total <= SHOWN:
            self._first.append(DataError(problem, where=where, hint=hint))

    def raise_any(self) -> None:
        """Raise what was found as one error.

        Raises:
            DataError: there was a fault; its message names the file, line and field of each.
        """
        if not self.total:
            return
        if self.total == 1:
            raise self._first[0]
        faults = [f"{error.where}: {error.problem}" for error in self._first]
        if self.total > SHOWN:
            faults.append(f"… and {self.total - SHOWN:,} more")
        hints = dict.fromkeys(error.hint for error in self._first if error.hint)
        raise DataError(
            f"found {self.total:,} faults in the data:\n  " + "\n  ".join(faults), hint="\n".join(hints)
        )
