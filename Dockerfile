# The controller as an image: no emulator, no compiler, no root.
FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements/production.txt requirements/
RUN python -m venv /opt/canary \
    && /opt/canary/bin/pip install --no-cache-dir --require-hashes -r requirements/production.txt
COPY pyproject.toml README.md LICENSE ./
COPY controller controller
# The emulator is an extra of its own and not part of production.
RUN rm -rf controller/emulator \
    && python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir hatchling \
    && /opt/build/bin/python -m hatchling build -t wheel -d /dist \
    && /opt/canary/bin/pip install --no-cache-dir --no-deps /dist/*.whl \
    && /opt/canary/bin/python -m compileall -q /opt/canary

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home canary
COPY --from=build /opt/canary /opt/canary
COPY policies /policies
ENV PATH=/opt/canary/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
# Exec form, so that SIGTERM reaches the process.
ENTRYPOINT ["canary"]
CMD ["--help"]
