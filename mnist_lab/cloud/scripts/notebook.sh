# shellcheck shell=bash disable=SC2034,SC2154 # included after common.sh
# A SageMaker notebook instance, which stops when its API is asked to.
work=$home/SageMaker/mnist-lab # on the EBS volume: all that outlives a stop
pythons=("$home"/anaconda3/envs/pytorch*/bin/python "$home"/anaconda3/envs/*/bin/python)
instance=$(sed -n 's/.*"ResourceName" *: *"\([A-Za-z0-9-]*\)".*/\1/p' "$root/opt/ml/metadata/resource-metadata.json")

check_machine() {
    if [[ -z $instance ]] || ! command -v aws >/dev/null; then
        echo "mnist-lab: this instance has no name or no aws command, so nothing could stop it again" >&2
        exit 1 # the start fails, at no cost
    fi
}

# It is refused while the instance is Pending.
stop_machine() {
    local status
    status=$(aws sagemaker describe-notebook-instance --notebook-instance-name "$instance" \
        --query NotebookInstanceStatus --output text) || true
    case $status in
    Stopping | Stopped | Deleting | Failed) return 0 ;;
    esac
    say "the instance is ${status:-unknown}: asking it to stop"
    aws sagemaker stop-notebook-instance --notebook-instance-name "$instance"
}

# For work by hand. At every start: home, where kernels are registered, does not outlive a stop.
when_ready() { "$1" -m ipykernel install --user --name mnist-lab --display-name mnist-lab >/dev/null; }
