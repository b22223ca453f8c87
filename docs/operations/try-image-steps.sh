#!/usr/bin/env bash
# Runs the Dockerfile's steps without a container engine: the files that the image would hold, as another user, code
# read-only, production settings. VENV names an environment with requirements.txt installed (CI passes its own),
# with npm on the PATH or in it.
set -euo pipefail
cd "$(dirname "$0")/../.."
VENV="$(realpath "${VENV:?set VENV to an environment with requirements.txt}")"
python="$VENV/bin/python"
user=nobody
work="$(mktemp -d)"
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$work"' EXIT

# What .dockerignore leaves in.
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
  echo "only $user can start $python: run as $user, not shown as another user" >&2
fi

(cd "$work/app" && PATH="$PATH:$VENV/bin" npm ci --loglevel=error)
run "$python" manage.py collectstatic --no-input --verbosity 0
chmod -R a+rX,a-w "$work/app"
[ "$(id -u)" != 0 ] || chown -R "$user" "$work/data"
run "${as_user[@]}" "$python" manage.py migrate --no-input --verbosity 0
# Not by the function: the process to end must be the server itself.
(cd "$work/app" && exec env -i "${environment[@]}" "${as_user[@]}" "$python" -m gunicorn -c python:histopath.gunicorn histopath.wsgi) &
server=$!
# As the HEALTHCHECK asks: by address, which ALLOWED_HOSTS does not name.
for _ in $(seq 100); do
  if "$python" -c "from urllib.request import urlopen as o; o('http://127.0.0.1:$port/health/live')" 2>/dev/null; then
    echo "the image's steps work as $user, code read-only"; exit 0
  fi
  sleep 0.2
done
echo "the web server did not answer" >&2; exit 1
