#!/usr/bin/env python3
"""Fails when an #include points upward: tools/check_layers.py [ROOT].

Octavo's layers are a list, bottom first; a file may include its own layer and those below it. Two layers see less than what lies
below them: text and comm use only base. The server sees the engine only through the public header, and nothing outside the device
layer, nor device.h itself, sees how one device works.
"""
import re
import sys
from pathlib import Path

# (layer, the only layers it may include besides itself; None: all below). A path belongs to the first prefix that fits, longest first.
LAYERS = [
    ("include/octavo_error.h", None),
    ("src/base", None),
    ("src/numeric", None),
    ("src/comm", {"include/octavo_error.h", "src/base"}),
    ("src/device", None),
    ("src/text", {"include/octavo_error.h", "src/base"}),
    ("src/quant", None),
    ("src/model", None),
    ("src/engine", None),
    ("include/octavo.h", {"include/octavo_error.h"}),
    ("src/api", None),
    ("src/server", {"include/octavo_error.h", "include/octavo.h", "src/base"}),
    ("src/cli", None),
]
RANK = {layer: rank for rank, (layer, _) in enumerate(LAYERS)}
ALLOWED = dict(LAYERS)
INCLUDE = re.compile(r'\s*#\s*include\s*["<]([^">]+)[">]')


def layer_of(path):
    """The layer of a path relative to the root, or None."""
    return next((layer for layer in RANK if path == layer or path.startswith(layer + "/")), None)


def resolve(root, including, name):
    """The path relative to the root of the file that an #include in `including` means, or None for a system header."""
    for folder in (including.parent, root / "src", root / "include"):
        target = (folder / name).resolve()
        if target.is_file() and target.is_relative_to(root):
            return target.relative_to(root).as_posix()
    return None


def complaint(source, target):
    """Why the file `source` must not include `target`, or None."""
    above, below = layer_of(source), layer_of(target)
    if below is None:
        return f"{target} belongs to no layer"
    if below == above:
        hidden = target.startswith("src/device/cpu/") and source == "src/device/device.h"
        return "device.h must not know a particular device" if hidden else None
    if RANK[below] > RANK[above]:
        return f"{below} lies above {above}"
    if ALLOWED[above] is not None and below not in ALLOWED[above]:
        return f"{above} may include only {', '.join(sorted(ALLOWED[above]))}"
    if target.startswith("src/device/cpu/"):
        return "outside src/device only device.h may be included"
    return None


def check(root):
    """All complaints about the tree at `root`, and the number of files looked at."""
    root = root.resolve()
    complaints = []
    files = [path for folder in ("include", "src") for path in sorted((root / folder).rglob("*")) if path.suffix in (".c", ".h", ".inc")]
    for path in files:
        source = path.relative_to(root).as_posix()
        if layer_of(source) is None:
            complaints.append(f"{source}: belongs to no layer: give its folder a place in tools/check_layers.py")
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            match = INCLUDE.match(line)
            target = match and resolve(root, path, match.group(1))
            reason = target and complaint(source, target)
            if reason:
                complaints.append(f'{source}:{number}: includes "{match.group(1)}": {reason}')
    return complaints, len(files)


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent
    complaints, files = check(root)
    if not files:
        sys.exit(f"{root}: no C files under include and src")
    for line in complaints:
        print(line)
    print(f"{files} files, {len(complaints)} includes against the layers")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
