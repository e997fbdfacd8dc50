import boto3
import pytest

from mnist_lab import cli

WHERE = ["--region", "us-east-1", "--bucket", "lab-bucket", "--role", "lab", "--poll-seconds", "0.1"]
QUICK = ["--quick", "-p", "DATA", "digits"]


@pytest.fixture
def there(aws):
    """An instance, its configuration, bundle and logs; and a file of somebody else's in the bucket."""
    assert cli.main(["sagemaker", "up", *WHERE, *QUICK]) == 0
    boto3.client("s3").put_object(Bucket="lab-bucket", Key="mnist-lab-2/src/x", Body=b"1")
    logs = boto3.client("logs", region_name="us-east-1")
    logs.create_log_group(logGroupName="/aws/sagemaker/NotebookInstances")
    for name in ("mnist-lab/jupyter.log", "mnist-lab-2/jupyter.log"):
        logs.create_log_stream(logGroupName="/aws/sagemaker/NotebookInstances", logStreamName=name)


def keys() -> list[str]:
    found = boto3.client("s3").list_objects_v2(Bucket="lab-bucket").get("Contents", [])
    return [entry["Key"] for entry in found]


def instances() -> list:
    return boto3.client("sagemaker", region_name="us-east-1").list_notebook_instances()["NotebookInstances"]


def test_what_is_ours_goes_and_nothing_else(there, capsys):
    assert cli.main(["sagemaker", "down", "--yes", *WHERE]) == 0
    assert instances() == [] and keys() == ["mnist-lab-2/src/x"]
    logs = boto3.client("logs", region_name="us-east-1")
    streams = logs.describe_log_streams(logGroupName="/aws/sagemaker/NotebookInstances")["logStreams"]
    assert [stream["logStreamName"] for stream in streams] == ["mnist-lab-2/jupyter.log"]
    assert cli.main(["sagemaker", "down", "--yes", *WHERE]) == 0  # nothing left to do


def test_a_script_of_another_version_goes_too(there):
    client = boto3.client("sagemaker", region_name="us-east-1")
    name = {"NotebookInstanceLifecycleConfigName": "mnist-lab"}
    client.update_notebook_instance_lifecycle_config(**name, OnStart=[{"Content": "aGVsbG8="}])
    assert cli.main(["sagemaker", "up", *WHERE, *QUICK]) == 1
    assert cli.main(["sagemaker", "down", "--yes", *WHERE]) == 0
    assert instances() == []
    with pytest.raises(client.exceptions.ClientError):
        client.describe_notebook_instance_lifecycle_config(**name)


def test_results_can_stay(there):
    assert cli.main(["sagemaker", "down", "--yes", "--keep-s3", *WHERE]) == 0
    assert instances() == [] and len(keys()) == 2


def test_nothing_is_deleted_unasked(there, capsys, monkeypatch):
    assert cli.main(["sagemaker", "down", *WHERE]) == 1
    assert "add --yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert cli.main(["sagemaker", "down", *WHERE]) == 1
    assert "nothing was deleted" in capsys.readouterr().err
    assert cli.main(["sagemaker", "down", "--dry-run", *WHERE]) == 0
    out, err = capsys.readouterr()
    assert "would call sagemaker.delete_notebook_instance " in err and "deleted" not in out
    assert len(instances()) == 1 and len(keys()) == 2
