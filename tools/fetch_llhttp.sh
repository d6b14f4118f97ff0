#!/bin/sh
# Unpacks llhttp (Node's HTTP/1.1 parser, MIT) into .deps/llhttp: three C files and a header, taken from the source package of
# httptools, for systems that have no libllhttp package. Does nothing when they are there. PYTHON: a Python that has pip.
set -eu
version=0.9.0
sha256=d484ebb7e3a3f3597b0f645fbd1b85633674ca808c1f5ba11c2caf7c66f5c8b6
root=$(cd "$(dirname "$0")/.." && pwd)
target=$root/.deps/llhttp
[ -f "$target/.complete-$version" ] && exit 0
echo "==> fetching the HTTP parser llhttp $version ..."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary httptools --dest "$work" \
    "httptools==$version"
archive=$work/httptools-$version.tar.gz
echo "$sha256  $archive" | sha256sum --check --quiet
tar -xzf "$archive" -C "$work"
rm -rf "$target"
mkdir -p "$target"
cp -r "$work/httptools-$version/vendor/llhttp/include" "$work/httptools-$version/vendor/llhttp/src" "$target/"
cp "$work/httptools-$version/vendor/llhttp/LICENSE"* "$target/" 2>/dev/null || true
touch "$target/.complete-$version"
