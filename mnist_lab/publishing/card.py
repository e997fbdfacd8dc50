"""The model card of the published network: its generated blocks, made from the records and the file of weights.

What a card says is that of Mitchell et al., "Model cards for model reporting", FAT* 2019.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mnist_lab import LabError, use
from mnist_lab.evidence.records import Record
from mnist_lab.evidence.results import summarise
from mnist_lab.evidence.tables import Table, consistency_table, results_table
from mnist_lab.use.handwriting import HEADERS, NOTE, RECORD, load_handwriting, rows
from mnist_lab.use.reading import CONFIDENCE, Confidence, load_confidence
from mnist_lab.use.weights import Header

CARD = Path("mnist_lab", "use", "MODEL_CARD.md")
WEIGHTS = Path("mnist_lab", "use", "step3.safetensors")


def card_blocks(records: Sequence[Record], root: Path) -> dict[str, str]:
    """Return the text of each generated block of the card, by its name. Raises LabError without records of step 3."""
    header = use.load(root / WEIGHTS).header
    own = [one for one in records if one.kind == "step" and one.recipe == header.recipe and one.device_type == "cpu"]
    if not own:
        raise LabError("the published weights are of another recipe than step 3's records: mnist-lab run --publish")
    found = summarise(own)
    measured = root / RECORD
    return {
        "network": network_table(header, (root / WEIGHTS).stat().st_size, own[0]).markdown(),
        "results": f"{results_table(found).markdown()}\n\n{consistency_table(found).markdown()}",
        "misread": misread(own),
        "handwriting": handwriting(measured) if measured.is_file() else "Not measured yet.",
        "confidence": confidence(load_confidence(root / CARD.parent / CONFIDENCE.name)),
    }


def network_table(header: Header, size: int, like: Record) -> Table:
    """Return what the file of weights says of itself; ``like`` is a record of the same recipe."""
    facts = {
        "network": f"{header.model}, batch norms folded; {like.model.deployed:,} parameters, "
        f"{like.model.multiply_accumulates:,} multiply-accumulates an image",
        "input": f"(N, 1, 28, 28), ink in [0, 1], white on black; less {header.mean}, divided by {header.std}",
        "output": f"logits of {', '.join(header.classes)}",
        "trained on": f"{header.train_images:,} images of {header.data}; seed {header.seed}, the first, not the best",
        "accuracy": f"{100 * header.accuracy:.2f} % of {header.scored_images:,} {header.scored_on} images",
        "recipe": ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in header.recipe.items()),
        "file": f"{size:,} bytes of safetensors; SHA-256 of what it holds: `{header.sha256}`",
        "commit": f"`{header.commit}`",
    }
    return Table(
        ("", "what the file says"), list(facts.items()), "A checksum in the file covers all of it; loading checks that."
    )


def misread(records: Sequence[Record]) -> str:
    """Say what all seeds of a recipe misread."""
    seeds = len(records)
    wrong = [mistake for record in records for mistake in record.mistakes]
    pairs = Counter((mistake.label, mistake.predicted) for mistake in wrong)
    labels = Counter(mistake.label for mistake in wrong)
    often = ", ".join(f"{label} as {read} ({count / seeds:.1f})" for (label, read), count in pairs.most_common(6))
    by_digit = ", ".join(f"{digit}: {labels[digit] / seeds:.1f}" for digit in range(10))
    sure = sum(mistake.confidence > 0.9 for mistake in wrong) / max(1, len(wrong))
    return (
        f"Of {records[0].scored_images:,} test images, mean over {seeds} seeds. Most often taken for another: {often}. "
        f"Misread by digit: {by_digit}. {100 * sure:.0f} % of the mistakes have a probability above 90 %."
    )


def handwriting(path: Path) -> str:
    """Return the table of what was measured with drawings and other people's digits."""
    found = load_handwriting(path)
    return Table(HEADERS, rows(found), NOTE).markdown()


def confidence(found: Confidence) -> str:
    """Say from where on a reading is sure, and how that was found."""
    sure = found.images - found.unsure
    return (
        f"A reading is **sure** from a probability of {100 * found.sure_from:.1f} % on. That is the lowest from which "
        f"at most 1 in 1,000 readings was wrong, of {found.images:,} training images, read by networks trained "
        f"on other writers: {found.wrong_of_sure} of {sure:,} sure ones were wrong, and {found.wrong_of_unsure} of "
        f"{found.unsure:,} unsure ones."
    )
