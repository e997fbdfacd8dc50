from argparse import ArgumentParser

import pytest

from mnist_lab.cloud.commands import SETTINGS, add_verb
from mnist_lab.cloud.errors import CloudError
from mnist_lab.cloud.settings import CloudSettings, make_settings, read_settings


@pytest.fixture
def read():
    def parse(*arguments: str, **environment: str) -> CloudSettings:
        parser = ArgumentParser()
        add_verb(parser, "run")
        return read_settings(parser.parse_args(arguments), environment)

    return parse


def test_the_defaults_can_work_and_the_help_tells_them(read):
    made = read()
    assert made == CloudSettings() and made.keys == "mnist-lab/notebook"
    assert list(SETTINGS) == list(CloudSettings.model_fields)
    for name, about in SETTINGS.items():
        default = CloudSettings.model_fields[name].default
        assert not default or f"(default: {default})" in about, name


@pytest.mark.parametrize(
    ("door", "kind"), [("notebook", "ml.g4dn.xlarge"), ("job", "ml.g4dn.xlarge"), ("ec2", "g4dn.xlarge")]
)
def test_each_door_has_its_prefix_its_machine_and_a_price(read, door, kind):
    made = read("--door", door, "--prefix", "a/b")
    assert (made.keys, made.machine_type) == (f"a/b/{door}", kind) and made.usd_per_hour > 0


def test_an_option_beats_the_environment(read):
    made = read("--region", "us-east-2", MNIST_LAB_CLOUD_REGION="eu-north-1", MNIST_LAB_CLOUD_VOLUME_GB="20")
    assert (made.region, made.volume_gb) == ("us-east-2", 20)
    with pytest.raises(CloudError, match=r"--volume-gb is '10\.5': it should be a valid integer"):
        read(MNIST_LAB_CLOUD_VOLUME_GB="10.5")


HOSTILE = ["'; rm -rf /", "$(id)", "`id`", "a b", "a\nb", "a\x00b", "../x", "é", "x" * 3000, "*", "${aws:username}"]


@pytest.mark.parametrize(
    "option",
    ["region", "role", "bucket", "prefix", "name", "subnet", "security_group", "image", "device", "instance_type"],
)
def test_hostile_texts_are_refused(option):
    for text in HOSTILE:
        if (option, text) not in [("role", "../x"), ("image", "../x")]:  # harmless there: IAM and EC2 refuse it
            with pytest.raises(CloudError, match="--" + option.replace("_", "-")):
                make_settings({option: text})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"volume_gb": 4}, "greater than or equal to 5"),
        ({"max_minutes": 0}, "--max-minutes"),
        ({"max_minutes": float("nan")}, "--max-minutes"),
        ({"poll_seconds": 0}, "--poll-seconds"),
        ({"name": "other"}, "--name"),
        ({"name": ""}, "--name"),
        ({"name": "mnist-lab_x"}, "--name"),
        ({"device": ""}, "--device"),
        ({"door": "window"}, "--door is 'window': it should be 'notebook', 'job' or 'ec2'"),
        ({"instance_type": "ml.t3.medium"}, "has no GPU"),
        ({"instance_type": "g4dn.xlarge"}, "only SageMaker's types begin with ml"),
        ({"door": "ec2", "instance_type": "ml.g4dn.xlarge"}, "only SageMaker's types begin with ml"),
        ({"subnet": "subnet-0123456789"}, "belong together"),
        ({"prefix": "a/../b"}, "--prefix"),
        ({"prefix": "/a"}, "--prefix"),
        ({"regoin": "us-east-1"}, "did you mean region"),
    ],
)
def test_what_cannot_work_is_refused(changes, message):
    with pytest.raises(CloudError, match=message):
        make_settings(changes)


def test_a_price_is_known_or_given():
    assert make_settings({"instance_type": "ml.g5.xlarge"}).usd_per_hour is None
    assert make_settings({"instance_type": "ml.g5.xlarge", "price": 2.0}).usd_per_hour == 2.0
