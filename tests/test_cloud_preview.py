import json

from mnist_lab import cli
from mnist_lab.cloud import script
from mnist_lab.cloud.script import read_back

WHERE = ["--region", "us-east-1", "--bucket", "lab-bucket", "--role", "lab"]


def test_the_script_is_shown_without_any_call(capsys, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert cli.main(["sagemaker", "render", *WHERE, "-p", "EPOCHS", "3"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("#!/bin/bash\n") and "of 12,288 bytes" in err
    assert read_back(out).arguments[-6:] == ("-p", "EPOCHS", "3", "-p", "DEVICE", "cuda")


def test_a_parameter_that_no_notebook_takes_is_a_sentence(capsys):
    assert cli.main(["sagemaker", "render", *WHERE, "-p", "MODEL", "x" * 13_000]) == 1
    assert "MODEL is" in capsys.readouterr().err


def test_a_script_that_is_too_large_is_a_sentence(capsys, monkeypatch):
    monkeypatch.setattr(script, "LARGEST", 5_000)
    assert cli.main(["sagemaker", "render", *WHERE]) == 1
    assert "bytes, and SageMaker takes 5,000" in capsys.readouterr().err


def test_policies_are_complete_with_credentials_and_hold_placeholders_without(aws, capsys, monkeypatch):
    assert cli.main(["sagemaker", "policy", "operator", *WHERE]) == 0
    out, err = capsys.readouterr()
    assert "arn:aws:sagemaker:us-east-1:123456789012:notebook-instance/mnist-lab" in out and err == ""
    assert "arn:aws:iam::123456789012:role/lab" in out and json.loads(out)["Version"] == "2012-10-17"
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert cli.main(["sagemaker", "policy", "execution", *WHERE]) == 0
    out, err = capsys.readouterr()
    assert ":ACCOUNT:" in out and "placeholders" in err
    assert cli.main(["sagemaker", "policy", "trust"]) == 0
    assert "sagemaker.amazonaws.com" in capsys.readouterr().out


def test_the_doctors_exit_code_says_whether_a_run_can_work(aws, capsys):
    assert cli.main(["sagemaker", "doctor", *WHERE]) == 0
    assert "ok   quota" in capsys.readouterr().out
    aws.quota = 0
    assert cli.main(["sagemaker", "doctor", "--json", *WHERE]) == 1
    findings = {finding["subject"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert findings["quota"]["good"] is False
