#!/bin/bash
# shellcheck disable=SC1091,SC2034,SC2154 # settings.sh, written at the start, assigns what looks unassigned
# The container of a training job runs this through the SDK's entry point, as root. The job ends with it.
here=$(mktemp -d)
cat >"$here/settings.sh" <<'END_OF_SETTINGS'
#include settings
#include common.sh
work=$root/opt/ml/mnist-lab
home=$work
pythons=("$(command -v python3)")
log=$work/logs/$run_id.txt
when_ready() { :; }
END_OF_SETTINGS
cat >"$here/worker.sh" <<'END_OF_WORKER'
#include worker.sh
END_OF_WORKER

printf 'started=%s\n' "$(date +%s)" >>"$here/settings.sh"
. "$here/settings.sh"
mkdir -p "$work/logs"
command -v aws >/dev/null || "${pythons[0]}" -m pip install --quiet awscli
bash "$here/worker.sh" </dev/null 2>&1 | tee -a "$log" # for CloudWatch, too
code=${PIPESTATUS[0]}
[[ $code == 0 || $code == 75 ]] && exit 0
grep -E ' (FAILED|TIMED_OUT) ' "$log" | tail -1 >"$root/opt/ml/output/failure" # the job's FailureReason
exit "$code"
