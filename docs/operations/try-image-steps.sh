#!/usr/bin/env bash
# Runs the steps of the Dockerfile without a container engine: with the files of the image, as another user, with
# read-only code and production settings. VENV is a virtual environment with requirements.txt installed, and npm is
# on the PATH or in VENV.
set -euo pipefail
cd "$(dirname "$0")/../.."
VENV="$(realpath "${VENV:?set VENV to an environment with requirements.txt}")"
python="$VENV/bin/python"
user=nobody
work="$(mktemp -d)"
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$work"' EXIT

# The files that .dockerignore does not exclude.
mkdir -p "$work/app" "$work/data"
git archive HEAD | tar -x -C "$work/app" --exclude-from=<(sed 's|^\*\*/||' .dockerignore)
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
environment=(
  SECRET_KEY="$("$python" -c 'import secrets; print(secrets.token_urlsafe(50))')"
  ALLOWED_HOSTS=localhost VAR_DIR="$work/data" STATIC_ROOT="$work/app/staticfiles" PORT="$port" HOST=127.0.0.1
  PYTHONDONTWRITEBYTECODE=1 PATH="$PATH"
)
run() { (cd "$work/app" && exec env -i "${environment[@]}" "$@"); }
as_user=()
if [ "$(id -u)" = 0 ] && runuser -u "$user" -- "$python" -c '' 2>/dev/null; then
  as_user=(runuser -u "$user" --)
  chmod 755 "$work"
else
  user="$(id -un)"
  echo "Only $user can start $python, so the steps run as $user instead of another user." >&2
fi

(cd "$work/app" && PATH="$PATH:$VENV/bin" npm ci --loglevel=error)
run "$python" manage.py collectstatic --no-input --verbosity 0
chmod -R a+rX,a-w "$work/app"
[ "$(id -u)" != 0 ] || chown -R "$user" "$work/data"
run "${as_user[@]}" "$python" manage.py migrate --no-input --verbosity 0
# Not with run(), because $! must be the process id of the server itself.
(cd "$work/app" && exec env -i "${environment[@]}" "${as_user[@]}" "$python" -m gunicorn -c python:histopath.gunicorn histopath.wsgi) &
server=$!
# Like the HEALTHCHECK, uses the IP address, which is not in ALLOWED_HOSTS.
for _ in $(seq 100); do
  if "$python" -c "from urllib.request import urlopen as o; o('http://127.0.0.1:$port/health/live')" 2>/dev/null; then
    echo "The image's steps work as $user with read-only code."; exit 0
  fi
  sleep 0.2
done
echo "The web server did not respond." >&2; exit 1
