#!/bin/bash
# shellcheck disable=SC1091,SC2154,SC2317,SC2329 # settings.sh assigns; functions are called by name
# One run: verify the bundle, prove the GPU, make the environment, train (which obtains MNIST), upload, and tell last
# how it ended.
# Whoever started this stops the machine when it ends; exit code 75 says that there was nothing to do.
set -euo pipefail
. "$(dirname "$0")/settings.sh"
export HOME=$home PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
cd "$work"
exec 9>.lock
if ! flock -n 9; then
    say "another worker holds $work/.lock: nothing to do"
    exit 75
fi

repository=$work/$run_id
over_file=$work/logs/$run_id.over
machine='' reason='' child='' uploader='' over='' stage='starting'

fail() {
    local code=$?
    reason=$*
    ((code == 124 || code == 137)) || code=1 # timeout's own
    exit "$code"
}

# Run a command until the time is up, so that a signal reaches this script meanwhile.
within() {
    local left=$((started + max_seconds - $(date +%s)))
    timeout --kill-after=30 "$((left > 1 ? left : 1))" "$@" &
    child=$!
    local code=0
    wait "$child" || code=$?
    child=''
    return "$code"
}

# Upload a copy of file $1 as $2 (the log grows), and check that it arrived: aws can do nothing and report success.
put() {
    local there code=0 copy
    copy=$(mktemp)
    [[ -f $1 ]] && cp "$1" "$copy" && aws s3 cp --only-show-errors "$copy" "$run_url/$2" &&
        there=$(aws s3api head-object --bucket "$bucket" --key "$run_key/$2" --query ContentLength --output text) &&
        [[ $there == "$(stat -c %s "$copy")" ]] || code=1
    rm -f "$copy"
    return "$code"
}

# Upload folder $1 with all that is below it, and compare what S3 lists with what is here.
put_outputs() {
    local here there
    aws s3 cp --only-show-errors --recursive "$1" "$run_url/output/" &&
        there=$(aws s3api list-objects-v2 --bucket "$bucket" --prefix "$run_key/output/" \
            --query 'Contents[].[Size,Key]' --output text | sort) &&
        here=$(find "$1" -type f -printf "%s\t$run_key/output/%P\n" | sort) &&
        [[ -z $(comm -23 <(echo "$here") <(echo "$there")) ]]
}

# Try again while S3 fails. All uploads at the end together have half of the grace time, so that they are over before
# the machine is stopped.
patience() { give_up=$(($(date +%s) + grace_seconds / 2)); }
persist() {
    until "$@"; do
        [[ $(date +%s) -lt $give_up ]] || return 1
        say "could not upload: again in $poll_seconds s"
        sleep "$poll_seconds"
    done
}

write_status() { # state, exit code
    local text
    text=$(mktemp) # not on the volume, which may be full
    printf '{"state": "%s", "exit_code": %d, "reason": "%s", "machine": "%s", "started": %d, "updated": %d}\n' \
        "$1" "$2" "$(plain "$reason")" "$(plain "$machine")" "$started" "$(date +%s)" >"$text"
    persist put "$text" status.json
}

plain() { tr -c '[:print:]' ' ' <<<"$1" | sed 's/["\\]/ /g; s/ *$//' | cut -c1-500; }

finish() {
    local code=$? state=FAILED folder=()
    trap '' TERM INT HUP
    trap - EXIT
    set +e
    # Where the working directory was deleted, aws uploads nothing and reports success
    cd / || true
    patience
    for process in $child $uploader; do kill "$process"; done
    [[ -z $child ]] || wait "$child"
    if [[ -n $over ]]; then # a person started the machine
        ((code == 0)) || say "could not prepare the notebook: ${reason:-$stage}"
        exit 75
    fi
    case $code in
    0) state=SUCCEEDED ;;
    137) # killed: by timeout at last, or else by the kernel, for its memory
        if (($(date +%s) < started + max_seconds)); then
            reason="killed while $stage: the memory of the machine may be too small"
        else
            state=TIMED_OUT
        fi
        ;;
    124) state=TIMED_OUT ;;
    esac
    [[ $state != TIMED_OUT ]] || reason="the time was up ($max_seconds s) while $stage"
    ((code == 0)) || reason=${reason:-failed while $stage}
    say "$state ${reason}"
    df -h "$work" | tail -1
    folder=("$repository"/runs/[0-9]*) # named by the time
    if [[ -d ${folder[-1]} && -n $(ls -A "${folder[-1]}") ]] && ! persist put_outputs "${folder[-1]}"; then
        [[ $state != SUCCEEDED ]] || state=FAILED code=1
        reason="${reason:+$reason; }the outputs could not be uploaded"
        say "$reason"
    fi
    echo "$state" >"$over_file"
    persist put "$log" log.txt
    write_status "$state" "$code" # the last word: whoever reads SUCCEEDED finds all of the outputs
    exit "$code"
}
trap finish EXIT
trap 'exit 143' TERM INT HUP

