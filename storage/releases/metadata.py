"""Metadata files of a release, for programs: Croissant, Citation File Format and DataCite."""

import hashlib
import io
import json
from collections.abc import Mapping

import pandas as pd
import yaml

from storage.records import JsonObject
from storage.releases.about import LICENSES
from storage.releases.contents import LIDC, ReleaseContents
from storage.releases.index import describe_column

METHOD_ARXIV = "2210.05104"
SOURCE_DOI = "10.7937/K9/TCIA.2015.LO9QL9SX"
INDEX = "index.parquet"
_TYPES = {"b": "sc:Boolean", "i": "sc:Integer", "u": "sc:Integer", "f": "sc:Float"}
"""Types of Croissant by the kind of a column's data type; all others are text."""
_TERMS = (
    "citeAs",
    "column",
    "conformsTo",
    "extract",
    "field",
    "fileObject",
    "fileProperty",
    "fileSet",
    "format",
    "includes",
    "isLiveDataset",
    "jsonPath",
    "key",
    "md5",
    "parentField",
    "path",
    "recordSet",
    "references",
    "regex",
    "repeated",
    "replace",
    "samplingRate",
    "separator",
    "source",
    "subField",
    "transform",
)
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    **{term: f"cr:{term}" for term in _TERMS},
    "conformsTo": "dct:conformsTo",
    "equivalentProperty": "cr:equivalentProperty",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
}


def metadata_files(contents: ReleaseContents, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return ``croissant.json``, ``CITATION.cff`` and ``datacite.json`` by name.

    Args:
        contents: What the release contains.
        files: The release's ``splits.csv`` and ``index.parquet``.
    """
    return {
        "croissant.json": _json(_croissant(contents, files)),
        "CITATION.cff": yaml.safe_dump(
            _citation(contents), sort_keys=False, allow_unicode=True
        ).encode(),
        "datacite.json": _json(_datacite(contents)),
    }


def _croissant(contents: ReleaseContents, files: Mapping[str, bytes]) -> JsonObject:
    columns = pd.read_parquet(io.BytesIO(files[INDEX])).dtypes
    fields = [_field(str(name), _TYPES.get(kind.kind, "sc:Text")) for name, kind in columns.items()]
    sources = ", ".join(sorted(contents.sources))
    authors = contents.authors
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": f"halosign-{contents.version.replace('.', '-')}",
        "alternateName": contents.title,
        "description": f"{contents.title}. {contents.summary}",
        "version": contents.version,
        "url": f"https://arxiv.org/abs/{METHOD_ARXIV}",
        "citeAs": f"{'; '.join(authors)}. {contents.title}. Made from {sources}.",
        "creator": [{"@type": _kind_of_author(contents), "name": name} for name in authors],
        "datePublished": contents.decided_at[:10],
        "license": LICENSES.get(contents.license, contents.license or "That of the scans"),
        "distribution": [
            _file("splits.csv", "text/csv", files["splits.csv"]),
            _file(INDEX, "application/x-parquet", files[INDEX]),
        ],
        "recordSet": [
            {"@type": "cr:RecordSet", "@id": "nodules", "name": "nodules", "field": fields}
        ],
    }


def _file(name: str, encoding: str, data: bytes) -> dict[str, str]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "encodingFormat": encoding,
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _kind_of_author(contents: ReleaseContents) -> str:
    return "sc:Person" if contents.about.authors else "sc:Organization"


def _field(name: str, type_: str) -> JsonObject:
    return {
        "@type": "cr:Field",
        "@id": f"nodules/{name}",
        "name": f"nodules/{name}",
        "description": describe_column(name),
        "dataType": type_,
        "source": {"fileObject": {"@id": INDEX}, "extract": {"column": name}},
    }


def _citation(contents: ReleaseContents) -> JsonObject:
    references: list[JsonObject] = [
        {
            "type": "article",
            "title": "3D Matting: A Benchmark Study on Soft Segmentation Method for "
            "Pulmonary Nodules Applied in "
            "Computed Tomography",
            "authors": [{"name": "Wang et al."}],
            "identifiers": [{"type": "other", "value": f"arXiv:{METHOD_ARXIV}"}],
        }
    ]
    if LIDC in contents.sources:
        authors = [{"name": "Armato et al."}]
        references.append(
            {"type": "data", "title": "Data From LIDC-IDRI", "authors": authors, "doi": SOURCE_DOI}
        )
    return {
        "cff-version": "1.2.0",
        "message": "If you use this data set, please cite it, the scans that it was made from "
        "and the method.",
        "type": "dataset",
        "title": contents.title,
        "version": contents.version,
        "authors": [{"name": name} for name in contents.authors],
        **({"contact": [{"name": contents.about.contact}]} if contents.about.contact else {}),
        "abstract": contents.summary,
        **_citation_license(contents.license),
        "references": references,
    }


def _citation_license(name: str) -> JsonObject:
    if name in LICENSES:
        return {"license": name, "license-url": LICENSES[name]}
    # The format knows no other names than those of SPDX
    return {"keywords": [f"license: {name}"]} if name else {}


def _datacite(contents: ReleaseContents) -> JsonObject:
    origins = [(f"arXiv:{METHOD_ARXIV}", "arXiv")]
    if LIDC in contents.sources:
        origins.append((SOURCE_DOI, "DOI"))
    related = [
        {
            "relatedIdentifier": identifier,
            "relatedIdentifierType": kind,
            "relationType": "IsDerivedFrom",
        }
        for identifier, kind in origins
    ]
    kind = "Personal" if contents.about.authors else "Organizational"
    contact = contents.about.contact
    return {
        "schemaVersion": "http://datacite.org/schema/kernel-4",
        "creators": [{"name": name, "nameType": kind} for name in contents.authors],
        **(
            {"contributors": [{"name": contact, "contributorType": "ContactPerson"}]}
            if contact
            else {}
        ),
        "titles": [{"title": contents.title, "lang": "en"}],
        "publisher": {"name": "; ".join(contents.authors)},
        "publicationYear": contents.decided_at[:4],
        "types": {"resourceTypeGeneral": "Dataset", "resourceType": "3D alpha mattes"},
        "version": contents.version,
        "descriptions": [{"description": contents.summary, "descriptionType": "Abstract"}],
        "relatedIdentifiers": related,
        "rightsList": _rights(contents.license),
    }


def _rights(name: str) -> list[JsonObject]:
    if name not in LICENSES:
        return [{"rights": name}] if name else []
    return [
        {
            "rights": name,
            "rightsUri": LICENSES[name],
            "rightsIdentifier": name,
            "rightsIdentifierScheme": "SPDX",
        }
    ]


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"
