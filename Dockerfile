# The program with the versions that were tested; see compose.yaml.
FROM python:3.11-slim

WORKDIR /app
RUN pip install --no-cache-dir uv==0.13.9
# CUDA is 5 of the 7 GB. EXTRAS=elasticsearch,mcp leaves out what only training and the export of encoders need: such an
# image serves, and rebuilds with the encoder of its index.
ARG EXTRAS=train,elasticsearch,mcp
COPY . .
RUN --mount=type=cache,target=/root/.cache/uv uv pip install --system --constraints requirements.lock ".[$EXTRAS]"
WORKDIR /index
ENTRYPOINT ["shelfwise"]
