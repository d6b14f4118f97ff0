#!/bin/sh
# Runs one step of the build quietly: tools/step.sh NAME "what it does" COMMAND...
# Prints one line; the command's output goes to build/logs/NAME.log and is shown only when the step fails.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
name=$1 title=$2
shift 2
log=$root/build/logs/$name.log
mkdir -p "$root/build/logs"
echo "==> $title ..."
"$@" >"$log" 2>&1 </dev/null && exit 0
status=$?
tail -n 80 "$log" >&2
echo "==> $title: failed (exit status $status); the whole output is in build/logs/$name.log" >&2
exit "$status"
