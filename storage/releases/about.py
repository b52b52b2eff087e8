"""Title, authors, license and contact of a release, as its publisher gives them."""

from matting.errors import InputError
from storage.records import About

LICENSES = {
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-BY-3.0": "https://creativecommons.org/licenses/by/3.0/",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-SA-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "CC-BY-NC-4.0": "https://creativecommons.org/licenses/by-nc/4.0/",
    "CC-BY-NC-SA-4.0": "https://creativecommons.org/licenses/by-nc-sa/4.0/",
    "ODC-By-1.0": "https://opendatacommons.org/licenses/by/1-0/",
    "ODbL-1.0": "https://opendatacommons.org/licenses/odbl/1-0/",
}
"""Address of the text of each license, by its identifier in SPDX."""
LONGEST = 300
"""Characters of a title, a name or an address."""


def read_about(
    *, title: str = "", authors: str = "", license_: str = "", contact: str = ""
) -> About:
    """Check what a publisher typed.

    Args:
        title: Of the data set.
        authors: Names, separated by semicolons.
        license_: An identifier of SPDX in any case, or a name.
        contact: A name, an e-mail address or a web page.

    Raises:
        InputError: A text has more than a line, or is very long.
    """
    for name, text in (
        ("title", title),
        ("authors", authors),
        ("license", license_),
        ("contact", contact),
    ):
        longest = LONGEST * (1 + text.count(";"))
        if not text.isprintable() or len(text) > longest:
            raise InputError(
                f"the {name} of a release is no line of text",
                got=repr(text[:60]),
                expected=f"at most {longest} printable characters",
                remedy="Give it in one line.",
            )
    known = {name.lower(): name for name in LICENSES}
    return About(
        title=title.strip(),
        authors=tuple(filter(None, (name.strip() for name in authors.split(";")))),
        license=known.get(license_.strip().lower(), license_.strip()),
        contact=contact.strip(),
    )
