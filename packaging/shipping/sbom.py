"""sbom.cdx.json: the same inventory for programs, in CycloneDX 1.6.

The one module that knows cyclonedx-python-lib. Time and serial number come from the input, so that
equal bundles have equal documents.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.contrib.this.builders import this_component
from cyclonedx.model import AttachedText, HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from shipping.errors import ShippingError
from shipping.inventory import PROGRAMS, Kind

if TYPE_CHECKING:
    from shipping.inventory import Inventory, Part

NAME = "sbom.cdx.json"
_NAMESPACE = uuid.UUID("9b0f3c1e-5c0a-5d55-8f0e-6a6f1a4c7d21")
_TYPES = {
    Kind.PROGRAM: ComponentType.APPLICATION,
    Kind.LIBRARY: ComponentType.LIBRARY,
    Kind.RUNTIME: ComponentType.FRAMEWORK,
    Kind.SYSTEM: ComponentType.LIBRARY,
    Kind.MODEL: ComponentType.MACHINE_LEARNING_MODEL,
}


def render(inventory: Inventory, epoch_s: int) -> str:
    """Return the document. Raises `ShippingError` when it does not fit the schema."""
    components = {part.key: _component(part, inventory.bundle) for part in inventory.parts}
    program, *others = components.values()
    bom = Bom(components=others)
    bom.metadata.component = program
    bom.metadata.timestamp = datetime.fromtimestamp(epoch_s, UTC)
    bom.metadata.tools.components.add(this_component())
    for part in inventory.parts:
        needed = [components[name] for name in part.needs]
        bom.register_dependency(components[part.key], [*needed, *components[part.key].components])
    known = hashlib.sha256(repr([(one.name, one.version) for one in others]).encode())
    for one in others:
        known.update("".join(hash_.content for hash_ in one.hashes).encode())
    bom.serial_number = uuid.uuid5(_NAMESPACE, known.hexdigest())
    text = JsonV1Dot6(bom).output_as_string(indent=2) + "\n"
    validate(text)
    return text


def validate(text: str) -> None:
    """Check a document against the schema of its version. Raises `ShippingError`."""
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if problem is not None:
        raise ShippingError(f"the SBOM does not fit its schema: {problem}")


def _component(part: Part, bundle: str) -> Component:
    licences = [LicenseFactory().make_from_string(part.licence)]
    if len(part.texts) == 1 and isinstance(licences[0], DisjunctiveLicense):
        licences[0].text = AttachedText(content=part.texts[0].text)
    files = [_file(bundle, path) for path in part.files if _is_binary(path)]
    inner = [_inner(one, part.key) for one in part.within]
    return Component(
        name=part.name,
        version=part.version,
        type=_TYPES[part.kind],
        bom_ref=f"{part.kind.name.lower()}:{part.name}",
        purl=PackageURL.from_string(part.purl) if part.purl else None,
        licenses=licences,
        hashes=[hash_ for one in files for hash_ in one.hashes if one.name.endswith("/model.onnx")],
        components=[*files, *inner],
        properties=[Property(name="nsfwscan:kind", value=part.kind.value)],
    )


def _file(bundle: str, path: str) -> Component:
    with open(os.path.join(bundle, path), "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Component(
        name=path,
        type=ComponentType.FILE,
        bom_ref=f"file:{path}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
    )


def _inner(document: dict[str, Any], within: str) -> Component:
    """Return what a publisher says is compiled into its library: what identifies it."""
    purl = document.get("purl")
    return Component(
        name=document["name"],
        version=document.get("version"),
        type=ComponentType.LIBRARY,
        bom_ref=f"inner:{within}:{document.get('bom-ref') or document['name']}",
        purl=PackageURL.from_string(purl) if purl else None,
        licenses=[
            LicenseFactory().make_from_string(name)
            for one in document.get("licenses", ())
            if (name := one.get("expression") or one.get("license", {}).get("id"))
        ],
    )


def _is_binary(path: str) -> bool:
    name = os.path.basename(path)
    return (
        path in PROGRAMS
        or name.endswith((".so", ".dll", ".dylib", ".pyd", ".onnx", ".exe"))
        or ".so." in name
    )


def components(text: str) -> list[dict[str, Any]]:
    """Return the components of a document, the nested ones after their parents."""
    ahead = list(json.loads(text).get("components", ()))
    flat = []
    while ahead:
        one = ahead.pop(0)
        flat.append(one)
        ahead = [*one.get("components", ()), *ahead]
    return flat
