# The program with the versions that were tested; see compose.yaml.
FROM python:3.11-slim

WORKDIR /app
RUN pip install --no-cache-dir uv==0.13.9
COPY requirements.lock setup.cfg pyproject.toml README.md LICENSE NOTICE ./
# CUDA is 5 of the 7 GB. TORCH=cpu takes PyTorch's build without it. TORCH=none leaves torch out, too: such an image
# serves, and rebuilds with an encoder that was exported before.
ARG TORCH=cuda
RUN if [ "$TORCH" = cuda ]; then cp requirements.lock chosen.lock; else \
        awk '/^[a-z]/ { chosen = !/^(torch|triton|nvidia-|cuda-)/ } chosen' requirements.lock > chosen.lock; fi && \
    uv pip install --system --no-cache --no-deps --require-hashes -r chosen.lock && \
    if [ "$TORCH" = cpu ]; then uv pip install --system --no-cache --torch-backend cpu \
        "$(grep -oE '^torch==[0-9.]+' requirements.lock)"; fi
COPY . .
RUN uv pip install --system --no-cache --no-deps .
WORKDIR /index
ENTRYPOINT ["shelfwise"]
