"""Kinds of files that a scan does not open, by file extension, so that it can count them."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """A kind of file that may show pictures but is not scanned."""

    RAW = "camera-raw"
    VIDEO = "video"
    DRAWING = "drawing"
    PICTURE = "other-picture"
    DOCUMENT = "document"
    ARCHIVE = "archive"


NAMES = {
    Kind.RAW: ("camera raw file", "camera raw files"),
    Kind.VIDEO: ("video", "videos"),
    Kind.DRAWING: ("drawing", "drawings"),
    Kind.PICTURE: ("picture of another format", "pictures of other formats"),
    Kind.DOCUMENT: ("document", "documents"),
    Kind.ARCHIVE: ("archive", "archives"),
}
"""Singular and plural, for messages."""

_ENDINGS = {
    Kind.RAW: (
        "3fr ari arw bay cap cr2 cr3 crw dcr dng eip erf fff gpr iiq k25 kdc mef mos mrw nef nrw "
        "orf ori pef ptx r3d raf raw rw2 rwl sr2 srf srw x3f"
    ),
    Kind.VIDEO: (
        "3g2 3gp asf avi divx f4v flv insv m2ts m4v mkv mov mp4 mpeg mpg mts ogv rm rmvb vob webm "
        "wmv"
    ),
    Kind.DRAWING: "ai cdr eps odg svg svgz wmf emf",
    Kind.PICTURE: (
        "cur dds exr fits hdr ico icns jng jxr mng pam pbm pcx pfm pgm pict pnm ppm ras rgbe sgi "
        "tga wdp xbm xcf xpm kra clip insp psb"
    ),
    Kind.DOCUMENT: "djvu doc docx epub mobi odp odt pdf ppt pptx",
    Kind.ARCHIVE: "7z bz2 cb7 cbr cbt cbz gz iso rar tar tbz tgz txz xz zip zst",
}
BY_ENDING = {f".{ending}": kind for kind, text in _ENDINGS.items() for ending in text.split()}
"""File extension, in lower case and with its dot, to kind."""
