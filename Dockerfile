# syntax=docker/dockerfile:1
# One image for the web server (default command) and the worker (manage.py qcluster).

FROM node:24-slim AS scripts
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci

FROM python:3.11-slim-bookworm AS build
WORKDIR /app
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.txt .
# The CPU builds of torch (version suffix "+cpu") have a tenth of the size of the CUDA builds.
RUN sed -E 's/^(torch|torchvision)==(.*)$/\1==\2+cpu/' requirements.txt > cpu.txt \
    && pip install --extra-index-url https://download.pytorch.org/whl/cpu -r cpu.txt
COPY . .
COPY --from=scripts /app/node_modules node_modules
RUN SECRET_KEY=only-for-collecting-static-files-at-build-time-0 VAR_DIR=/tmp/var \
    python manage.py collectstatic --no-input

FROM python:3.11-slim-bookworm
# Libraries and fonts for PDF reports, and pg_dump for backups.
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends \
       fonts-dejavu-core libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 postgresql-client \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --home-dir /data histopath \
    && mkdir /data && chown histopath /data
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 VAR_DIR=/data
USER histopath
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD \
    ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ.get('PORT', '8000')}/health/live\")"]
CMD ["gunicorn", "-c", "python:histopath.gunicorn", "histopath.wsgi"]
