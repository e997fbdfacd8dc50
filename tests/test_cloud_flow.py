from PIL import Image, ImageChops

from mnist_lab.cloud import flow


def test_the_tracked_picture_is_the_drawn_one(tmp_path):
    flow.main(tmp_path / "flow.png")
    drawn, tracked = (Image.open(path).convert("L") for path in (tmp_path / "flow.png", flow.PICTURE))
    assert drawn.size == tracked.size
    difference = ImageChops.difference(drawn, tracked).histogram()
    assert sum(difference[64:]) < 0.002 * drawn.size[0] * drawn.size[1], "python -m mnist_lab.cloud.flow"


def test_every_action_has_a_lane_and_an_arrow():
    assert {lane for lane, _, _ in flow.ACTIONS} == set(flow.LANES)
    assert {end for arrow in flow.ARROWS for end in arrow} == set(range(len(flow.ACTIONS)))
