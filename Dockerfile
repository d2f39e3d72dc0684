# The controller as an image: no emulator, no compiler, no pip, no root.
#
#   docker build -t canary .
#
# The base is pinned by the digest of its index, so that every build begins with the same bytes on each kind of
# machine. Newer ones are found by: docker buildx imagetools inspect python:3.13-slim-trixie
ARG BASE=python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

FROM ${BASE} AS build
WORKDIR /src
COPY requirements/production.txt requirements/build.txt requirements/
# Wheels only, each with its hash. The base's pip installs, so that none gets into the image.
RUN python -m venv --without-pip /opt/canary \
    && python -m pip --python /opt/canary/bin/python install --no-cache-dir --only-binary :all: \
        --require-hashes -r requirements/production.txt
RUN python -m venv --without-pip /opt/build \
    && python -m pip --python /opt/build/bin/python install --no-cache-dir --only-binary :all: \
        --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY controller controller
# The local Cloud Run is an extra, for other machines than this.
RUN rm -rf controller/emulator \
    && /opt/build/bin/python -m hatchling build -t wheel -d /dist \
    && python -m pip --python /opt/canary/bin/python install --no-cache-dir --no-index --no-deps /dist/*.whl

FROM ${BASE}
COPY --from=build /opt/canary /opt/canary
COPY policies /policies
ENV PATH=/opt/canary/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# A number, so that a platform sees that it is not root. It owns nothing in the image.
USER 10001:10001
# Says that the image is whole. Whether a loop does its work is asked of it: `canary run --health-port 8080`
# answers GET /healthz. Cloud Run reads no HEALTHCHECK; give it /healthz as liveness probe.
HEALTHCHECK --interval=5m CMD ["canary", "--version"]
# Exec form: canary is process 1, and SIGTERM reaches it.
ENTRYPOINT ["canary"]
CMD ["--help"]
