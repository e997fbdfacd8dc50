"""The parts of README.md that are made from records."""

import re
from collections.abc import Sequence
from itertools import groupby

from mnist_lab.records import Record
from mnist_lab.results import accuracy_interval, markdown_table, summarise

BLOCK = re.compile(r"(<!-- (?P<name>[\w-]+):begin [^>]*-->\n)(?:.*?\n)??(<!-- (?P=name):end -->)", re.DOTALL)


def render(text: str, records: Sequence[Record]) -> str:
    """Return README ``text`` with every generated block written anew; the rest stays as it is.

    Raises ValueError if a block that the records fill is missing or an unknown one is there.
    """
    blocks = make_blocks(records)
    found = [match["name"] for match in BLOCK.finditer(text)]
    if sorted(found) != sorted(blocks):
        raise ValueError(f"README.md has the generated blocks {found}, but the records fill {sorted(blocks)}")
    return BLOCK.sub(lambda match: f"{match[1]}{blocks[match['name']]}\n{match[3]}", text)


def make_blocks(records: Sequence[Record]) -> dict[str, str]:
    """Return the text of each block: "results", and "step-N" for every step."""
    blocks = {"results": markdown_table(summarise(records))}
    for step, group in groupby(records, key=lambda record: record.step):
        blocks[f"step-{step}"] = step_line(list(group))
    return blocks


def step_line(records: Sequence[Record]) -> str:
    """Return one sentence on the seed that a step's notebook shows, with the rung before it."""
    first_seed = [record for record in records if record.seed == records[0].seed]
    final = next(record for record in first_seed if not record.is_rung)
    count, wrong = final.scored_images, len(final.mistakes)
    low, high = accuracy_interval(count - wrong, count)
    rungs = "".join(f" (the rung in between, {r.change}: {100 * r.accuracy:.2f} %)" for r in first_seed if r.is_rung)
    epochs = final.recipe["epochs"]
    return (
        f"**Result:** {100 * final.accuracy:.2f} % after {epochs} epochs with seed {final.seed}{rungs}; "
        f"{wrong} of {count:,} test images misread, 95 % Wilson interval {100 * low:.2f} – {100 * high:.2f} %; "
        f"{final.model['trainable']:,} parameters."
    )
