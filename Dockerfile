# docker build -t todo .
# docker run --rm --env-file .env todo todo migrate      (a release step: once, before the new version serves)
# docker run -p 8000:8000 --env-file .env todo

# The digest is that of python:3.13-slim in 2026-09 (3.13.15 on Debian trixie): a build gets these bytes or fails. To
# renew it, put here what `docker buildx imagetools inspect python:3.13-slim` shows.
ARG PYTHON=python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

FROM ${PYTHON} AS build
# The packages that requirements.txt pins, with the hash of each file: the build fails if a registry serves another one.
COPY requirements-image.txt deploy/install.py ./
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements-image.txt \
    && /venv/bin/pip uninstall --yes pip \
    && /venv/bin/python install.py

FROM ${PYTHON}
# Nothing is installed after this.
RUN python -m pip uninstall --yes pip \
    && useradd --system --uid 10001 --no-create-home todo
COPY --from=build /venv /venv
WORKDIR /srv/todo
COPY LICENSE NOTICES.md boot.py config.py granian.conf.py gunicorn.conf.py wsgi.py ./
COPY migrations migrations
COPY todo todo
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    FLASK_APP=wsgi \
    ENVIRONMENT=production \
    HOST=0.0.0.0 \
    PORT=8000
USER 10001
EXPOSE 8000
# The exec form, because nothing in the image needs a shell; and no proxy, whatever the environment says.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import os; from http.client import HTTPConnection as C; c = C('127.0.0.1', int(os.environ['PORT'])); c.request('GET', '/health'); exit(c.getresponse().status != 200)"]
CMD ["todo", "serve"]
