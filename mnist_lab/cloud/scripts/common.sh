# shellcheck shell=bash disable=SC2034,SC2154 # included after the settings, and used by the others
root=${MNIST_LAB_ROOT:-} # a scratch folder in the tests
user=${MNIST_LAB_USER:-ec2-user}
home=$root/home/ec2-user
control=$root/var/lib/mnist-lab
run_key=$prefix/runs/$run_id
run_url=s3://$bucket/$run_key
# A start script's PATH is short, and aws may come with conda.
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$home/anaconda3/bin
# Version 2 of aws shows its answers in a pager, and asks questions.
export PATH AWS_PAGER='' AWS_CLI_AUTO_PROMPT=off AWS_REGION=$region AWS_DEFAULT_REGION=$region

say() { echo "$(date -u +%H:%M:%S) $*"; }
