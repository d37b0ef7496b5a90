# One image for the processes that serve, one (target `adapter`) that also trains, one (`console`) for those who look.
# Commands are those used by hand.
FROM python:3.12-slim AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY envs envs
COPY agents agents
COPY online online
COPY service service
RUN groupadd --system --gid 10001 trimtab && useradd --system --uid 10001 --gid trimtab --home-dir /data trimtab && install -d -o trimtab -g trimtab -m 0700 /data /data/archive

FROM base AS adapter
# `--build-arg PIP_FLAGS=..` is passed to pip, for a mirror or for PyTorch's CPU wheels.
ARG PIP_FLAGS=""
RUN pip install $PIP_FLAGS -c constraints.txt '.[train]'
USER trimtab
WORKDIR /data
ENTRYPOINT ["trimtab"]
CMD ["adapter"]

FROM base AS console
ARG PIP_FLAGS=""
RUN pip install $PIP_FLAGS -c constraints.txt '.[console]'
USER trimtab
WORKDIR /data
ENTRYPOINT ["trimtab"]
CMD ["console"]

FROM base AS serve
ARG PIP_FLAGS=""
RUN pip install $PIP_FLAGS -c constraints.txt .
USER trimtab
WORKDIR /data
ENTRYPOINT ["trimtab"]
CMD ["api"]
