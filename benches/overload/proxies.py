"""The arms: what each proxy is told."""

import os
import socket
import subprocess
import sys
import time

from pool import QUIET, free_port

TIDEGATE = """
[runtime]
watch = false
state_dir = "{dir}/state"
[admin]
listen = "127.0.0.1:{admin}"
[[listener]]
name = "http"
address = "127.0.0.1:{port}"
trusted_proxies = ["127.0.0.1"]
[[route]]
path = "/critical"
service = "app"
priority = "critical"
[[route]]
path = "/normal"
service = "app"
[[route]]
path = "/sheddable"
service = "app"
priority = "sheddable"
[service.app]
slow_start = "0s"
[service.app.health]
kind = "tcp"
interval = "1s"
{backends}
"""

HAPROXY = """
global
    nbthread 2
    maxconn 4000
defaults
    mode http
    timeout client 10s
    timeout connect 1s
    timeout server 10s
    timeout queue 100ms
    option redispatch 1
    retries 2
frontend front
    bind 127.0.0.1:{port}
    default_backend app
backend app
    balance leastconn
    http-reuse always
{backends}
"""

NGINX = """
daemon off;
worker_processes 2;
pid {dir}/nginx.pid;
error_log /dev/null;
events {{ worker_connections 4000; }}
http {{
    access_log off;
    client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir}; uwsgi_temp_path {dir};
    scgi_temp_path {dir};
    limit_req_zone $server_name zone=rate:1m rate={rate}r/s;
    limit_conn_zone $server_name zone=places:1m;
    upstream app {{ zone app 256k; least_conn; {backends} keepalive 64; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            limit_req zone=rate burst=28 nodelay;
            limit_conn places {places};
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""

ARMS = {
    "tidegate": (TIDEGATE, '[[service.app.backend]]\naddress = "127.0.0.1:{port}"\n'),
    "haproxy": (HAPROXY, "    server s{port} 127.0.0.1:{port} maxconn 2 check inter 1s\n"),
    "nginx": (NGINX, "server 127.0.0.1:{port} max_conns=2 max_fails=1 fail_timeout=1s;\n"),
}


class Proxy:
    """One that runs."""

    def __init__(self, kind, tidegate, folder, ports, capacity):
        self.port, self.admin = free_port(), free_port()
        template, backend = ARMS[kind]
        config = os.path.join(folder, kind + ".conf")
        with open(config, "w") as file:
            file.write(template.format(
                dir=folder, port=self.port, admin=self.admin, rate=round(capacity), places=2 * len(ports),
                backends="".join(backend.format(port=port) for port in ports)))
        command = {"tidegate": [tidegate, "run", "-c", config], "nginx": ["nginx", "-c", config],
                   "haproxy": ["haproxy", "-f", config]}[kind]
        self.process = subprocess.Popen(command, **QUIET)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        sys.exit(kind + " does not start")

    def stop(self):
        self.process.terminate()
        self.process.wait()
