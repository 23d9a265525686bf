#!/bin/sh
# Builds a target of the Dockerfile from nothing, and says how long it took and how large it is:
#   benchmarks/image.sh cpu|gpu [arguments of docker build]
set -eu
cd "$(dirname "$0")/.."
target=$1
shift
begin=$(date +%s)
DOCKER_BUILDKIT=1 docker build --quiet --no-cache --target "$target" --tag "segmentation-pipeline:$target" "$@" .
seconds=$(($(date +%s) - begin))
bytes=$(docker image inspect --format '{{.Size}}' "segmentation-pipeline:$target")
echo "$target: $((bytes / 1000000)) MB, built in $seconds s on $(nproc) cores"
