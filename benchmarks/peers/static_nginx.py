"""nginx with one worker, sendfile, and a configuration of its own."""

import os
import shutil
import subprocess
from pathlib import Path

from _peer import HOST, free_port, parser, say_port, skip

# As its authors advise for files: sendfile, corked heads, descriptors kept open for a while.
CONFIGURATION = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; keepalive_timeout 65;
  open_file_cache max=100; etag on; server_tokens off; types {{ }} default_type application/octet-stream;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen {host}:{port} backlog=1024; root {root}; }}
}}
"""


def main() -> None:
    """Become nginx."""
    arguments = parser()
    arguments.add_argument("--root")
    given = arguments.parse_args()
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        skip("nginx is not installed (Debian: apt-get install nginx)")
    port = free_port(given.port)
    folder = Path(given.root).parent / "nginx"
    folder.mkdir()
    configuration = folder / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, host=HOST, port=port, root=given.root))
    version = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stderr
    print(f"build {version.strip()}", flush=True)
    say_port(port)
    os.execv(program, [program, "-e", "stderr", "-c", str(configuration), "-p", str(folder)])


if __name__ == "__main__":
    main()
