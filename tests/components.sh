# Programs that tests and benches run as peers: sourced by tests/run and .ci/run.
#
#   components PROGRAM:PACKAGE...
#
# A program called python/MODULE is a module of Debian's python3, pypi/MODULE one from PyPI, which gets an
# environment of its own in target/python.
#
# installs what is missing where that is allowed (root and apt), and says what still is missing.
# TIDEGATE_INSTALL=no installs nothing.

have() {
    case $1 in
    pypi/*) target/python/bin/python -c "import ${1#pypi/}" 2>/dev/null ;;
    python/*) /usr/bin/python3 -c "import ${1#python/}" 2>/dev/null ;;
    *) PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null ;;
    esac
}

components() {
    local component packages=() policy=/usr/sbin/policy-rc.d made_policy='' log
    for component in "$@"; do
        case $component in
        pypi/*) have "${component%%:*}" || from_pypi "${component##*:}" ;;
        *) have "${component%%:*}" || packages+=("${component##*:}") ;;
        esac
    done
    if [ ${#packages[@]} -gt 0 ] && [ "${TIDEGATE_INSTALL:-yes}" = yes ] && [ "$(id -u)" = 0 ] && have apt-get; then
        echo "installing ${packages[*]}"
        # nginx must not start: tests run their own.
        [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy; chmod +x $policy; made_policy=yes; }
        log=$(mktemp)
        { DEBIAN_FRONTEND=noninteractive timeout 300 apt-get update -q &&
            DEBIAN_FRONTEND=noninteractive timeout 300 apt-get install -y -q --no-install-recommends "${packages[@]}"; } \
            </dev/null >"$log" 2>&1 || { tail -n 5 "$log"; echo "could not install them"; }
        rm -f "$log"
        [ -z "$made_policy" ] || rm -f $policy
    fi
    for component in "$@"; do
        have "${component%%:*}" || echo "missing: ${component%%:*}; what needs it is skipped"
    done
}

from_pypi() {
    [ "${TIDEGATE_INSTALL:-yes}" = yes ] || return 0
    echo "installing $1 from PyPI"
    { [ -x target/python/bin/python ] || python3 -m venv target/python; } &&
        timeout 300 target/python/bin/pip install --quiet --disable-pip-version-check "$1" ||
        echo "could not install it"
}
