# Build the wheel, then install it alone: no source, no compiler, no root.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY forecaster ./forecaster
COPY scaler ./scaler
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim
COPY --from=build /wheels /wheels
# libgomp: scikit-learn's threads. psycopg: the store may be PostgreSQL. gRPC: KEDA may ask.
RUN apt-get update \
 && apt-get install --no-install-recommends -y libgomp1 \
 && rm -rf /var/lib/apt/lists/* \
 && pip install --no-cache-dir "$(ls /wheels/headstart-*.whl)[postgres,keda]" \
 && rm -rf /wheels \
 && useradd --uid 10001 --no-create-home headstart \
 && mkdir -p /data /policies /cache \
 && chown headstart /data /cache
USER 10001
WORKDIR /data
ENV HEADSTART_HTTP=0.0.0.0:8080 \
    HEADSTART_STORE=sqlite:////data/headstart.db \
    HEADSTART_POLICIES=/policies \
    NUMBA_CACHE_DIR=/cache \
    OMP_NUM_THREADS=1 \
    PYTHONUNBUFFERED=1
EXPOSE 8080 8081
VOLUME ["/data"]
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["headstart"]
CMD ["run"]
