from argparse import ArgumentParser

import pytest

from mnist_lab.cloud.commands import SETTINGS, add_verb
from mnist_lab.cloud.errors import CloudError
from mnist_lab.cloud.settings import USD_PER_HOUR, CloudSettings, make_settings, read_settings


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
    assert (made.keys, made.machine_type) == (f"a/b/{door}", kind) and USD_PER_HOUR[kind] > 0


def test_an_option_beats_the_environment(read):
    made = read("--region", "us-east-2", MNIST_LAB_CLOUD_REGION="eu-north-1", MNIST_LAB_CLOUD_MAX_MINUTES="20")
    assert (made.region, made.max_minutes) == ("us-east-2", 20)
    with pytest.raises(CloudError, match=r"--max-minutes is 'ten': it should be a valid number"):
        read(MNIST_LAB_CLOUD_MAX_MINUTES="ten")


def test_a_flag_takes_no_value_and_is_off_unless_given(read):
    assert read("--door", "job", "--spot").spot and not read("--door", "job").spot
    assert read(MNIST_LAB_CLOUD_DOOR="job", MNIST_LAB_CLOUD_SPOT="1").spot


HOSTILE = ["'; rm -rf /", "$(id)", "`id`", "a b", "a\nb", "a\x00b", "../x", "é", "x" * 3000, "*", "${aws:username}"]


@pytest.mark.parametrize(
    "option",
    ["region", "role", "bucket", "prefix", "name", "image", "device", "instance_type"],
)
def test_hostile_texts_are_refused(option):
    for text in HOSTILE:
        if (option, text) not in [("role", "../x"), ("image", "../x")]:  # harmless there: IAM and EC2 refuse it
            with pytest.raises(CloudError, match="--" + option.replace("_", "-")):
                make_settings({option: text})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_minutes": 2000}, "less than or equal to 1440"),
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
        ({"spot": True}, "for --door job"),
        ({"door": "ec2", "local": True}, "for --door job"),
        ({"prefix": "a/../b"}, "--prefix"),
        ({"prefix": "/a"}, "--prefix"),
    ],
)
def test_what_cannot_work_is_refused(changes, message):
    with pytest.raises(CloudError, match=message):
        make_settings(changes)
