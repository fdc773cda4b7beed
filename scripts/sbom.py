"""Adds the Debian packages of the images to the crates of the binary, and validates the result:
sbom.py CRATES LOCK OUT [CARRIED]. CARRIED is the list that the binary carries."""

import json
import sys
import uuid
from pathlib import Path
from urllib.parse import quote

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

crates, lock, out, *carried = map(Path, sys.argv[1:])
# The checkout's path is nobody's business, and would differ.
text = crates.read_text().replace(f"path+file://{Path.cwd()}#", "")
bom = json.loads(text)
packages = []
for line in lock.read_text().splitlines():
    name, version, architecture, digest = line.split()
    quoted = quote(version, safe="")
    packages.append(
        {
            "type": "library",
            "bom-ref": f"deb:{name}@{version}",
            "name": name,
            "version": version,
            "purl": f"pkg:deb/debian/{quote(name, safe='')}@{quoted}?arch={architecture}&distro=bookworm",
            "hashes": [{"alg": "SHA-256", "content": digest}],
        }
    )
bom["components"] += packages
# The same input gives the same file.
bom.pop("serialNumber", None)
text = json.dumps(bom, sort_keys=True)
bom["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, text).urn

problem = JsonStrictValidator(SchemaVersion.V1_5).validate_str(json.dumps(bom))
if problem is not None:
    sys.exit(f"not CycloneDX 1.5: {problem}")
listed = {(one["name"], one["version"]) for one in bom["components"]}
for file in carried:
    inside = json.loads(file.read_text())["packages"]
    # What only runs in a build is not in the binary.
    runtime = {
        (one["name"], one["version"])
        for one in inside
        if one.get("kind", "runtime") == "runtime" and not one.get("root")
    }
    if missing := runtime - listed:
        sys.exit(f"crates of the binary that the SBOM lacks: {sorted(missing)}")
    print(f"the binary's {len(runtime)} crates are in it")
out.write_text(json.dumps(bom, indent=1) + "\n")
print(f"{out}: {len(listed)} components, {len(packages)} of them Debian packages; valid CycloneDX 1.5")
