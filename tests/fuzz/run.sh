#!/bin/sh
# Runs a libFuzzer target: tests/fuzz/run.sh PROGRAM NAME SHARE, for FUZZ_SECONDS (30) divided by SHARE. It starts from the seeds and from
# what earlier runs found, which it keeps beside the program in corpus/NAME. An input that does harm is left in crashes/.
set -u
program=$1 name=$2 share=$3
here=$(cd "$(dirname "$0")" && pwd)
work=$(cd "$(dirname "$program")" && pwd)
seconds=$((${FUZZ_SECONDS:-30} / share))
[ "$seconds" -ge 1 ] || seconds=1 # libFuzzer takes 0 for no limit
dictionary=$here/dictionaries/$name.dict
mkdir -p "$work/corpus/$name" "$work/crashes"
log=$work/crashes/$name.log
# Seconds that one input may take, far above what is normal, and memory in MB: both count as harm.
"$program" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=3072 -max_len=4096 -artifact_prefix="$work/crashes/$name-" \
    $([ -f "$dictionary" ] && echo "-dict=$dictionary") "$work/corpus/$name" "$here/seeds/$name" >"$log" 2>&1
if [ $? -eq 0 ]; then
    grep -a '^Done ' "$log"
    exit 0
fi
tail -n 70 "$log"
input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
echo "The input that did it: ${input:-none was written}"
echo "To see it again: $work/$(basename "$program") $input"
exit 1 # libFuzzer's own 77 would pass for a skipped test
