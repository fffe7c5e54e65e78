"""How like the groups of people those are that `cascade init` proposes, by words and with an encoder.

Printed is the adjusted mutual information of both groupings of the labels (1: the same, 0: by chance), for so
many training rows of each label: first with as many groups as `init` settles, then with as many as people
made. Labels that stand alone are groups of their own.
Run as ``python tests/benchmarks/proposals.py [--data ../shared/data] [--sets clinc150] [--encoder minilm]``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score
from teaching import files_of

from cascade.encoders import store
from cascade.grouping.proposal import propose_groups
from cascade.grouping.sampling import rows_to_read
from cascade.nodes.meaning import reader
from cascade.rows.reading import read_all
from cascade.rows.readings import Columns
from cascade.taxonomy.definition import Taxonomy

ROOT = Path(__file__).resolve().parents[2]
SETS = ("feedback", "clinc150", "goemotions", "nlupp", "us_bills")
ROWS = (0, 5, 20, 100)


def main():
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of data sets")
    cli.add_argument("--sets", default=",".join(SETS), help="which of them")
    cli.add_argument("--encoder", default="minilm", help="one of this machine")
    asked = cli.parse_args()
    encode = reader(store.opened(asked.encoder))
    print(f"| rows of a label | words | words and {asked.encoder} |\n| --- | --- | --- |")
    found = []
    for name in asked.sets.split(","):
        files = files_of(name, asked.data)
        if files is None:
            print(f"{name}: skipped, as there is no {asked.data / name}", file=sys.stderr)
            continue
        taxonomy = Taxonomy.load(ROOT / "taxonomies" / f"{name}.yaml")
        rows = read_all([files[0]], Columns(), taxonomy).rows
        for most in ROWS:
            found.append([likeness(taxonomy, rows, most, each) for each in (None, encode)])
            print(line(f"{name}, {most}", found[-1]), flush=True)
    print(line("mean", np.mean(found, axis=0)))


def likeness(taxonomy, rows, most, encode):
    """That of proposed groups, as many as are settled, and as many as people made."""
    names = sorted(taxonomy.labels)
    place = {name: number for number, name in enumerate(names)}
    carried = [[place[label] for label in row.labels if label in place] for row in rows]
    read = rows_to_read(carried, len(names), most) if most else []
    texts, labels = [rows[at].text for at in read], [[names[one] for one in carried[at]] for at in read]
    given = [taxonomy.first_parent(name) for name in names]
    found = []
    for count in (None, len(set(given))):
        proposal = propose_groups(texts, labels, n_groups=count, more_labels=names, encode=encode)
        group_of = {label: group for group, own in proposal.groups.items() for label in own}
        proposed = [group_of.get(name, f"alone: {name}") for name in names]
        found.append(adjusted_mutual_info_score(given, proposed))
    return found


def line(name, found):
    return f"| {' | '.join([name, *(f'{settled:.2f}, {as_many:.2f}' for settled, as_many in found)])} |"


if __name__ == "__main__":
    main()
