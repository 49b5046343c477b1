"""Media types by file extension.

A table of our own, so that the same file has the same type on every machine: the standard library's `mimetypes` reads
whatever files the host has.
"""

from __future__ import annotations

from typing import Final

DEFAULT: Final = "application/octet-stream"

_TEXT: Final = "; charset=utf-8"

TYPES: Final = {
    # Text, always UTF-8: a server that does not say so leaves browsers guessing.
    "c": "text/plain" + _TEXT,
    "cfg": "text/plain" + _TEXT,
    "conf": "text/plain" + _TEXT,
    "css": "text/css" + _TEXT,
    "csv": "text/csv" + _TEXT,
    "h": "text/plain" + _TEXT,
    "htm": "text/html" + _TEXT,
    "html": "text/html" + _TEXT,
    "ics": "text/calendar" + _TEXT,
    "ini": "text/plain" + _TEXT,
    "js": "text/javascript" + _TEXT,
    "log": "text/plain" + _TEXT,
    "md": "text/markdown" + _TEXT,
    "mjs": "text/javascript" + _TEXT,
    "nim": "text/plain" + _TEXT,
    "py": "text/x-python" + _TEXT,
    "pyi": "text/x-python" + _TEXT,
    "rst": "text/plain" + _TEXT,
    "sh": "text/plain" + _TEXT,
    "toml": "text/plain" + _TEXT,
    "txt": "text/plain" + _TEXT,
    "vcf": "text/vcard" + _TEXT,
    "vtt": "text/vtt" + _TEXT,
    "yaml": "application/yaml",
    "yml": "application/yaml",
    # Data
    "atom": "application/atom+xml",
    "json": "application/json",
    "jsonld": "application/ld+json",
    "map": "application/json",
    "pdf": "application/pdf",
    "rss": "application/rss+xml",
    "wasm": "application/wasm",
    "webmanifest": "application/manifest+json",
    "xhtml": "application/xhtml+xml",
    "xml": "application/xml",
    # Pictures
    "apng": "image/apng",
    "avif": "image/avif",
    "bmp": "image/bmp",
    "gif": "image/gif",
    "heic": "image/heic",
    "ico": "image/x-icon",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "jxl": "image/jxl",
    "png": "image/png",
    "svg": "image/svg+xml",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "webp": "image/webp",
    # Sound and film
    "aac": "audio/aac",
    "flac": "audio/flac",
    "m4a": "audio/mp4",
    "m3u8": "application/vnd.apple.mpegurl",
    "m4v": "video/mp4",
    "mkv": "video/x-matroska",
    "mov": "video/quicktime",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "mpd": "application/dash+xml",
    "mpeg": "video/mpeg",
    "mpg": "video/mpeg",
    "oga": "audio/ogg",
    "ogg": "audio/ogg",
    "ogv": "video/ogg",
    "opus": "audio/ogg",
    "wav": "audio/wav",
    "weba": "audio/webm",
    "webm": "video/webm",
    # Fonts
    "otf": "font/otf",
    "ttf": "font/ttf",
    "woff": "font/woff",
    "woff2": "font/woff2",
    # Archives and documents
    "7z": "application/x-7z-compressed",
    "bz2": "application/x-bzip2",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "epub": "application/epub+zip",
    "gz": "application/gzip",
    "ods": "application/vnd.oasis.opendocument.spreadsheet",
    "odp": "application/vnd.oasis.opendocument.presentation",
    "odt": "application/vnd.oasis.opendocument.text",
    "ppt": "application/vnd.ms-powerpoint",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "rtf": "application/rtf",
    "tar": "application/x-tar",
    "tgz": "application/gzip",
    "whl": "application/zip",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "xz": "application/x-xz",
    "zip": "application/zip",
    "zst": "application/zstd",
}

# Whose content is compressed already: there is little to be gained, so nobody keeps compressed copies.
_COMPRESSED: Final = frozenset(
    {
        *("apng", "avif", "gif", "heic", "jpeg", "jpg", "jxl", "png", "webp", "woff", "woff2"),
        *("aac", "flac", "m4a", "m4v", "mkv", "mov", "mp3", "mp4", "mpeg", "mpg", "oga", "ogg", "ogv", "opus"),
        *("weba", "webm"),
        *("7z", "bz2", "docx", "epub", "gz", "odp", "ods", "odt", "pdf", "pptx", "tgz", "whl", "xlsx"),
        *("xz", "zip", "zst"),
    }
)


def get_file_ext(path: str) -> str:
    """Return the extension of a path in lower case, without the dot; ``""`` when it has none."""
    name = path.rpartition("/")[2]
    stem, dot, extension = name.rpartition(".")
    return extension.lower() if dot and stem else ""


def media_type(path: str) -> str:
    """Return the media type for a file's name, with its character set where it is text."""
    return TYPES.get(get_file_ext(path), DEFAULT)


def type_line(path: str) -> str:
    """Return the Content-Type of a file as a line of a response."""
    return f"Content-Type: {media_type(path)}\r\n"


def is_compressed(path: str) -> bool:
    """Tell whether files of this extension are compressed already."""
    return get_file_ext(path) in _COMPRESSED
