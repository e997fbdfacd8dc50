import boto3
import pytest

from mnist_lab.cloud.errors import CloudError
from mnist_lab.cloud.notebook import NotebookInstance
from mnist_lab.cloud.runs import NONE, make_run


@pytest.fixture
def instance(connect) -> NotebookInstance:
    return NotebookInstance(connect())


@pytest.fixture
def run(instance):
    return make_run(instance.account, b"", {})


def start(instance, run) -> None:
    instance.start(run, instance.script(run))


def test_a_life(instance, run, aws):
    aws.pending_stops = 1
    assert instance.machine(run) == NONE and instance.stored_script() is None
    start(instance, run)
    assert instance.machine(run).word == "Pending" and instance.machine(run).active
    instance.stop()  # refused while Pending, so asked again
    assert instance.status() == "Stopped" and aws.refused_stops == 1
    instance.stop()  # nothing to do
    aws.pending_stops = 0
    start(instance, run)
    instance.wait("in_service")
    assert instance.open_jupyter(run).startswith("https://mnist-lab")
    instance.delete()
    assert instance.status() == "none" and instance.stored_script() is None
    instance.delete()  # nothing to do


def test_it_is_made_as_documented(instance, run):
    start(instance, run)
    found = instance.describe()
    assert (found["InstanceType"], found["PlatformIdentifier"]) == ("ml.g4dn.xlarge", "notebook-al2023-v1")
    assert found["InstanceMetadataServiceConfiguration"] == {"MinimumInstanceMetadataServiceVersion": "2"}
    assert found["RootAccess"] == "Disabled"
    assert (found["VolumeSizeInGB"], found["NotebookInstanceLifecycleConfigName"]) == (10, "mnist-lab")
    assert instance.stored_script() == instance.script(run)


def test_another_runs_instance_is_no_machine_of_this_run_and_not_interrupted(instance, run):
    start(instance, run)
    other = run.model_copy(update={"run_id": "other"})
    assert instance.machine(run).active and not instance.machine(run).stopping
    assert instance.machine(other).active and instance.machine(other).stopping
    with pytest.raises(CloudError, match=r"is (Pending|InService), for another run .*mnist-lab cloud stop"):
        instance.check()


def test_an_instance_of_another_type_is_not_started(instance, run, connect):
    start(instance, run)
    instance.stop()
    refused = run.model_copy(update={"run_id": "refused"})
    with pytest.raises(CloudError, match="another InstanceType: mnist-lab cloud down first"):
        start(NotebookInstance(connect(instance_type="ml.g5.xlarge")), refused)
    assert instance.status() == "Stopped"
    assert instance.stored_script() == instance.script(run)  # which a start from AWS's console would carry out


def test_an_instance_that_nothing_would_stop_is_not_started(instance, run):
    start(instance, run)
    instance.stop()
    client = boto3.client("sagemaker", region_name="us-east-1")
    client.update_notebook_instance(NotebookInstanceName="mnist-lab", DisassociateLifecycleConfig=True)
    instance.wait("stopped")
    with pytest.raises(CloudError, match="another LifecycleConfigName"):
        start(instance, run)
    assert instance.status() == "Stopped"


def test_somebody_elses_instance_is_not_touched(instance):
    client = boto3.client("sagemaker", region_name="us-east-1")
    client.create_notebook_instance(
        NotebookInstanceName="mnist-lab", InstanceType="ml.t3.medium", RoleArn=instance.account.role()
    )
    for action in (instance.check, instance.stop, instance.delete):
        with pytest.raises(CloudError, match=r"the name mnist-lab is taken .* --name"):
            action()
    assert client.describe_notebook_instance(NotebookInstanceName="mnist-lab")["NotebookInstanceStatus"] != "Deleting"


def test_quota_0_is_a_sentence_and_makes_no_machine(instance, run, aws):
    aws.quota = 0
    with pytest.raises(CloudError, match="quota does not allow this machine"):
        start(instance, run)
    assert instance.status() == "none"


def test_no_capacity_is_a_sentence_and_can_be_tried_again(instance, run, aws):
    aws.capacity = False
    start(instance, run)
    with pytest.raises(CloudError, match=r"no such machine free .* --instance-type"):
        instance.wait("in_service")
    aws.capacity = True
    start(instance, run)
    instance.wait("in_service")


def test_a_script_that_is_too_large_is_refused_before_aws_sees_it(instance, run):
    with pytest.raises(CloudError, match="AWS takes 12,288"):
        instance.script(run.model_copy(update={"command": ("x" * 2000,)}))
