"""Write `src/metaglot/families.tsv`: the family and the branch of every living language, and most others.

Run it as

    git clone --depth 1 --branch v5.1 https://github.com/glottolog/glottolog-cldf
    git clone --depth 1 --branch v2020.4 https://github.com/cldf-datasets/wals
    python tools/make_families.py glottolog-cldf wals

The family is Glottolog's top node above a language. The branch is the genus that WALS gives it: a group
as old as Germanic or Romance, comparable across the world (Dryer 1989). WALS has a third of the
languages; another one's genus is that of its nearest relatives in Glottolog's tree that WALS has, where
all of them are of one genus, and else its family stands for it. Creoles stand in the tree with the
language that most of their words come from, not in a genus of their own.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import Counter, defaultdict
from pathlib import Path

from langcodes import Language
from langcodes.data_dicts import NORMALIZED_MACROLANGUAGES

TABLE = Path(__file__).parent.parent / "src" / "metaglot" / "families.tsv"
HEADER = """\
# Language families and branches. Each line: family, branch, ISO 639-3 codes. Made by
# tools/make_families.py from:
#   Glottolog 5.1 (families and tree), Hammarström, Forkel, Haspelmath & Bank 2024, CC BY 4.0,
#   https://glottolog.org
#   WALS Online v2020.4 (branches: its genera), Dryer & Haspelmath 2013, CC BY 4.0, https://wals.info
"""
# Glottolog's top nodes that are no families. Artificial languages stay: corpora have them.
NO_FAMILY = {
    "Bookkeeping",
    "Mixed Language",
    "Pidgin",
    "Sign Language",
    "Speech Register",
    "Unattested",
    "Unclassifiable",
}
NO_GENUS = {"Creoles and Pidgins", "Sign Languages"}
# Codes -> one of the same branch: macrolanguages that the CLDR gives no default for, collections, codes
# that were retired; Baltic languages without a kin in WALS but Slavic ones beside the Baltic; and N'Ko, a
# written standard of the Manding languages, which Glottolog has for artificial.
SAME = {
    "cpf": "hat",
    "hbs": "srp",
    "nor": "nob",
    "ber": "tzm",
    "bih": "bho",
    "nah": "nhe",
    "nqo": "dyu",
    "ajp": "apc",
    "kzj": "dtp",
    "prg": "lit",
    "xsv": "lit",
}


def parents(newick: str) -> dict[str, str]:
    """Return node → the node above it, of a tree with a label at every node."""
    above: dict[str, str] = {}
    waiting: list[list[str]] = [[]]
    closed: list[str] = []
    for token in re.findall(r"[(),]|[a-z0-9]{8}", newick):
        if token == "(":
            waiting.append([])
        elif token == ")":
            closed = waiting.pop()
        elif token != ",":
            above |= dict.fromkeys(closed, token)
            closed = []
            waiting[-1].append(token)
    return above


def parents_of(nodes: dict[str, dict[str, str]], nexus: str) -> dict[str, str]:
    """Return node → the node above it, of all trees."""
    above: dict[str, str] = {}
    for tree in re.findall(r"=\s*\[&R\]\s*(.*);", nexus):
        above |= parents(tree)
    # The trees end at languages: a dialect hangs under its own.
    above |= {node: row["Language_ID"] for node, row in nodes.items() if row["Language_ID"]}
    return above


def read(path: Path) -> list[dict[str, str]]:
    """Return a CSV file's rows."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def genera(
    wals: list[dict[str, str]], nodes: dict[str, dict[str, str]], above: dict[str, str]
) -> dict[str, set[str]]:
    """Return node → the genera of the WALS languages at it and under it."""
    by_iso = {row["ISO639P3code"]: node for node, row in nodes.items() if row["ISO639P3code"]}
    pairs: list[tuple[str, str]] = []
    for row in wals:
        if row["Genus"] and row["Genus"] not in NO_GENUS:
            places = {row["Glottocode"]} & nodes.keys()
            places = places or {by_iso[code] for code in row["ISO_codes"].split() if code in by_iso}
            pairs += [(node, row["Genus"]) for node in places]
    families: dict[str, Counter[str]] = defaultdict(Counter)
    for node, genus in pairs:
        families[genus][nodes[node]["Family_ID"]] += 1
    found: dict[str, set[str]] = defaultdict(set)
    for node, genus in pairs:
        # The two differ about a few languages: there Glottolog's family counts.
        if nodes[node]["Family_ID"] == families[genus].most_common(1)[0][0]:
            place: str | None = node
            while place is not None:
                found[place].add(genus)
                place = above.get(place)
    return found


def branch_of(node: str, found: dict[str, set[str]], above: dict[str, str], family: str) -> str:
    """Return the one genus at the nearest node above that has any, or the family."""
    place: str | None = node
    while place is not None:
        if place in found:
            return next(iter(found[place])) if len(found[place]) == 1 else family
        place = above.get(place)
    return family


def main() -> None:
    """Read the two data sets and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("glottolog", type=Path, help="a clone of glottolog/glottolog-cldf")
    parser.add_argument("wals", type=Path, help="a clone of cldf-datasets/wals")
    options = parser.parse_args()
    nodes = {row["ID"]: row for row in read(options.glottolog / "cldf" / "languages.csv")}
    above = parents_of(nodes, (options.glottolog / "cldf" / "classification.nex").read_text("utf-8"))
    found = genera(read(options.wals / "cldf" / "languages.csv"), nodes, above)
    place: dict[str, tuple[str, str]] = {}
    for node, row in nodes.items():
        code = row["ISO639P3code"]
        family = nodes[row["Family_ID"] or row["Language_ID"] or node]["Name"]
        if code and family not in NO_FAMILY:
            place[code] = family, branch_of(node, found, above, family)
    for individual, short in NORMALIZED_MACROLANGUAGES.items():
        macro = Language.get(short).to_alpha3()
        if same := place.get(individual) or place.get(macro):
            place |= {code: same for code in (individual, macro) if len(code) == 3}
    place |= {code: place[same] for code, same in SAME.items()}
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for code, group in place.items():
        groups[group].append(code)
    lines = [f"{family}\t{branch}\t{' '.join(sorted(codes))}" for (family, branch), codes in groups.items()]
    TABLE.write_text(HEADER + "\n".join(sorted(lines)) + "\n", encoding="utf-8")
    print(f"{TABLE}: {len(place)} codes, {len({f for f, _ in groups})} families, {len(groups)} branches")


if __name__ == "__main__":
    main()
