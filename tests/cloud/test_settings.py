from argparse import ArgumentParser

import pytest

from mnist_lab.cloud.errors import CloudError
from mnist_lab.cloud.settings import CloudSettings, add_options, check_with_model, read_settings


@pytest.fixture
def file(tmp_path):
    return tmp_path / "sagemaker.ini"


@pytest.fixture
def read(file):
    def parse(*arguments: str, **environment: str) -> CloudSettings:
        parser = ArgumentParser()
        add_options(parser)
        return read_settings(parser.parse_args(arguments), file, environment)

    return parse


def test_the_defaults_can_work(read):
    made = read()
    assert made == CloudSettings() and made.keys == made.name
    check_with_model(made)
    check_with_model(CloudSettings(region="cn-north-1"))


def test_an_option_beats_the_environment_which_beats_the_file(read, file, tmp_path):
    file.write_text("[sagemaker]\nregion = eu-west-1\nrole = from-file\nbucket = from-file\n")
    environment = {"MNIST_LAB_SAGEMAKER_REGION": "eu-north-1", "MNIST_LAB_SAGEMAKER_ROLE": "from-environment"}
    made = read("--region", "us-east-2", **environment)
    assert (made.region, made.role, made.bucket) == ("us-east-2", "from-environment", "from-file")
    other = tmp_path / "other.ini"
    other.write_text("[sagemaker]\nprice = 1.5\n")
    assert read("--config", str(other)).usd_per_hour == 1.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sagemaker]\nregoin = eu-west-1\n", "did you mean region"),
        ("[sagemaker\n", "cannot read the settings"),
        ("[sagemaker]\nvolume_gb = 10.5\n", "must be a whole number"),
        ("[sagemaker]\nprice = much\n", "must be a number"),
        ("\x00\xff", "cannot read the settings"),
    ],
)
def test_a_bad_file_is_named(read, file, text, message):
    file.write_bytes(text.encode("latin1"))
    with pytest.raises(CloudError, match=message):
        read()


def test_a_file_that_was_asked_for_has_to_exist(read, tmp_path):
    with pytest.raises(CloudError, match="there is no file"):
        read("--config", str(tmp_path / "none.ini"))


HOSTILE = ["'; rm -rf /", "$(id)", "`id`", "a b", "a\nb", "a\x00b", "../x", "é", "x" * 3000, "*", "${aws:username}"]


@pytest.mark.parametrize(
    "option", ["region", "role", "bucket", "prefix", "name", "subnet", "security_group", "kms_key", "device"]
)
def test_hostile_texts_are_refused(option):
    for text in HOSTILE:
        with pytest.raises(CloudError, match="--" + option.replace("_", "-")):
            CloudSettings(**{option: text})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"volume_gb": 4}, "between 5"),
        ({"max_minutes": 0}, "between"),
        ({"max_minutes": float("nan")}, "between"),
        ({"poll_seconds": 0}, "between"),
        ({"name": "other"}, "--name"),
        ({"name": ""}, "--name is empty"),
        ({"device": ""}, "--device is empty"),
        ({"name": "mnist-lab_x"}, "--name"),
        ({"instance_type": "ml.t3.medium"}, "has no GPU"),
        ({"subnet": "subnet-0123456789"}, "belong together"),
        ({"prefix": "a/../b"}, "--prefix"),
        ({"prefix": "/a"}, "--prefix"),
    ],
)
def test_what_cannot_work_is_refused(changes, message):
    with pytest.raises(CloudError, match=message):
        CloudSettings(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"region": "us-esat-1"}, "us-east-1"),
        ({"instance_type": "ml.g4dn.xxlarge"}, "ml.g4dn"),
        ({"platform": "notebook-al2-v9"}, "notebook-al2"),
    ],
)
def test_what_sagemaker_does_not_have_is_refused_with_what_it_has(changes, message):
    with pytest.raises(CloudError, match=message):
        check_with_model(CloudSettings(**changes))


def test_a_price_is_known_or_given():
    assert CloudSettings().usd_per_hour > 0
    assert CloudSettings(instance_type="ml.g5.xlarge").usd_per_hour is None
    assert CloudSettings(instance_type="ml.g5.xlarge", price=2.0).usd_per_hour == 2.0
