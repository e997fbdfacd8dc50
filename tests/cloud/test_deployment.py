import boto3
import pytest

from mnist_lab.cloud.account import Account
from mnist_lab.cloud.bundle import Archive
from mnist_lab.cloud.deployment import current_job, make_job, up
from mnist_lab.cloud.errors import CloudError
from mnist_lab.cloud.instance import Instance
from mnist_lab.cloud.runs import RunStatus
from mnist_lab.cloud.settings import CloudSettings
from mnist_lab.recipe import ParameterError

BUNDLE = Archive(b"bundle", "a" * 64)


@pytest.fixture
def account(connect) -> Account:
    return connect()


@pytest.fixture
def later(monkeypatch):
    """A run that is made now has another name than those before."""
    return lambda: monkeypatch.setattr("mnist_lab.cloud.deployment.time.strftime", lambda *_: "20991231-235959")


def place(account: Account, again: bool = False, **parameters):
    return up(account, parameters, again, lambda text: None, BUNDLE)


def at_rest(account: Account) -> Instance:
    instance = Instance(account)
    instance.request_stop()
    instance.wait(("Stopped", "Failed"))
    return instance


def say(account: Account, job, state: str) -> None:
    text = f'{{"state": "{state}", "exit_code": 0, "started": 1, "updated": 2}}'
    account.call("s3", "put_object", Bucket=job.bucket, Key=job.folder + "status.json", Body=text.encode())
    if state == "SUCCEEDED":
        account.call("s3", "put_object", Bucket=job.bucket, Key=job.folder + "_SUCCESS", Body=b"1")


def test_everything_is_in_place_and_twice_is_once(account, aws):
    aws.pending_stops = 1
    job, status = place(account)
    assert (status.state, status.instance) == ("QUEUED", "Pending")
    assert account.read("lab-bucket", job.bundle_key) == b"bundle"
    assert current_job(Instance(account)) == job
    assert place(account)[0] == job  # while it is on its way
    at_rest(account)
    assert place(account)[0] == job  # never carried out


@pytest.mark.parametrize(
    ("state", "kept"), [("SUCCEEDED", True), ("FAILED", False), ("TIMED_OUT", False), ("RUNNING", False)]
)
def test_a_run_is_kept_unless_it_failed(account, later, state, kept):
    job, _ = place(account)
    later()
    say(account, job, state)
    at_rest(account)  # RUNNING on a stopped instance is LOST
    new, status = place(account)
    assert (new.run_id == job.run_id) is kept
    assert status.state == ("SUCCEEDED" if kept else "NEW")


@pytest.mark.parametrize("changes", [{"again": True}, {"EPOCHS": 3}])
def test_another_run_is_another_run(account, later, changes):
    job, _ = place(account)
    say(account, job, "SUCCEEDED")
    at_rest(account)
    later()
    new, status = place(account, **changes)
    assert new.run_id.startswith("20991231") and status.state == "NEW"
    assert current_job(Instance(account)) == new


def test_other_limits_alone_make_no_other_run(account, connect):
    job, _ = place(account)
    say(account, job, "SUCCEEDED")
    at_rest(account)
    assert place(connect(max_minutes=5))[1].state == "SUCCEEDED"


def test_a_busy_instance_is_left_alone(account):
    place(account)
    with pytest.raises(CloudError, match=r"its script is for another run .*mnist-lab sagemaker stop"):
        place(account, EPOCHS=3)


def test_after_a_failure_of_aws_it_can_be_tried_again_on_another_machine(account, connect, aws):
    aws.capacity = False
    place(account)
    with pytest.raises(CloudError, match="no such instance free"):
        Instance(account).wait(("InService",))
    aws.capacity = True
    place(connect(instance_type="ml.g5.xlarge"))
    found = Instance(account).describe()
    assert (found["InstanceType"], found["NotebookInstanceStatus"]) == ("ml.g5.xlarge", "Stopped")


def test_a_configuration_of_another_maker_is_left_alone(account):
    client = boto3.client("sagemaker", region_name="us-east-1")
    client.create_notebook_instance_lifecycle_config(
        NotebookInstanceLifecycleConfigName="mnist-lab", OnStart=[{"Content": "aGVsbG8="}]
    )
    with pytest.raises(CloudError, match=r"the name mnist-lab is taken .*--name"):
        place(account)


@pytest.mark.parametrize(
    ("parameters", "message"), [({"EPOHCS": 3}, "did you mean EPOCHS"), ({"EPOCHS": 0}, "EPOCHS is 0")]
)
def test_bad_parameters_are_told_before_anything_is_made(account, parameters, message):
    with pytest.raises(ParameterError, match=message):
        place(account, **parameters)
    assert boto3.client("s3").list_buckets()["Buckets"] == []


def test_an_unknown_role_is_told_before_anything_is_made(connect):
    with pytest.raises(CloudError, match="there is no role nobody"):
        place(connect(role="nobody"))
    assert boto3.client("s3").list_buckets()["Buckets"] == []


def test_no_parameter_reaches_past_the_device():
    job = make_job(CloudSettings(), "us-east-1", "b", BUNDLE, {"DEVICE": "cpu", "DATA": "digits"})
    assert job.arguments == ("-p", "DATA", "digits", "-p", "DEVICE", "cuda") and job.device == "cuda"


def test_mnist_travels_when_a_folder_is_given():
    assert make_job(CloudSettings(data="x"), "r", "b", BUNDLE, {}).mnist_key == "mnist-lab/src/MNIST.tar.gz"
    assert make_job(CloudSettings(data="x"), "r", "b", BUNDLE, {"DATA": "digits"}).mnist_key == ""
    assert make_job(CloudSettings(), "r", "b", BUNDLE, {}).mnist_key == ""


def test_a_dry_run_makes_nothing(account, connect, capsys):
    _, status = place(connect(dry_run=True))
    assert status == RunStatus(status.run_id, "NEW")
    said = capsys.readouterr().err
    for call in ("s3.put_object", "sagemaker.create_notebook_instance ", "create_notebook_instance_lifecycle_config"):
        assert f"would call {call}" in said or call in said
    assert boto3.client("s3").list_buckets()["Buckets"] == [] and Instance(account).status() == "none"
