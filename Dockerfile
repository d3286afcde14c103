FROM python:3.13-slim

WORKDIR /app
# What the service needs and nothing more: tests and measurements have a lock of their own.
COPY requirements-service.lock ./
RUN pip install --no-cache-dir --require-hashes --requirement requirements-service.lock \
    && useradd --system --no-create-home digest \
    && install --directory --owner=digest --mode=700 /data \
    && printf '#!/usr/local/bin/python\nfrom digest.cli import main\nmain()\n' > /usr/local/bin/digest \
    && chmod 755 /usr/local/bin/digest
COPY . .

USER digest
ENV DIGEST_DATA_DIR=/data PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 8000
# Whoever has DIGEST_PROBE_PORT answers there, else the pages do.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import os, urllib.request as web; port = int(os.environ.get('DIGEST_PROBE_PORT') or 0) or 8000; web.urlopen(f'http://127.0.0.1:{port}/readyz', timeout=4)"]
CMD ["python", "scheduler.py"]
