#!/bin/sh
# check_isa.sh LIBRARY...: fails when the object code of an instruction set could run on a processor that lacks it: code that runs at
# program start, or a symbol other than the kernel table, which the linker might take for another file's.
set -eu
status=0
for library; do
    if readelf -SW "$library" | grep -qE '\.(init_array|ctors|preinit_array)'; then
        echo "$library: no code that runs at start expected, .init_array found"
        status=1
    fi
    others=$(nm -g --defined-only "$library" 2>/dev/null | awk 'NF == 3 && $3 !~ /^oct_kernels_/ { print $3 }')
    if [ -n "$others" ]; then
        echo "$library: only oct_kernels_* expected, found:" $others
        status=1
    fi
done
exit $status
