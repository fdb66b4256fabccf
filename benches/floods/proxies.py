"""The proxies that are flooded: tidegate, and nginx and HAProxy with the same timeouts beside it."""

import os
import socket
import subprocess
import sys
import time

TIDEGATE = """
[runtime]
workers = {workers}
watch = false
state_dir = "{dir}/state"
[admin]
listen = "127.0.0.1:{admin}"
[[listener]]
name = "http"
address = "127.0.0.1:{port}"
[listener.timeout]
header = "1s"
body = "1s"
write = "1s"
[[route]]
path = "=/limited"
service = "app"
[[route.rate_limit]]
name = "per-client"
key = "client_ip"
rate = "100/s"
burst = 100
ban_after = 1000
[[route]]
path = "=/shared"
service = "app"
[[route.rate_limit]]
name = "whole-route"
key = "route"
rate = "100/s"
burst = 100
ban_after = 200
[[route]]
path = "=/expensive"
service = "app"
[route.concurrency_limit]
max = 4
[[route]]
service = "app"
{limits}
[service.app]
[[service.app.backend]]
address = "127.0.0.1:{origin}"
"""

# What each client may ask for, in each proxy's words: rate and burst are far above the polite client's.
LIMITS = {
    "tidegate": """[[route.rate_limit]]
name = "each-client"
key = "client_ip"
rate = "200/s"
burst = 20
ban_after = 200""",
    "nginx": """limit_req zone=clients burst=20 nodelay;
            limit_req_status 429;""",
    "haproxy": """stick-table type ip size 100k expire 1m store gpc0,http_req_rate(250ms)
    http-request track-sc0 src
    http-request deny deny_status 429 if { sc_http_req_rate(0) gt 50 }""",
}

# Without TLS it speaks either HTTP/1 or HTTP/2 on a port.
NGINX = """
daemon off;
worker_processes {workers};
pid {dir}/nginx.pid;
error_log /dev/null;
events {{ worker_connections 10000; }}
http {{
    access_log off;
    client_header_timeout 1s;
    client_body_timeout 1s;
    send_timeout 1s;
    client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir}; uwsgi_temp_path {dir};
    scgi_temp_path {dir};
    limit_req_zone $binary_remote_addr zone=clients:10m rate=200r/s;
    limit_req_zone $binary_remote_addr zone=client:10m rate=100r/s;
    limit_req_zone $server_name zone=all:1m rate=100r/s;
    limit_conn_zone $server_name zone=places:1m;
    limit_req_status 429;
    upstream app {{ server 127.0.0.1:{origin}; keepalive 256; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        listen 127.0.0.1:{h2} http2 backlog=4096;
        location / {{
            {limits}
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_read_timeout 2h;
            proxy_max_temp_file_size 0;
            location = /limited {{ limit_req zone=client burst=100 nodelay; proxy_pass http://app; }}
            location = /shared {{ limit_req zone=all burst=100 nodelay; proxy_pass http://app; }}
            location = /expensive {{ limit_conn places 4; proxy_pass http://app; }}
        }}
    }}
}}
"""

HAPROXY = """
global
    nbthread {workers}
    maxconn 4000
defaults
    mode http
    timeout http-request 1s
    timeout client 1s
    timeout connect 3s
    timeout server 2h
frontend front
    bind 127.0.0.1:{port} backlog 4096
    {limits}
    http-request track-sc1 src table clients if {{ path /limited }}
    http-request deny deny_status 429 if {{ path /limited }} {{ sc1_http_req_rate(clients) gt 100 }}
    http-request track-sc2 path table paths if {{ path /shared }}
    http-request deny deny_status 429 if {{ path /shared }} {{ sc2_http_req_rate(paths) gt 100 }}
    use_backend expensive if {{ path /expensive }}
    default_backend app
backend app
    server one 127.0.0.1:{origin}
backend expensive
    timeout queue 1
    server one 127.0.0.1:{origin} maxconn 4
backend clients
    stick-table type ip size 200k expire 10s store http_req_rate(1s)
backend paths
    stick-table type string size 1k expire 10s store http_req_rate(1s)
"""

QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Proxy:
    """One that runs, with its ports. `admin` is tidegate's alone."""

    def __init__(self, kind, tidegate, folder, origin, workers, limits=False):
        self.kind = kind
        self.port, self.admin = free_port(), free_port()
        self.h2 = free_port() if kind == "nginx" else self.port
        template = {"tidegate": TIDEGATE, "nginx": NGINX, "haproxy": HAPROXY}[kind]
        config = os.path.join(folder, kind + ".conf")
        with open(config, "w") as file:
            file.write(template.format(workers=workers, dir=folder, port=self.port, h2=self.h2,
                                       admin=self.admin, origin=origin,
                                       limits=LIMITS[kind] if limits else ""))
        command = {"tidegate": [tidegate, "run", "-c", config], "nginx": ["nginx", "-c", config],
                   "haproxy": ["haproxy", "-f", config]}[kind]
        self.process = subprocess.Popen(command, **QUIET)
        self.ready()

    def ready(self):
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        sys.exit(self.kind + " does not start")

    def rss(self):
        """MiB of it and its children."""
        listing = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True)
        return sum(rss(pid) for pid in [self.process.pid, *map(int, listing.stdout.split())])

    def stop(self):
        self.process.terminate()
        self.process.wait()


def rss(pid):
    try:
        with open(f"/proc/{pid}/status") as file:
            fields = dict(line.split(":", 1) for line in file if ":" in line)
        return int(fields["VmRSS"].split()[0]) / 1024
    except (OSError, KeyError):
        return 0
