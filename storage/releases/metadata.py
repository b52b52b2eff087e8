"""What a release says of itself to programs: Croissant, Citation File Format, DataCite."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import yaml

from storage.releases.contents import LIDC, ReleaseContents

LICENCE_URL = "https://creativecommons.org/licenses/by/3.0/"
METHOD_ARXIV = "2210.05104"
SOURCE_DOI = "10.7937/K9/TCIA.2015.LO9QL9SX"
CURATORS = "Curators of this Halosign data set"
"""Stands for the authors, whom a store does not know."""

_COLUMNS = {
    "nodule": "Nodule id, stable from release to release",
    "patient": "Public id of the patient",
    "digest": "Names the case: the same digest means the same bytes",
    "method": "The matting method whose matte is released",
    "split": "train, validation or test; by patient",
}
_TERMS = ("citeAs", "column", "conformsTo", "extract", "field", "fileObject", "fileProperty", "fileSet", "format",
          "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references",
          "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform")  # fmt: skip
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


def metadata_files(composition: ReleaseContents, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Give ``croissant.json``, ``CITATION.cff`` and ``datacite.json``.

    Args:
        composition: What the release is made of.
        files: The release's ``splits.csv`` and ``index.parquet``.
    """
    return {
        "croissant.json": _json(_croissant(composition, files)),
        "CITATION.cff": yaml.safe_dump(
            _citation(composition), sort_keys=False, allow_unicode=True
        ).encode(),
        "datacite.json": _json(_datacite(composition)),
    }


def _croissant(composition: ReleaseContents, files: Mapping[str, bytes]) -> dict[str, Any]:
    fields = [_field(name, text) for name, text in _COLUMNS.items()]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": f"halosign-{composition.version.replace('.', '-')}",
        "alternateName": composition.title,
        "description": f"{composition.title}. {composition.summary}",
        "version": composition.version,
        "url": f"https://arxiv.org/abs/{METHOD_ARXIV}",
        "citeAs": f"{CURATORS}. {composition.title}. Made from {', '.join(sorted(composition.sources))}.",
        **({"license": LICENCE_URL} if _all_lidc(composition) else {}),
        "distribution": [
            _file("splits.csv", "text/csv", files["splits.csv"]),
            _file("index.parquet", "application/x-parquet", files["index.parquet"]),
        ],
        "recordSet": [
            {"@type": "cr:RecordSet", "@id": "nodules", "name": "nodules", "field": fields}
        ],
    }


def _file(name: str, encoding: str, data: bytes) -> dict[str, str]:
    sum_ = hashlib.sha256(data).hexdigest()
    return {"@type": "cr:FileObject", "@id": name, "name": name, "contentUrl": name, "encodingFormat": encoding,
            "sha256": sum_}  # fmt: skip


def _field(name: str, text: str) -> dict[str, Any]:
    source = {"fileObject": {"@id": "splits.csv"}, "extract": {"column": name}}
    return {"@type": "cr:Field", "@id": f"nodules/{name}", "name": f"nodules/{name}", "description": text,
            "dataType": "sc:Text", "source": source}  # fmt: skip


def _citation(composition: ReleaseContents) -> dict[str, Any]:
    references: list[dict[str, Any]] = [
        {
            "type": "article",
            "title": "3D Matting: A Benchmark Study on Soft Segmentation Method for Pulmonary Nodules Applied in "
            "Computed Tomography",
            "authors": [{"name": "Wang et al."}],
            "identifiers": [{"type": "other", "value": f"arXiv:{METHOD_ARXIV}"}],
        }
    ]
    if LIDC in composition.sources:
        authors = [{"name": "Armato et al."}]
        references.append(
            {"type": "data", "title": "Data From LIDC-IDRI", "authors": authors, "doi": SOURCE_DOI}
        )
    return {
        "cff-version": "1.2.0",
        "message": "If you use this data set, please cite it, the scans it was made from and the method.",
        "type": "dataset",
        "title": composition.title,
        "version": composition.version,
        "authors": [{"name": CURATORS}],
        "abstract": composition.summary,
        **({"license-url": LICENCE_URL} if _all_lidc(composition) else {}),
        "references": references,
    }


def _datacite(composition: ReleaseContents) -> dict[str, Any]:
    related = [
        {
            "relatedIdentifier": f"arXiv:{METHOD_ARXIV}",
            "relatedIdentifierType": "arXiv",
            "relationType": "IsDerivedFrom",
        }
    ]
    if LIDC in composition.sources:
        related.append(
            {
                "relatedIdentifier": SOURCE_DOI,
                "relatedIdentifierType": "DOI",
                "relationType": "IsDerivedFrom",
            }
        )
    rights = [{"rights": "Creative Commons Attribution 3.0 Unported", "rightsUri": LICENCE_URL,
               "rightsIdentifier": "CC-BY-3.0", "rightsIdentifierScheme": "SPDX"}]  # fmt: skip
    return {
        "schemaVersion": "http://datacite.org/schema/kernel-4",
        "creators": [{"name": CURATORS, "nameType": "Organizational"}],
        "titles": [{"title": composition.title, "lang": "en"}],
        "publisher": {"name": CURATORS},
        "publicationYear": composition.decided_at[:4],
        "types": {"resourceTypeGeneral": "Dataset", "resourceType": "3D alpha mattes"},
        "version": composition.version,
        "descriptions": [{"description": composition.summary, "descriptionType": "Abstract"}],
        "relatedIdentifiers": related,
        "rightsList": rights if _all_lidc(composition) else [],
    }


def _all_lidc(composition: ReleaseContents) -> bool:
    return set(composition.sources) == {LIDC}


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"
