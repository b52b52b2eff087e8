# The image of all services of Halosign; docker-compose.yml has the command of each.
FROM python:3.11.15-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/halosign
ENV PATH=/opt/halosign/bin:$PATH
WORKDIR /src
# Dependencies change less often than the code, so they are a layer of their own.
COPY pyproject.toml constraints.txt ./
# Where torch comes from decides whether the image has gigabytes of CUDA, which only training needs.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-deps -c constraints.txt --index-url "$TORCH_INDEX" torch
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > needed.txt \
    && pip install -c constraints.txt -r needed.txt
COPY . .
RUN pip install --no-deps .
# Numeric kernels, for the model of processor that builds the image; others compile for themselves.
RUN cd / && python -m matting.compile

FROM python:3.11.15-slim-bookworm
# A new volume gets the owner of the folder that it is mounted on.
RUN useradd --uid 10001 --create-home halosign \
    && install -d -o halosign -g halosign /data /reviewers /var/lib/prefect
COPY --from=build /opt/halosign /opt/halosign
ENV PATH=/opt/halosign/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /app
COPY prefect.yaml .
USER 10001
CMD ["halosign", "--help"]