say "run $run_id"
stage='asking S3 for an earlier status'
earlier=$(aws s3 cp --only-show-errors "$run_url/status.json" - 2>/dev/null) || earlier=''
if [[ -f $over_file || $earlier == *'"state": '* && $earlier != *'"state": "RUNNING"'* ]]; then
    over=yes
    say "this run is over, nothing is repeated; the machine is stopped in $((max_seconds + grace_seconds)) s"
else
    patience
    write_status RUNNING 0 || fail "S3 cannot be written to: compare the role with mnist-lab cloud policy execution"
    (while kill -0 $$; do
        sleep "$poll_seconds"
        put "$log" log.txt || true
        [[ -z $kept || ! -d $repository/$kept ]] || put_outputs "$repository/$kept" || true
    done) 9>&- &>/dev/null &
    uploader=$!
fi

if [[ -z $over || ! -f $repository/.complete ]]; then
    stage='fetching the bundle'
    archive=$work/.bundle.tar.gz
    bundle=s3://$bucket/$prefix/src/$run_id.tar.gz
    within aws s3 cp --only-show-errors "$bundle" "$archive" ||
        fail "the bundle $bundle could not be fetched: mnist-lab cloud run puts it there"
    sha256sum --check --status <<<"$bundle_sha256  $archive" ||
        fail "the bundle does not have the checksum it was uploaded with: start another run"
    rm -rf "$repository"
    mkdir -p "$repository" data
    tar -xzf "$archive" --no-same-owner -C "$repository"
    ln -s ../data "$repository/data"
    touch "$repository/.complete"
fi

stage='looking for PyTorch'
python=''
for candidate in "${pythons[@]}"; do
    if key=$("$candidate" -c 'import platform, torch; print(platform.python_version(), torch.__version__, sep="-")'); then
        python=$candidate
        break
    fi
done
[[ -n $python ]] || fail "no Python with PyTorch among ${pythons[*]}: is it the image that mnist-lab chooses?"
say "$python: Python and PyTorch $key"
if [[ -z $over && $device == cuda ]]; then
    stage='proving the GPU'
    proof='import torch; from mnist_lab.runtime import environment, pick_device
print(environment(pick_device("cuda")).device, "PyTorch", torch.__version__, "CUDA", torch.version.cuda)'
    within env PYTHONPATH="$repository" "$python" -c "$proof" >.gpu.txt || # it computes something
        fail "no usable GPU on this machine, and a run on its CPU was not asked for: see the log"
    machine=$(<.gpu.txt)
    say "$machine"
fi

stage='installing packages'
requirements=$repository/mnist_lab/cloud/scripts/requirements.txt
environment=$work/.environments/$key-$(sha256sum <"$requirements" | cut -c1-8)
if [[ ! -f $environment/.installed ]] || ! "$environment/bin/python" -c ''; then # none, or its Python is gone
    rm -rf "$work"/.environments/*
    # Without a pip of its own: it would bring a setuptools that hides the one that PyTorch asks for.
    within "$python" -m venv --system-site-packages --without-pip "$environment"
    # The image's Python may be in a venv itself, which "--system-site-packages" would pass over.
    for site in "$environment"/lib/python3*/site-packages; do
        "$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$site/image.pth"
    done
    # What PyTorch was built with stays as it is.
    "$python" -m pip list --format=freeze | grep -E '^(torch|torchvision|numpy)==' >.constraints.txt || true
    within "$environment/bin/python" -m pip install --quiet -c .constraints.txt -r "$requirements" ||
        fail "pip could not install what step 3 needs: without internet access, give the machine a package index"
    touch "$environment/.installed"
fi
for site in "$environment"/lib/python3*/site-packages; do
    echo "$repository" >"$site/mnist-lab.pth"
done
when_ready "$environment/bin/python"
[[ -z $over ]] || exit 0

# A machine before this one was taken away: its seeds are not trained again
if [[ -n $kept && -n $earlier ]]; then
    stage='fetching what an earlier machine kept'
    within aws s3 cp --only-show-errors --recursive "$run_url/output/" "$repository/$kept/" || fail "S3 cannot be read"
fi
stage='training'
cd "$repository"
[[ -z $commit ]] || export MNIST_LAB_COMMIT=$commit
code=0
within "$environment/bin/python" -c 'import sys; from mnist_lab.cli import main; sys.exit(main())' \
    "${command[@]}" || code=$?
# The package's own sentence, if it came to one
((code == 0)) || reason=$(grep '^error: ' "$log" | tail -1) || true
exit "$code"
