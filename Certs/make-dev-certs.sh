#!/bin/sh
# Makes a development CA, a server certificate and client certificates. See README.md beside this file.
#
#   make-dev-certs.sh [OUTDIR]                               what is missing or has expired
#   make-dev-certs.sh [OUTDIR] --client NAME UUID [UUID...]  the same, and a client for those tenants
set -eu
umask 077

trust_domain=martlet.dev
default_tenant=11111111-1111-4111-8111-111111111111
ca_days=1825
leaf_days=365
renew_within_seconds=86400

usage() {
    sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

fail() {
    echo "make-dev-certs: $1" >&2
    exit 1
}

out=$(cd "$(dirname "$0")" && pwd)/dev
if [ $# -gt 0 ]; then
    case $1 in
    -h | --help) usage ;;
    --*) ;;
    *)
        out=$1
        shift
        ;;
    esac
fi
client_name=
if [ $# -gt 0 ]; then
    [ "$1" = --client ] && [ $# -ge 3 ] || usage
    client_name=$2
    shift 2
    case $client_name in
    '' | ca | server | *[!A-Za-z0-9_-]*) fail "a client's name is letters, digits, _ and -, and not ca or server" ;;
    esac
fi
command -v openssl >/dev/null || fail "the openssl command is missing: apt-get install openssl"

mkdir -p "$out"
work=$(mktemp -d "$out/.make.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# quietly COMMAND...: what openssl chats about is shown only when it fails.
quietly() {
    "$@" 2>"$work/log" || {
        cat "$work/log" >&2
        fail "failed: $*"
    }
}

# current NAME: the certificate and its key exist, last another day, and come from this CA.
current() {
    [ -s "$out/$1.pem" ] && [ -s "$out/$1.key" ] &&
        openssl x509 -in "$out/$1.pem" -noout -checkend "$renew_within_seconds" >/dev/null 2>&1 &&
        openssl verify -CAfile "$out/ca.pem" "$out/$1.pem" >/dev/null 2>&1
}

new_key() {
    quietly openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$work/$1.key"
}

# publish NAME: the key goes first, so that a certificate never stands there without its key.
publish() {
    chmod 0600 "$work/$1.key"
    chmod 0644 "$work/$1.pem"
    mv "$work/$1.key" "$out/$1.key"
    mv "$work/$1.pem" "$out/$1.pem"
    echo "made $out/$1.pem"
}

# leaf NAME COMMON_NAME USAGE SAN: a key and a certificate signed by the CA.
leaf() {
    new_key "$1"
    cat >"$work/$1.ext" <<EXT
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = $3
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = $4
EXT
    quietly openssl req -new -key "$work/$1.key" -subj "/O=Martlet development/CN=$2" -out "$work/$1.csr"
    # A serial of our own: openssl's serial file would be one more thing for two runs at once to fight over.
    quietly openssl x509 -req -in "$work/$1.csr" -CA "$out/ca.pem" -CAkey "$out/ca.key" \
        -set_serial "0x$(openssl rand -hex 16)" -days "$leaf_days" -sha256 -extfile "$work/$1.ext" -out "$work/$1.pem"
    publish "$1"
}

# client NAME UUID...: one URI per tenant.
client() {
    name=$1
    shift
    san=
    for tenant; do
        tenant=$(printf %s "$tenant" | tr A-F a-f)
        printf %s "$tenant" | grep -Eqx '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}' || fail "not a UUID: $tenant"
        san="$san${san:+,}URI:spiffe://$trust_domain/tenant/$tenant"
    done
    leaf "$name" "$name" clientAuth "$san"
}

if ! current ca; then
    new_key ca
    quietly openssl req -x509 -new -key "$work/ca.key" -sha256 -days "$ca_days" \
        -subj "/O=Martlet development/CN=Martlet development CA $(openssl rand -hex 4)" \
        -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign" \
        -out "$work/ca.pem"
    publish ca
fi
current server || leaf server localhost serverAuth "DNS:localhost,IP:127.0.0.1,IP:::1"
if [ "$client_name" != client ] && ! current client; then
    client client "$default_tenant"
fi
[ -z "$client_name" ] || client "$client_name" "$@"
