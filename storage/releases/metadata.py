"""Metadata files of a release, for programs: Croissant, Citation File Format and DataCite."""

import hashlib
import json
from collections.abc import Mapping

import yaml

from storage.records import JsonObject
from storage.releases.contents import LIDC, ReleaseContents

LICENCE_URL = "https://creativecommons.org/licenses/by/3.0/"
METHOD_ARXIV = "2210.05104"
SOURCE_DOI = "10.7937/K9/TCIA.2015.LO9QL9SX"
CURATORS = "Curators of this Halosign data set"
"""In place of the authors, whom a store does not know."""

_COLUMNS = {
    "nodule": "Nodule id, the same in every release",
    "patient": "Public patient id",
    "digest": "Digest of the case; equal digests mean equal bytes",
    "method": "The matting method whose matte is released",
    "split": "train, validation or test; all nodules of a patient are in one split",
}
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
    fields = [_field(name, text) for name, text in _COLUMNS.items()]
    sources = ", ".join(sorted(contents.sources))
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": f"halosign-{contents.version.replace('.', '-')}",
        "alternateName": contents.title,
        "description": f"{contents.title}. {contents.summary}",
        "version": contents.version,
        "url": f"https://arxiv.org/abs/{METHOD_ARXIV}",
        "citeAs": f"{CURATORS}. {contents.title}. Made from {sources}.",
        **({"license": LICENCE_URL} if _all_lidc(contents) else {}),
        "distribution": [
            _file("splits.csv", "text/csv", files["splits.csv"]),
            _file("index.parquet", "application/x-parquet", files["index.parquet"]),
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


def _field(name: str, text: str) -> JsonObject:
    return {
        "@type": "cr:Field",
        "@id": f"nodules/{name}",
        "name": f"nodules/{name}",
        "description": text,
        "dataType": "sc:Text",
        "source": {"fileObject": {"@id": "splits.csv"}, "extract": {"column": name}},
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
        "authors": [{"name": CURATORS}],
        "abstract": contents.summary,
        **({"license-url": LICENCE_URL} if _all_lidc(contents) else {}),
        "references": references,
    }


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
    rights = {
        "rights": "Creative Commons Attribution 3.0 Unported",
        "rightsUri": LICENCE_URL,
        "rightsIdentifier": "CC-BY-3.0",
        "rightsIdentifierScheme": "SPDX",
    }
    return {
        "schemaVersion": "http://datacite.org/schema/kernel-4",
        "creators": [{"name": CURATORS, "nameType": "Organizational"}],
        "titles": [{"title": contents.title, "lang": "en"}],
        "publisher": {"name": CURATORS},
        "publicationYear": contents.decided_at[:4],
        "types": {"resourceTypeGeneral": "Dataset", "resourceType": "3D alpha mattes"},
        "version": contents.version,
        "descriptions": [{"description": contents.summary, "descriptionType": "Abstract"}],
        "relatedIdentifiers": related,
        "rightsList": [rights] if _all_lidc(contents) else [],
    }


def _all_lidc(contents: ReleaseContents) -> bool:
    return set(contents.sources) == {LIDC}


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"
