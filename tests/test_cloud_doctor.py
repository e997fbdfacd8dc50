import pytest

from mnist_lab.cloud import doctor
from mnist_lab.cloud.doctor import examine
from mnist_lab.cloud.settings import CloudSettings


def look(**changes) -> dict:
    settings = CloudSettings(**{"region": "us-east-1", "role": "lab", "bucket": "lab-bucket", **changes})
    return {finding.subject: finding for finding in examine(settings)}


def test_all_is_well(aws):
    found = look()
    assert list(found) == ["libraries", "login", "role", "bucket", "quota", "instance", "price"]
    assert all(finding.good for finding in found.values())
    assert "the first run makes it" in found["bucket"].text and "us-east-1" in found["login"].text


def test_each_thing_that_is_missing_is_told(aws):
    aws.quota = 0
    found = look(role="nobody")
    assert [subject for subject, finding in found.items() if finding.good is False] == ["role", "quota"]
    assert "servicequotas" in found["quota"].text and "there is no role nobody" in found["role"].text


def test_what_cannot_be_told_does_not_hinder(aws):
    found = look(instance_type="ml.g5.xlarge")
    assert found["quota"].good is None and "no quota" in found["quota"].text
    assert found["price"].good is None and "--price" in found["price"].text


def test_without_a_login_nothing_else_is_told(aws, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    found = look()
    assert list(found) == ["libraries", "login"] and "aws configure" in found["login"].text


@pytest.mark.parametrize("versions", [{"boto3": "1.44"}, {"boto3": "1.44", "sagemaker": "2.257.7"}])
def test_missing_or_old_libraries_are_told(monkeypatch, versions):
    def version(name):
        if name not in versions:
            raise doctor.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(doctor, "version", version)
    good, text = doctor.libraries()
    assert not good and "pip install" in text
