#!/usr/bin/env python3
"""Check the licence and the source of every dependency, on every platform and with every feature (standard library only).

    python3 .ci/licences.py

Reads `cargo metadata`. Exit status 1 when a licence expression cannot be met from ALLOWED, or a crate comes from anywhere
but a registry. Crates that stand in the tree in several versions are reported, and break nothing.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict

ALLOWED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
    "ISC", "MIT", "MIT-0", "Unicode-3.0", "Unlicense", "Zlib",
}
# Further licences for one crate each, with the reason.
EXCEPTIONS = {
    "colored": {"MPL-2.0"},  # used unmodified; copyleft by file
    "option-ext": {"MPL-2.0"},  # used unmodified; copyleft by file
    "webpki-root-certs": {"CDLA-Permissive-2.0"},  # data: root certificates; only with `hub`
}
TOKEN = re.compile(r"\(|\)|/|[A-Za-z0-9.+-]+")


def met(expression, allowed):
    """Whether an SPDX expression (or the old `A/B`) can be met from `allowed`; ValueError when it is none."""
    tokens = TOKEN.findall(expression)
    at = 0

    def peek():
        return tokens[at] if at < len(tokens) else None

    def take():
        nonlocal at
        at += 1
        return tokens[at - 1]

    def either():
        result = both()
        while peek() in ("OR", "/"):
            take()
            result = both() or result
        return result

    def both():
        result = one()
        while peek() == "AND":
            take()
            result = one() and result
        return result

    def one():
        if peek() in (None, ")", "/", "AND", "OR", "WITH"):
            raise ValueError(expression)
        name = take()
        if name == "(":
            result = either()
            if peek() != ")":
                raise ValueError(expression)
            take()
            return result
        if peek() == "WITH":
            take()
            name += f" WITH {take()}"
        return name in allowed

    result = either()
    if peek() is not None:
        raise ValueError(expression)
    return result


def self_test():
    cases = {
        "MIT": True, "GPL-3.0": False, "MIT OR GPL-3.0": True, "GPL-3.0 OR MIT": True, "MIT AND GPL-3.0": False,
        "GPL-3.0 AND MIT": False, "MIT/Apache-2.0": True, "(MIT OR GPL-3.0) AND ISC": True,
        "MIT OR GPL-3.0 AND AGPL-3.0": True, "Apache-2.0 WITH LLVM-exception": True,
        "GPL-2.0 WITH Classpath-exception-2.0": False,
    }
    for expression, expected in cases.items():
        assert met(expression, ALLOWED) is expected, expression


def problem(package):
    """What is wrong with one package, or None."""
    if package["source"] is not None and not package["source"].startswith("registry+"):
        return f"comes from {package['source']}, not from a registry"
    expression = package["license"]
    if not expression:
        return f"names no licence (licence file: {package['license_file']})"
    try:
        if met(expression, ALLOWED | EXCEPTIONS.get(package["name"], set())):
            return None
    except ValueError:
        return f"licence expression not understood: {expression!r}"
    return f"licence {expression!r} cannot be met; hint: another crate, or a reasoned line in EXCEPTIONS"


def main():
    self_test()
    command = ["cargo", "metadata", "--locked", "--all-features", "--format-version", "1"]
    packages = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["packages"]
    bad = [(p["name"], p["version"], why) for p in packages if (why := problem(p))]
    versions = defaultdict(set)
    for p in packages:
        versions[p["name"]].add(p["version"])
    several = {name: sorted(found) for name, found in versions.items() if len(found) > 1}
    print(f"{len(several)} crates in several versions: "
          + ", ".join(f"{name} {' '.join(found)}" for name, found in sorted(several.items())))
    stale = sorted(EXCEPTIONS.keys() - versions.keys())
    if stale:
        print(f"exceptions for crates that are not in the tree: {', '.join(stale)}")
    for name, version, why in bad:
        print(f"{name} {version}: {why}")
    print(f"{len(packages)} packages, {len(bad)} problems")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
