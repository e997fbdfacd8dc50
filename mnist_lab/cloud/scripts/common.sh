# shellcheck shell=bash disable=SC2034,SC2154 # included after the settings, and used by the others
# What the start script, the watchdog and the worker share.
root=${MNIST_LAB_ROOT:-} # a scratch folder in the tests
user=${MNIST_LAB_USER:-ec2-user}
home=$root/home/ec2-user
control=$root/var/lib/mnist-lab
work=$home/SageMaker/mnist-lab # on the EBS volume: all that outlives a stop
log=$work/logs/$run_id.txt
run_key=$prefix/runs/$run_id
run_url=s3://$bucket/$run_key
# The start script's PATH is short, and aws may come with conda.
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$home/anaconda3/bin
export PATH AWS_PAGER='' AWS_REGION=$region AWS_DEFAULT_REGION=$region

say() { echo "$(date -u +%H:%M:%S) $*"; }

# Ask for a stop until it is under way, at most $1 times: an instance refuses it while it is Pending.
stop_instance() {
    local try status
    cd / # where the working directory was deleted, aws uploads nothing and reports success
    for ((try = 0; try < $1; try++)); do
        status=$(aws sagemaker describe-notebook-instance --notebook-instance-name "$instance" \
            --query NotebookInstanceStatus --output text 2>&1) || true
        case $status in
        Stopping | Stopped | Deleting | Failed) return 0 ;;
        esac
        say "the instance is ${status##*$'\n'}: asking it to stop"
        aws sagemaker stop-notebook-instance --notebook-instance-name "$instance" || sleep "$poll_seconds"
    done
    say "THE INSTANCE COULD NOT BE STOPPED FROM HERE: mnist-lab sagemaker stop"
    return 1
}
