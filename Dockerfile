# A server of models on the CPU: headway serve, without a network, as a user without rights.
#
#   docker build --tag headway .
#   docker run --rm --publish 127.0.0.1:8000:8000 --env HEADWAY_KEY --volume ./my-model:/models/my-model:ro \
#     headway serve /models/my-model --host 0.0.0.0 --port 8000

ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/headway
ENV PATH=/opt/headway/bin:$PATH
# A layer of its own: torch is the largest package and changes seldom. Its default build has the libraries of CUDA.
RUN pip install --index-url "$TORCH_INDEX" "torch>=2.10,<2.14"
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY core core
COPY tasks tasks
COPY ui ui
RUN pip install ".[serve]"

FROM python:${PYTHON}-slim
RUN useradd --uid 10001 --create-home headway
COPY --from=build /opt/headway /opt/headway
ENV PATH=/opt/headway/bin:$PATH HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
USER headway
WORKDIR /home/headway
EXPOSE 8000
# /health needs no key. The models are opened before the server listens.
HEALTHCHECK --interval=30s --timeout=5s --start-period=2m --start-interval=2s \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["headway"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
