import pytest

from mnist_lab import LabError, use
from mnist_lab.evidence.records import FOLDERS, TRACKED, Mistake, load
from mnist_lab.publishing import card, pages
from mnist_lab.runtime import ROOT, write_whole
from mnist_lab.use.handwriting import RECORD, Counts, Handwriting, Reader
from mnist_lab.use.reading import CONFIDENCE
from mnist_lab.use.weights import PUBLISHED


@pytest.fixture
def checkout(tmp_path):
    """A folder with all that a card is made from but records."""
    write_whole(tmp_path / card.WEIGHTS, PUBLISHED.read_bytes())
    write_whole(tmp_path / card.CARD.parent / CONFIDENCE.name, CONFIDENCE.read_bytes())
    return tmp_path


@pytest.fixture
def seeds(make_record):
    """Two seeds of the recipe of the published weights, with 60 and 40 mistakes."""
    wrong = [Mistake(index, 9, 4, 0.95) for index in range(40)] + [
        Mistake(100 + index, 3, 5, 0.6) for index in range(60)
    ]
    changes = {"recipe": use.load().header.recipe, "scored_images": 10_000}
    first = make_record("3", 0, (0.9940,)).model_copy(update={"mistakes": wrong[40:], **changes})
    second = make_record("3", 1, (0.9960,)).model_copy(update={"mistakes": wrong[:40], **changes})
    return [first, second]


def test_the_card_says_what_records_and_weights_say(checkout, seeds):
    header = use.load().header
    blocks = card.card_blocks(seeds, checkout)
    assert header.sha256 in blocks["network"] and "7,946 parameters" in blocks["network"]
    assert f"{100 * header.accuracy:.2f} % of 10,000 test images" in blocks["network"]
    assert "99.500 ± 0.141" in blocks["results"]
    assert "3 as 5 (30.0), 9 as 4 (20.0)" in blocks["misread"] and "40 % of the mistakes" in blocks["misread"]
    assert blocks["handwriting"] == "Not measured yet."
    counts = Counts(wrong={"as drawn": 90, "inverted": 30, "fitted": 2}, unsure=10, wrong_of_sure=1)
    readers = [Reader(seed=seed, test_wrong=50, collections={"Others": counts}) for seed in (0, 1)]
    found = Handwriting(recipe={}, sure_from=0.9, pictures={"Others": 100}, lost={}, readers=readers, commit=None)
    write_whole(checkout / RECORD, found.model_dump_json().encode())
    table = card.card_blocks(seeds, checkout)["handwriting"]
    assert "| Others | 100 | 10.00 (10.00 – 10.00) | 70.00 (70.00 – 70.00) | 98.00 (98.00 – 98.00) |" in table
    assert "| 10.00 (10.00 – 10.00) | 1.11 (1.11 – 1.11) |" in table


def test_weights_of_another_recipe_have_no_card(checkout, make_record):
    with pytest.raises(LabError, match="another recipe"):
        card.card_blocks([make_record("3")], checkout)


def test_the_tracked_card_is_todays():
    text = (ROOT / card.CARD).read_text(encoding="utf-8")
    blocks = card.card_blocks(load(TRACKED / FOLDERS["step"]), ROOT)
    assert {match["name"] for match in pages.BLOCK.finditer(text)} == set(blocks)
    assert pages.fill(text, blocks, "the card") == text, "mnist-lab pages"
