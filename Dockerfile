# The server with every source, for a GPU or, if there is none, the CPU.
#   docker build -t thingsvision-service .
# For the users of this machine, all of whom may do everything:
#   docker run --gpus all -p 127.0.0.1:50051:50051 -e THINGSVISION_INSECURE=true \
#       -v thingsvision-weights:/weights thingsvision-service
# For other machines, with tokens and TLS (files of user 10001 in the folder access):
#   docker run --gpus all -p 50051:50051 -v ./access:/access -e THINGSVISION_TOKENS=/access/tokens.json \
#       -e THINGSVISION_TLS_CERT=/access/server.pem -e THINGSVISION_TLS_KEY=/access/server.key \
#       -v thingsvision-weights:/weights thingsvision-service

FROM ubuntu:24.04 AS builder
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
# hadolint ignore=DL3013
RUN python3 -m venv /opt/uv \
    && /opt/uv/bin/pip install --no-cache-dir uv \
    && python3 -m venv --without-pip /opt/thingsvision
WORKDIR /src
# Bytecode is compiled here: the container's user can't write it, and would compile at each start.
# TensorFlow's CUDA libraries would overwrite torch's, so it gets its own environment and process.
RUN python3 -m venv --without-pip /opt/tensorflow \
    && /opt/uv/bin/uv pip install --no-cache --compile-bytecode --python /opt/tensorflow/bin/python \
        "tensorflow[and-cuda]>=2.21,<2.22" "tf-keras>=2.21,<2.22"
# The libraries come before the code, so that changing the code doesn't download them again.
# onnxruntime-gpu takes the place of onnxruntime; from 1.27 on it is for CUDA 13, as torch is, and
# resolved together with torch both use the same libraries.
COPY pyproject.toml ./
RUN echo "onnxruntime-gpu[cuda,cudnn]>=1.31,<2" > /tmp/gpu.in \
    && /opt/uv/bin/uv pip compile --quiet --extra server \
        --no-emit-package tensorflow --no-emit-package onnxruntime \
        --output-file /tmp/requirements.txt pyproject.toml /tmp/gpu.in \
    && /opt/uv/bin/uv pip install --no-cache --compile-bytecode --no-deps --python /opt/thingsvision/bin/python --requirement /tmp/requirements.txt
COPY README.md LICENSE ./
COPY proto proto
COPY client client
COPY server server
RUN /opt/uv/bin/uv build --wheel --out-dir /tmp/wheel \
    && /opt/uv/bin/uv pip install --no-cache --compile-bytecode --no-deps --python /opt/thingsvision/bin/python /tmp/wheel/*.whl

# torch's wheels contain the CUDA libraries; the base image declares the driver that they need.
FROM nvidia/cuda:13.0.2-base-ubuntu24.04
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home thingsvision \
    && install --directory --owner thingsvision --group thingsvision /weights
COPY --from=builder /opt/tensorflow /opt/tensorflow
COPY --from=builder /opt/thingsvision /opt/thingsvision
COPY deploy/healthcheck.py /opt/thingsvision/healthcheck.py
ENV PATH="/opt/thingsvision/bin:$PATH" \
    PYTHONUNBUFFERED=1 \
    THINGSVISION_HOST=0.0.0.0 \
    THINGSVISION_TENSORFLOW_PYTHON=/opt/tensorflow/bin/python \
    THINGSVISION_WEIGHTS_DIR=/weights
USER 10001
WORKDIR /home/thingsvision
VOLUME /weights
EXPOSE 50051 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "/opt/thingsvision/healthcheck.py"]
ENTRYPOINT ["thingsvision-server"]
