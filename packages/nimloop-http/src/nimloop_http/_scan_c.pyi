from nimloop_http._scan_py import Scan

def scan_head(
    data: bytes | bytearray, start: int, most_line: int, most_bytes: int, most_fields: int, /
) -> Scan | None: ...
