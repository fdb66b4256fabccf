#!/bin/sh
# Makes the development CA and the localhost pair again. Needs openssl 1.1.1 or later.
# Usage: certs/make.sh   (writes beside itself)
set -eu
cd "$(dirname "$0")"
days=3650

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 -days "$days" \
    -subj "/CN=tidegate development CA" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -keyout ca.key -out ca.pem

openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
    -subj "/CN=localhost" -keyout localhost.key -out localhost.csr

extensions=$(mktemp)
trap 'rm -f "$extensions" localhost.csr' EXIT
cat > "$extensions" <<END
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, DNS:*.localhost, IP:127.0.0.1, IP:::1
END
openssl x509 -req -in localhost.csr -CA ca.pem -CAkey ca.key -CAcreateserial -sha256 \
    -days "$days" -extfile "$extensions" -out localhost.pem
rm -f ca.srl
