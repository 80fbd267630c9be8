# The program with the versions that were tested; see compose.yaml.
FROM python:3.11-slim

WORKDIR /app
RUN pip install --no-cache-dir uv==0.13.9
COPY requirements.lock setup.cfg pyproject.toml README.md LICENSE ./
RUN uv pip install --system --no-cache --require-hashes -r requirements.lock
COPY . .
RUN uv pip install --system --no-cache --no-deps .
WORKDIR /index
ENTRYPOINT ["shelfwise"]
