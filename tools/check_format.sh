#!/bin/sh
# Fails, naming the lines, when a C file is not formatted as .clang-format says. `tools/check_format.sh --fix` formats instead.
# Formatting differs between versions of clang-format, so only version 14 (Debian 12's) judges: exit status 77 (skipped) without it.
set -eu
cd "$(dirname "$0")/.."
for formatter in clang-format-14 clang-format; do
    if "$formatter" --version 2>/dev/null | grep -q 'version 14\.'; then break; fi
    formatter=
done
if [ -z "$formatter" ]; then
    echo "clang-format 14 is not installed"
    exit 77
fi
list_files() { find include src tests bench -name '*.[ch]' -print0 2>/dev/null; }
if [ "${1:-}" = --fix ]; then
    list_files | xargs -0 -r "$formatter" --style=file -i
    exit 0
fi
places=$(list_files | xargs -0 -r "$formatter" --style=file --dry-run 2>&1 | grep 'clang-format-violations' | cut -d : -f 1,2 | uniq || true)
if [ -n "$places" ]; then
    echo "$places"
    echo "These lines are not formatted as .clang-format says; \`make format\` formats them."
    exit 1
fi
